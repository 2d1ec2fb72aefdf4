package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// sequential is how many calls of each kind are made one after another to count their round trips: openAtOnce of a kind, and
// then as many of the next.
const sequential = 10 * openAtOnce

// trips are the round trips of one kind of call, by Redis's own counters over calls that were made one after another.
type trips struct {
	Call string `json:"call"`
	// Scripts are script calls, Reads read events: one brings whatever was sent at once, also what is no script call. The
	// daemon's own health checks are among the reads.
	Scripts float64 `json:"scripts_per_call"`
	Reads   float64 `json:"reads_per_call"`
	// Commands are what a script call calls in its turn.
	Commands float64 `json:"commands_per_script"`
	// Micros is how long Redis takes for a script call of one decision, microseconds.
	Micros float64 `json:"script_us"`
}

// most is the larger of the two counts.
func (t trips) most() float64 { return max(t.Scripts, t.Reads) }

// countTrips reserves, settles and asks for usage, one call at a time. So many users have spend there.
func countTrips(ctx context.Context, c *contender, users int) ([]trips, error) {
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.addr, err)
	}
	defer conn.Close() // nothing is in flight

	client := costv1.NewCostServiceClient(conn)
	pairs := newPairAsker(client, admitted, rand.Text()+"-", 0)
	asks := &usageAsker{client: client, expect: admitted}

	if err := pairs.ask(userName(0)); err != nil { // loads the scripts
		return nil, fmt.Errorf("count the round trips of %s: %w", c.name, err)
	}

	var ids [openAtOnce]string

	steps := []struct {
		call string
		once func(i int) error
		did  usage
	}{
		{call: "Reserve", once: func(i int) (err error) {
			ids[i], err = pairs.hold(userName(i))

			return err
		}},
		{call: "Settle", once: func(i int) error { return pairs.end(ids[i]) }},
		{call: "GetUsage of a user", once: func(i int) error { return asks.ask(userName(i % users)) }},
	}

	for range sequential / openAtOnce {
		for i := range steps {
			did, err := c.redis.usedBy(ctx, steps[i].once)
			if err != nil {
				return nil, fmt.Errorf("count the round trips of %s: %w", steps[i].call, err)
			}

			steps[i].did.scripts += did.scripts
			steps[i].did.reads += did.reads
			steps[i].did.within += did.within
			steps[i].did.all += did.all
		}
	}

	counted := make([]trips, len(steps))
	for i, step := range steps {
		counted[i] = trips{
			Call: step.call, Scripts: float64(step.did.scripts) / sequential, Reads: float64(step.did.reads) / sequential,
			Micros:   micros(step.did.within) / float64(max(step.did.scripts, 1)),
			Commands: float64(step.did.all-step.did.scripts) / float64(max(step.did.scripts, 1)),
		}
	}

	return counted, nil
}

// usedBy is what Redis does for openAtOnce calls that are made one after another.
func (r *redisServer) usedBy(ctx context.Context, once func(i int) error) (usage, error) {
	before, err := r.used(ctx)
	if err != nil {
		return usage{}, err
	}

	for i := range openAtOnce {
		if err := once(i); err != nil {
			return usage{}, err
		}
	}

	after, err := r.used(ctx)
	did := after.since(before)
	did.reads-- // the question itself
	did.all--

	return did, err
}
