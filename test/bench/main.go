// Command bench measures ratelimitd against a bare server of the same gRPC stack, and its Redis work against a classic
// limiter, in one run: interleaved rounds, each figure as a ratio to the reference of its own round.
//
// Every server, every Redis and the load generator are processes of their own, so that all contenders share the machine
// in the same way. The load generator is the standard generated Go client.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// The roles that this program plays when it starts itself.
const (
	roleBench   = ""
	roleLoad    = "load"
	roleCeiling = "ceiling"
	roleDaemon  = "ratelimitd"
)

// defaultDepth is the classic's pipeline depth when ratelimitd's own is not measured.
const defaultDepth = 16

// options are the command line.
type options struct {
	role, addr, job string
	rounds          int
	duration        time.Duration
	callers, conns  int
	users, rate     int
	costUsers       int
	timeout         time.Duration
	costTimeout     time.Duration
	only, profile   string
	json            string
}

// parse reads the command line.
func parse(args []string) (*options, error) {
	o := new(options)
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.role, "role", roleBench, "internal: what this process is to another of its kind")
	flags.StringVar(&o.addr, "addr", "", "internal: where a server listens")
	flags.StringVar(&o.job, "job", "", "internal: what a process is asked to do")
	flags.IntVar(&o.rounds, "rounds", 5, "how often everything is measured")
	flags.DurationVar(&o.duration, "duration", 4*time.Second, "length of each measurement")
	flags.IntVar(&o.callers, "callers", 64, "callers of the closed loop")
	flags.IntVar(&o.conns, "conns", 2, "client connections")
	flags.IntVar(&o.users, "users", 10_000, "users, drawn evenly")
	flags.IntVar(&o.costUsers, "cost-users", 100_000, "users with spend in Redis, of whom GetUsage is asked")
	flags.IntVar(&o.rate, "rate", 3000, "calls per second of the open loop")
	flags.DurationVar(&o.timeout, "decision-timeout", 10*time.Millisecond, "ratelimitd's decision timeout")
	flags.DurationVar(&o.costTimeout, "cost-timeout", 50*time.Millisecond, "the same of the contenders that reserve and settle: "+
		"at saturation, calls wait in line, and none may fail")
	flags.StringVar(&o.only, "only", "", "comma-separated: redis, memory, redis-denied, memory-denied, classic; "+
		"cost-redis and cost-memory, which reserve and settle; empty for all (the ceiling is measured beside each)")
	flags.StringVar(&o.profile, "profile", "", "folder for CPU profiles of the ratelimitd and load generator processes")
	flags.StringVar(&o.json, "json", "", "file for all figures as JSON")

	if err := flags.Parse(args); err != nil {
		return nil, fmt.Errorf("command line: %w", err)
	}

	if flags.NArg() > 0 {
		return nil, fmt.Errorf("command line: unexpected %q", flags.Args())
	}

	if o.rounds < 1 || o.duration <= 0 || o.callers < 1 || o.conns < 1 || o.users < 1 || o.costUsers < 1 || o.rate < 1 ||
		o.timeout <= 0 || o.costTimeout <= 0 {
		return nil, errors.New("command line: numbers and times must be larger than zero")
	}

	return o, nil
}

// describe says what is measured.
func (o *options) describe() []string {
	return []string{
		fmt.Sprintf("closed loop: %d callers, %d connections; open loop: %d/s, latency from the intended start",
			o.callers, o.conns, o.rate),
		fmt.Sprintf("%d users; %d rounds of %v after %v of warm-up; decision timeout %v",
			o.users, o.rounds, o.duration, warmup, o.timeout),
		fmt.Sprintf("policy when admitted: user %v, global %d/hour", roomyLimits(), roomy),
		fmt.Sprintf("policy when denied: user %v (used up in the warm-up), global %d/hour", tightLimits(), roomy),
		fmt.Sprintf("policy when reserving: user %v, 4000000 USD/day; global %d/hour, 1000000 concurrent, 4000000 USD/day; "+
			"decision timeout %v", roomyLimits(), roomy, o.costTimeout),
		fmt.Sprintf("Redis before the first reservation: %d users have settled %d each in the last %v",
			o.costUsers, historyPairs, historySpan),
		fmt.Sprintf("Redis before the first round: every user has had %d hits in the last day, evenly spread", hitsOfDay),
	}
}

func main() {
	if err := benchMain(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// play plays the role that the command line asks for.
func play(ctx context.Context, o *options) error {
	switch o.role {
	case roleBench:
		return playBench(ctx, o)
	case roleLoad:
		return runLoad(os.Stdin, os.Stdout)
	case roleCeiling:
		return runCeiling(o.addr, os.Stdin)
	case roleDaemon:
		return runDaemon(ctx, o.job)
	default:
		return fmt.Errorf("command line: no role %q", o.role)
	}
}

// playBench runs the benchmark in the harness of the tests, which ends what it started.
func playBench(ctx context.Context, o *options) error {
	var failed error

	completed := harness.Run(func(t harness.TB) {
		runtime.LockOSThread() // the kernel ends children with the thread that started them

		failed = runBench(ctx, t, o, os.Stdout)
	})
	if failed == nil && !completed {
		return errors.New("not completed")
	}

	return failed
}

// benchMain reads the command line and plays the role that it asks for, until that is over or the process is told to end.
func benchMain() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}

	if err != nil {
		return err
	}

	return play(ctx, o)
}
