package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

const (
	warmup          = 400 * time.Millisecond // unmeasured load at the start of each run
	loadGrace       = 2 * time.Minute        // what a load generator may need beside its run
	openLoopCallers = 512                    // calls that an open loop may have in flight
)

// bench is one benchmark.
type bench struct {
	opt        *options
	t          harness.TB
	out        io.Writer
	self       string // this program
	dir        string // for what lives as long as the benchmark
	daemon     string // the built ratelimitd
	contenders []*contender
	classic    *classic
	ours       int64 // Redis bytes of a prefilled user of ratelimitd's; 0 if not measured
	report     report
}

// runBench is the whole benchmark. What it starts ends with t.
func runBench(ctx context.Context, t harness.TB, opt *options, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}

	b := &bench{opt: opt, t: t, out: out, self: self, dir: t.TempDir()}
	b.report = report{Machine: describeMachine(ctx), Rounds: opt.rounds, Rate: opt.rate, Settings: opt.describe()}

	if err := b.prepare(ctx); err != nil {
		return err
	}

	for round := range opt.rounds {
		if err := b.round(ctx, round); err != nil {
			return err
		}
	}

	if err := b.closeBooks(ctx); err != nil {
		return err
	}

	b.report.Targets = b.report.judge()

	if opt.json != "" {
		if err := b.report.save(opt.json); err != nil {
			return err
		}
	}

	return b.report.print(out)
}

// wants tells whether a contender is to be measured.
func (b *bench) wants(name string) bool {
	return b.opt.only == "" || slices.Contains(strings.Split(b.opt.only, ","), name)
}

// say reports progress.
func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.out, format+"\n", args...) }

// prepare builds, starts and warms up all contenders.
func (b *bench) prepare(ctx context.Context) error {
	if err := b.startCeiling(ctx); err != nil {
		return err
	}

	setups := []struct {
		name   string
		limits []string
		expect verdict
		sweeps int
	}{
		{redisName, roomyLimits(), admitted, 1},
		{memoryName, roomyLimits(), admitted, 1},
		{redisDeniedName, tightLimits(), overLimit, sweepsToDeny + 1},
		{memoryDeniedName, tightLimits(), overLimit, sweepsToDeny + 1},
	}

	for _, s := range setups {
		if !b.wants(s.name) {
			continue
		}

		if err := b.prepareDaemon(ctx, s.name, s.limits, s.expect, s.sweeps); err != nil {
			return err
		}
	}

	if err := b.prepareCosts(ctx); err != nil {
		return err
	}

	if !b.wants(classicName) {
		return nil
	}

	return b.prepareClassic(ctx)
}

// startCeiling starts the server that does not decide.
func (b *bench) startCeiling(ctx context.Context) error {
	addr, err := freeAddr(ctx)
	if err != nil {
		return err
	}

	p, err := start(ctx, ceilingName, addr, nil, b.self, "-role", roleCeiling, "-addr", addr)
	if err != nil {
		return err
	}

	b.t.Cleanup(p.stop)
	b.contenders = append(b.contenders, &contender{
		name: ceilingName, expect: bareOK, addr: addr, server: p,
		serves: []shape{oneDescriptor, fourDescriptors, pairShape, usageShape},
	})

	return nil
}

// prepareDaemon starts a ratelimitd, with a Redis if its name asks for one, and asks it for every user.
func (b *bench) prepareDaemon(ctx context.Context, name string, limits []string, expect verdict, sweeps int) error {
	var server *redisServer
	if strings.HasPrefix(name, redisName) {
		server = startRedis(b.t, "redis-server of "+name)
	}

	if name == redisName {
		b.say("prefilling ratelimitd's Redis: %d users with %d hits in the last day", b.opt.users, hitsOfDay)

		ours, err := prefillOurs(ctx, server, b.opt.users)
		if err != nil {
			return err
		}

		b.ours = ours
	}

	c, err := b.startDaemon(ctx, name, policyText(limits), b.opt.timeout, server)
	if err != nil {
		return err
	}

	b.t.Cleanup(c.server.stop)
	c.expect, c.serves = expect, []shape{oneDescriptor, fourDescriptors}
	b.contenders = append(b.contenders, c)

	return b.warmUp(ctx, c, oneDescriptor, sweeps)
}

// warmUp asks a contender for every user a few times.
func (b *bench) warmUp(ctx context.Context, c *contender, s shape, sweeps int) error {
	b.say("warming up %s: %d x %s of each user", c.name, sweeps, s)

	j := b.job(c, leg{Shape: s})
	j.Expect, j.Sweeps = anyVerdict, sweeps

	t, _, err := b.load(ctx, j)
	if err != nil {
		return fmt.Errorf("warm up %s: %w", c.name, err)
	}

	if c.books != nil {
		c.books.add(t)
	}

	return nil
}

// prepareClassic starts and fills the reference.
func (b *bench) prepareClassic(ctx context.Context) error {
	server := startRedis(b.t, "redis-server of the classic")

	b.say("prefilling the classic: %d users with %d hits in the last day", b.opt.users, hitsOfDay)

	var err error
	if b.classic, err = newClassic(ctx, server, b.opt.users); err != nil {
		return err
	}

	if err := b.classic.prefill(ctx); err != nil {
		return err
	}

	size, err := b.classic.bytesPerUser(ctx)
	if err != nil {
		return err
	}

	if b.ours > 0 {
		b.report.Bytes = &bytesPerUser{Ours: b.ours, Classic: size}
	}

	return nil
}

// hasContenders tells whether anything but the ceiling is to be measured under a leg.
func (b *bench) hasContenders(l leg) bool {
	return slices.ContainsFunc(b.contenders, func(c *contender) bool {
		return c.name != ceilingName && slices.Contains(c.serves, l.Shape)
	})
}

// closeBooks compares what was spent with what callers were told.
func (b *bench) closeBooks(ctx context.Context) error {
	for _, c := range b.contenders {
		if c.books == nil {
			continue
		}

		b.say("reading the books of %s", c.name)

		if err := c.books.close(ctx, c); err != nil {
			return err
		}

		b.report.Books = append(b.report.Books, c.books)
	}

	return nil
}

// round measures every contender under every leg, next to each other, and the classic beside ratelimitd on Redis.
func (b *bench) round(ctx context.Context, round int) error {
	legs := []leg{
		{Shape: oneDescriptor},
		{Shape: fourDescriptors},
		{Shape: oneDescriptor, Rate: b.opt.rate},
		{Shape: pairShape},
		{Shape: usageShape, Rate: b.opt.rate},
	}
	for _, l := range legs {
		if !b.hasContenders(l) {
			continue
		}

		for i := range b.contenders {
			c := b.contenders[(i+round)%len(b.contenders)] // none is always the first, or always after the same one
			if !slices.Contains(c.serves, l.Shape) || l.Rate > 0 && c.expect == overLimit {
				continue
			}

			r, err := b.measure(ctx, c, l, round)
			if err != nil {
				return err
			}

			b.report.Runs = append(b.report.Runs, r)
			b.say("round %d, %v, %s: %.0f calls/s, p50 %v %s", round+1, l, c.name, r.PerSecond, r.P50, r.Invalid)
		}
	}

	if b.classic == nil {
		return nil
	}

	depth, conns := defaultDepth, 1
	if r := b.report.find(redisName, legs[0], round); r != nil && r.Depth > 0 {
		depth, conns = max(int(math.Round(r.Depth)), 1), max(int(r.Conns), 1)
	}

	c, err := b.classic.measure(ctx, depth, conns, b.opt.duration)
	if err != nil {
		return err
	}

	b.report.Classic = append(b.report.Classic, c)
	b.say("round %d, classic: Redis %.1f us per decision at depth %d", round+1, c.RedisCPU, depth)

	return nil
}
