package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
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
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "github.com/ratelimitd/ratelimitd/cmd/ratelimitd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")

	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the daemon: %w:\n%s", err, said)
	}

	return path, nil
}

// startDaemon starts ratelimitd with a policy, on a Redis or, if that is nil, on memory.
func (b *bench) startDaemon(ctx context.Context, name string, limits []string, server *redisServer) (*contender, error) {
	policy := filepath.Join(b.dir, name+".yaml")
	if err := os.WriteFile(policy, []byte(policyText(limits)), 0o600); err != nil {
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

	var env []string

	args := []string{
		"serve", "--policy", policy, "--grpc-addr", addr, "--http-addr", http,
		"--decision-timeout", b.opt.timeout.String(), "--store", "memory",
	}
	if server != nil {
		args[len(args)-1] = "redis"
		env = append(env, "REDIS_ADDRS="+server.addr)
	}

	path := b.daemon
	if b.opt.profile != "" {
		path = b.self
		args = append([]string{"-role", roleDaemon, "-profile", filepath.Join(b.opt.profile, name+".pprof"), "--"}, args...)
	}

	p, err := start(ctx, name, http, env, path, args...)
	if err != nil {
		return nil, err
	}

	return &contender{name: name, addr: addr, http: http, server: p, redis: server}, nil
}
