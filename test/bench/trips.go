package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// sequential is how many calls of each kind are made one after another to count their round trips.
const sequential = 1000

// trips are the round trips of one kind of call, by Redis's own counters over calls that were made one after another.
type trips struct {
	Call string `json:"call"`
	// Scripts are script calls, Reads read events: one brings whatever was sent at once, also what is no script call. The
	// daemon's own health checks are among the reads.
	Scripts float64 `json:"scripts_per_call"`
	Reads   float64 `json:"reads_per_call"`
	// Micros is how long Redis takes for a script call of one decision, microseconds.
	Micros float64 `json:"script_us"`
}

// most is the larger of the two counts.
func (t trips) most() float64 { return max(t.Scripts, t.Reads) }

// countTrips reserves, settles and asks for usage, one call at a time.
func countTrips(ctx context.Context, c *contender) ([]trips, error) {
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.addr, err)
	}
	defer conn.Close() // nothing is in flight

	client := costv1.NewCostServiceClient(conn)
	pairs := newPairAsker(client, admitted, rand.Text()+"-", 0)
	usage := &usageAsker{client: client, expect: admitted}

	if err := pairs.ask(userName(0)); err != nil { // loads the scripts
		return nil, fmt.Errorf("count the round trips of %s: %w", c.name, err)
	}

	ids := make([]string, sequential)
	steps := []struct {
		call string
		once func(i int) error
	}{
		{"Reserve", func(i int) (err error) {
			ids[i], err = pairs.hold(userName(0))

			return err
		}},
		{"Settle", func(i int) error { return pairs.end(ids[i]) }},
		{"GetUsage of a user", func(int) error { return usage.ask(userName(0)) }},
	}

	var counted []trips

	for _, step := range steps {
		t, err := c.redis.tripsOf(ctx, step.once)
		if err != nil {
			return nil, fmt.Errorf("count the round trips of %s: %w", step.call, err)
		}

		t.Call = step.call
		counted = append(counted, t)
	}

	return counted, nil
}

// tripsOf counts over calls that are made one after another.
func (r *redisServer) tripsOf(ctx context.Context, once func(i int) error) (trips, error) {
	before, err := r.used(ctx)
	if err != nil {
		return trips{}, err
	}

	for i := range sequential {
		if err := once(i); err != nil {
			return trips{}, err
		}
	}

	after, err := r.used(ctx)
	if err != nil {
		return trips{}, err
	}

	did := after.since(before)
	did.reads-- // the question itself

	return trips{
		Scripts: float64(did.scripts) / sequential, Reads: float64(did.reads) / sequential,
		Micros: micros(did.within) / float64(max(did.scripts, 1)),
	}, nil
}
