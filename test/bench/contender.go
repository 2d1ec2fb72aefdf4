package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// contender is one server under load.
type contender struct {
	name   string
	expect verdict
	addr   string // gRPC
	http   string // HTTP, for its metrics; empty for the ceiling
	server *process
	redis  *redisServer // nil if it needs none
	serves []shape      // what it is loaded with
	books  *books       // of a contender that settles; nil for the others
}

// The names of the contenders.
const (
	ceilingName      = "ceiling"
	redisName        = "redis"
	memoryName       = "memory"
	redisDeniedName  = "redis-denied"
	memoryDeniedName = "memory-denied"
	classicName      = "classic"
)

// leg is one way to load a contender.
type leg struct {
	Shape shape `json:"shape"`
	Rate  int   `json:"rate"` // calls/s of an open loop; 0 for a closed loop
}

// String names the leg in the table.
func (l leg) String() string {
	if l.Rate > 0 {
		return fmt.Sprintf("%s, open %d/s", l.Shape, l.Rate)
	}

	return fmt.Sprintf("%s, closed", l.Shape)
}

// run is one contender under one leg in one round.
type run struct {
	Round     int    `json:"round"`
	Contender string `json:"contender"`
	Leg       leg    `json:"leg"`
	tally

	PerSecond float64 `json:"calls_per_second"`
	ServerCPU float64 `json:"server_us_per_call"`
	LoadCPU   float64 `json:"load_us_per_call"`
	RedisCPU  float64 `json:"redis_us_per_call"`
	Depth     float64 `json:"depth"`      // decisions per read of Redis, that is per pipeline
	PerScript float64 `json:"per_script"` // decisions per script call
	Conns     int64   `json:"redis_conns"`
	Stored    float64 `json:"stored"` // answers that the store gave
	Local     float64 `json:"local"`  // answers that were given from local memory
	FailOpens float64 `json:"fail_opens"`
	Errors    float64 `json:"store_errors"`      // that the daemon counted
	Others    float64 `json:"others"`            // share of the machine that went to work other than this run's
	Invalid   string  `json:"invalid,omitempty"` // why the run does not count; empty if it does
}

// measure loads a contender once.
func (b *bench) measure(ctx context.Context, c *contender, l leg, round int) (*run, error) {
	j := b.job(c, l)
	if b.opt.profile != "" {
		j.Profile = filepath.Join(b.opt.profile, fmt.Sprintf("load-%s-%s-%d.pprof", c.name, fileName(l.String()), round))
	}

	before, err := c.sample(ctx)
	if err != nil {
		return nil, err
	}

	idle, err := machineBusy()
	if err != nil {
		return nil, err
	}

	t, loadCPU, err := b.load(ctx, j)
	if err != nil {
		return nil, fmt.Errorf("%s, %v: %w", c.name, l, err)
	}

	worked, err := machineBusy()
	if err != nil {
		return nil, err
	}

	after, err := c.sample(ctx)
	if err != nil {
		return nil, err
	}

	r := &run{Round: round, Contender: c.name, Leg: l, tally: *t, PerSecond: t.callsPerSecond()}
	asked := float64(t.Asked)
	redis := after.redis.since(before.redis)
	r.ServerCPU = micros(after.server-before.server) / asked
	r.LoadCPU = micros(loadCPU) / asked
	r.Stored = after.stored - before.stored
	r.Local = after.local - before.local
	r.FailOpens = after.failOpens - before.failOpens
	r.Errors = after.errors - before.errors

	calls := r.Stored
	if l.Shape.ofCosts() {
		calls = asked // not all of them are decisions
	}

	if c.redis != nil && c.expect == admitted && calls > 0 {
		r.RedisCPU = micros(redis.cpu) / calls
		r.Depth = calls * l.Shape.trips() / float64(max(redis.reads, 1))
		r.PerScript = calls * l.Shape.trips() / float64(max(redis.scripts, 1))
		r.Conns = redis.clients - 1
	}

	if c.books != nil && l.Shape == pairShape {
		c.books.add(t)
	}

	r.Others = worked.others(idle, after.server-before.server+loadCPU+redis.cpu)
	r.Invalid = r.fault(c)

	return r, nil
}

// tolerated is the share of calls that may fail open in a run that still counts: on a machine that is saturated on
// purpose, the kernel may keep a process waiting for longer than the decision timeout.
const tolerated = 0.001

// fault says why a run does not count; empty if it does.
func (r *run) fault(c *contender) string {
	switch failed := int(r.FailOpens); {
	case r.Wrong > failed:
		return fmt.Sprintf("%d of %d answers were wrong, %d of them fail-opens; the first: %s", r.Wrong, r.Asked, failed, r.Sample)
	case r.FailOpens > tolerated*float64(r.Asked):
		return fmt.Sprintf("%d of %d answers were fail-opens", failed, r.Asked)
	case r.Leg.Shape.ofCosts() && r.Errors > 0:
		return fmt.Sprintf("the daemon counted %.0f store errors", r.Errors)
	case r.Leg.Shape == usageShape:
		return "" // decides nothing
	case c.http != "" && int(r.Stored+r.Local)+failed != r.Asked:
		return fmt.Sprintf("the daemon counted %.0f decisions for %d calls", r.Stored+r.Local+r.FailOpens, r.Asked)
	case c.expect == admitted && r.Local > 0:
		return fmt.Sprintf("%.0f of %d admissions were not the store's", r.Local, r.Asked)
	default:
		return ""
	}
}

// sample is where a contender stands at one moment.
type sample struct {
	server                   time.Duration
	redis                    usage
	stored, local, failOpens float64
	errors                   float64 // of the store
}

// sample reads CPU times and counters.
func (c *contender) sample(ctx context.Context) (sample, error) {
	var s sample

	var err error
	if s.server, err = c.server.cpu(); err != nil {
		return s, err
	}

	if c.redis != nil {
		if s.redis, err = c.redis.used(ctx); err != nil {
			return s, err
		}
	}

	if c.http == "" {
		return s, nil
	}

	counters, err := scrape(ctx, c.http)
	if err != nil {
		return s, err
	}

	s.stored = counters.sum("ratelimitd_decisions_total", `mode="enforced"`)
	s.local = counters.sum("ratelimitd_local_answers_total", "")
	s.stored -= s.local // which are enforced, too
	s.failOpens = counters.sum("ratelimitd_decisions_total", `mode="failed_`)
	s.errors = counters.sum("ratelimitd_store_errors_total", "")

	return s, nil
}

// job is the load of one leg.
func (b *bench) job(c *contender, l leg) *job {
	j := &job{
		Addr: c.addr, Shape: l.Shape, Expect: c.expect, Callers: b.opt.callers, Conns: b.opt.conns, Users: b.opt.users,
		Warmup: warmup, Length: b.opt.duration, Rate: l.Rate,
	}
	if l.Rate > 0 {
		j.Callers = openLoopCallers
	}

	if l.Shape == usageShape {
		j.Users = b.opt.costUsers
	}

	return j
}

// load runs a load generator process and returns its tally and its CPU time.
func (b *bench) load(ctx context.Context, j *job) (*tally, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, j.Warmup+j.Length+loadGrace)
	defer cancel()

	input, err := json.Marshal(j)
	if err != nil {
		return nil, 0, fmt.Errorf("write the job: %w", err)
	}

	var stdout, stderr bytes.Buffer

	cmd := exec.CommandContext(ctx, b.self, "-role", roleLoad) //nolint:gosec // this program
	cmd.Env = environment()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr

	if err := cmd.Run(); err != nil {
		return nil, 0, fmt.Errorf("load generator: %w: %s", err, &stderr)
	}

	t := new(tally)
	if err := json.Unmarshal(stdout.Bytes(), t); err != nil {
		return nil, 0, fmt.Errorf("read the load generator's tally: %w", err)
	}

	return t, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// environment is what children inherit: what they need to run, and the Go runtime's own settings. The daemon's settings
// are left out, so that no variable of the shell changes what is measured.
func environment() []string {
	var kept []string

	for _, setting := range os.Environ() {
		name, _, _ := strings.Cut(setting, "=")
		switch name {
		case "PATH", "HOME", "TMPDIR", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GODEBUG":
			kept = append(kept, setting)
		}
	}

	return kept
}

// micros is a duration in microseconds.
func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// fileName turns a leg's name into a part of a file name.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			return r
		default:
			return '-'
		}
	}, name)
}
