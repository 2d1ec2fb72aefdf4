package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/app"
)

// window is one limit of the benchmark's users.
type window struct {
	name   string
	limit  int64
	period time.Duration
}

// userWindows are the three windows of a user. Their limits are within what is kept hit by hit, and larger than what a
// run asks for.
var userWindows = []window{ //nolint:gochecknoglobals // a constant
	{"minute", 2000, time.Minute},
	{"hour", 3000, time.Hour},
	{"day", 4096, day},
}

// policyText writes a policy with these limits for each user, and a global window that never denies.
func policyText(limits []string) string {
	return fmt.Sprintf(`domain: %s
subjects:
  user: {key: user_id, default_plan: default}
plans:
  default: {limits: [%s]}
global: {limits: [%d/hour]}
`, domain, strings.Join(limits, ", "), roomy)
}

// roomyLimits never deny in a run.
func roomyLimits() []string {
	limits := make([]string, len(userWindows))
	for i, w := range userWindows {
		limits[i] = fmt.Sprintf("%d/%s", w.limit, w.name)
	}

	return limits
}

// sweepsToDeny is how many calls of a user its tight limits let through.
const sweepsToDeny = 3

// tightLimits keep a user denied for a day after a few calls.
func tightLimits() []string {
	limits := make([]string, len(userWindows))
	for i, w := range userWindows {
		limits[i] = fmt.Sprintf("%d/%s", sweepsToDeny, w.name)
	}

	return limits
}

// buildDaemon builds cmd/ratelimitd into dir as make build does, and returns the binary's path.
func buildDaemon(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "ratelimitd")
	cmd := exec.CommandContext( //nolint:gosec // the only variable is a path of our own
		ctx, "go", "build", "-trimpath", "-o", path, "github.com/ratelimitd/ratelimitd/cmd/ratelimitd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")

	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the daemon: %w:\n%s", err, said)
	}

	return path, nil
}

// build builds the daemon once, unless this program is to be it.
func (b *bench) build(ctx context.Context) error {
	if b.daemon != "" || b.opt.profile != "" {
		return nil
	}

	b.say("building ratelimitd")

	path, err := buildDaemon(ctx, b.dir)
	b.daemon = path

	return err
}

// startDaemon starts ratelimitd with a policy, on a Redis or, if that is nil, on memory.
func (b *bench) startDaemon(
	ctx context.Context, name, rules string, timeout time.Duration, server *redisServer,
) (*contender, error) {
	if err := b.build(ctx); err != nil {
		return nil, err
	}

	policy := filepath.Join(b.dir, name+".yaml")
	if err := os.WriteFile(policy, []byte(rules), 0o600); err != nil {
		return nil, fmt.Errorf("write the policy of %s: %w", name, err)
	}

	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}

	http, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}

	j := &daemonJob{Policy: policy, GRPC: addr, HTTP: http, Timeout: timeout}
	if server != nil {
		j.Redis = server.addr
	}

	path, args, env := b.daemon, j.args(), j.env()
	if b.opt.profile != "" {
		j.Profile = filepath.Join(b.opt.profile, name+".pprof")

		work, err := json.Marshal(j)
		if err != nil {
			return nil, fmt.Errorf("write the job of %s: %w", name, err)
		}

		path, args, env = b.self, []string{"-role", roleDaemon, "-job", string(work)}, nil
	}

	p, err := start(ctx, name, http, env, path, args...)
	if err != nil {
		return nil, err
	}

	return &contender{name: name, addr: addr, http: http, server: p, redis: server}, nil
}

// args are the job as ratelimitd's own command line.
func (j *daemonJob) args() []string {
	kind := app.StoreMemory
	if j.Redis != "" {
		kind = app.StoreRedis
	}

	return []string{
		"serve", "--policy", j.Policy, "--store", string(kind), "--grpc-addr", j.GRPC, "--http-addr", j.HTTP,
		"--decision-timeout", j.Timeout.String(),
	}
}

// env is what ratelimitd reads from its environment only.
func (j *daemonJob) env() []string {
	if j.Redis == "" {
		return nil
	}

	return []string{"REDIS_ADDRS=" + j.Redis}
}
