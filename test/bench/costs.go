package main

import (
	"context"
	"fmt"
	"strings"
)

// The names of the contenders that reserve and settle.
const (
	costRedisName  = "cost-redis"
	costMemoryName = "cost-memory"
)

// costPolicy has the limits of the shipped production policy, each raised above what a run asks for.
func costPolicy() string {
	return fmt.Sprintf(`domain: %s
subjects:
  user: {key: user_id, default_plan: default}
plans:
  default: {limits: [%s, 4000000 USD/day]}
global: {limits: [%d/hour, 1000000 concurrent, 4000000 USD/day]}
cost:
  prices: {%s: {input: 0.0000002, output: 0.0000006}}
`, domain, strings.Join(roomyLimits(), ", "), roomy, pairModel)
}

// prepareCosts starts the daemons that reserve and settle, and measures what takes no load: bytes and round trips.
func (b *bench) prepareCosts(ctx context.Context) error {
	for _, name := range []string{costRedisName, costMemoryName} {
		if !b.wants(name) {
			continue
		}

		server, err := b.prepareHistory(ctx, name)
		if err != nil {
			return err
		}

		c, err := b.startDaemon(ctx, name, costPolicy(), b.opt.costTimeout, server)
		if err != nil {
			return err
		}

		b.t.Cleanup(c.server.stop)
		c.expect, c.serves = admitted, []shape{pairShape}
		b.contenders = append(b.contenders, c)

		if server != nil {
			c.serves = append(c.serves, usageShape)

			if b.report.Trips, err = countTrips(ctx, c, b.opt.costUsers); err != nil {
				return err
			}
		}

		if c.books, err = openBooks(ctx, c, b.opt.users); err != nil {
			return err
		}

		if err := b.warmUp(ctx, c, pairShape, 1); err != nil {
			return err
		}
	}

	return nil
}

// prepareHistory starts the Redis of a contender, measures bytes on it, and leaves users with spend there; nil for the embedded
// store, which begins empty.
func (b *bench) prepareHistory(ctx context.Context, name string) (*redisServer, error) {
	if name != costRedisName {
		return nil, nil //nolint:nilnil // no Redis is no error
	}

	server := startRedis(b.t, "redis-server of "+name)

	b.say("measuring the bytes of reservations and of a day of settlements")

	var err error
	if b.report.Footprint, err = measureFootprint(ctx, server); err != nil {
		return nil, err
	}

	b.say("prefilling the Redis of %s: %d users with %d settled reservations", name, b.opt.costUsers, historyPairs)

	return server, prefillSpend(ctx, server, b.opt.costUsers)
}
