package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed classic.lua
var classicScript string

const (
	day = 24 * time.Hour
	// roomy is a global limit that no run reaches.
	roomy = 1_000_000_000
)

// classicGlobal is the key of the classic's global window.
const classicGlobal = "rl:global:3600"

// classic is the reference: the classic script on a Redis of its own, asked directly.
type classic struct {
	redis *redisServer
	sha   string
	users int
	keys  [][]string
	args  []any // per window: limit and period in microseconds
}

// newClassic loads the script.
func newClassic(ctx context.Context, server *redisServer, users int) (*classic, error) {
	sha, err := server.ask.ScriptLoad(ctx, classicScript).Result()
	if err != nil {
		return nil, fmt.Errorf("load the classic script: %w", err)
	}

	c := &classic{redis: server, sha: sha, users: users, keys: make([][]string, users)}
	for i := range c.keys {
		c.keys[i] = append(classicKeys(userName(i)), classicGlobal)
	}

	for _, w := range userWindows {
		c.args = append(c.args, w.limit, w.period.Microseconds())
	}

	c.args = append(c.args, roomy, time.Hour.Microseconds())

	return c, nil
}

// classicKeys are a user's sorted sets, one per window.
func classicKeys(user string) []string {
	keys := make([]string, len(userWindows))
	for i, w := range userWindows {
		keys[i] = fmt.Sprintf("rl:%s:%d", user, int(w.period.Seconds()))
	}

	return keys
}

// prefill gives every user its hits of the last day, in every window that they are live in.
func (c *classic) prefill(ctx context.Context) error {
	for first := 0; first < c.users; first += prefillChunk {
		now := time.Now()
		pipe := c.redis.ask.Pipeline()

		for user := first; user < min(first+prefillChunk, c.users); user++ {
			c.prefillUser(ctx, pipe, user, now)
		}

		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("prefill the classic: %w", err)
		}
	}

	return nil
}

// prefillUser adds one user's hits to its windows.
func (c *classic) prefillUser(ctx context.Context, pipe redis.Pipeliner, user int, now time.Time) {
	for i, w := range userWindows {
		var live []redis.Z

		for hit := range hitsOfDay {
			if age := ageOf(user, hit); age < w.period {
				at := now.Add(-age).UnixMicro()
				live = append(live, redis.Z{Score: float64(at), Member: fmt.Sprintf("%d-%s", at, nonce())})
			}
		}

		if len(live) > 0 {
			pipe.ZAdd(ctx, c.keys[user][i], live...)
			pipe.PExpire(ctx, c.keys[user][i], w.period)
		}
	}
}

// nonce returns what sets hits of the same microsecond apart.
func nonce() string {
	return fmt.Sprintf("%08x", rand.Uint32()) //nolint:gosec // a collision would only lose one hit of a measurement
}

// classicRun is one measurement of the classic.
type classicRun struct {
	Depth     int     `json:"depth"` // decisions per pipeline
	Conns     int     `json:"conns"`
	Decisions int64   `json:"decisions"`
	PerSecond float64 `json:"per_second"`
	RedisCPU  float64 `json:"redis_us_per_decision"`
}

// measure drives the script with pipelines of the given depth over the given number of connections. The global window
// starts empty, so that rounds are alike.
func (c *classic) measure(ctx context.Context, depth, conns int, length time.Duration) (*classicRun, error) {
	if err := c.redis.ask.Unlink(ctx, classicGlobal).Err(); err != nil {
		return nil, fmt.Errorf("reset the classic's global window: %w", err)
	}

	before, err := c.redis.used(ctx)
	if err != nil {
		return nil, err
	}

	started := time.Now()

	decisions, err := c.drive(ctx, depth, conns, started.Add(length))
	if err != nil {
		return nil, err
	}

	wall := time.Since(started)

	after, err := c.redis.used(ctx)
	if err != nil {
		return nil, err
	}

	return &classicRun{
		Depth: depth, Conns: conns, Decisions: decisions, PerSecond: float64(decisions) / wall.Seconds(),
		RedisCPU: float64(after.since(before).cpu.Nanoseconds()) / 1e3 / float64(decisions),
	}, nil
}

// drive sends pipelines until the end and returns the number of decisions.
func (c *classic) drive(ctx context.Context, depth, conns int, end time.Time) (int64, error) {
	client := newRedisClient(c.redis.addr, conns)
	defer client.Close() // nothing is in flight

	var (
		decisions atomic.Int64
		all       sync.WaitGroup
		errs      = make([]error, conns)
	)

	for i := range conns {
		all.Go(func() {
			draw := rand.New(rand.NewPCG(uint64(i), 2)) //nolint:gosec // which user asks next is no secret

			for errs[i] == nil && time.Now().Before(end) {
				errs[i] = c.pipeline(ctx, client, depth, draw)

				decisions.Add(int64(depth))
			}
		})
	}

	all.Wait()

	return decisions.Load(), errors.Join(errs...)
}

// pipeline sends one pipeline and checks that every decision admitted.
func (c *classic) pipeline(ctx context.Context, client *redis.Client, depth int, draw *rand.Rand) error {
	pipe := client.Pipeline()

	for range depth {
		args := append([]any{nonce()}, c.args...)
		pipe.EvalSha(ctx, c.sha, c.keys[draw.IntN(c.users)], args...)
	}

	replies, err := pipe.Exec(ctx)
	if err != nil {
		return fmt.Errorf("ask the classic: %w", err)
	}

	for _, reply := range replies {
		cmd, ok := reply.(*redis.Cmd)
		if !ok {
			return fmt.Errorf("ask the classic: a %T came back", reply)
		}

		answer, err := cmd.Int64Slice()
		if err != nil {
			return fmt.Errorf("ask the classic: %w", err)
		}

		if answer[0] != 1 {
			return fmt.Errorf("the classic denied: hits %v under the limits %v; run fewer or shorter rounds", answer[1:], c.args)
		}
	}

	return nil
}

// bytesPerUser is what one user's sorted sets take.
func (c *classic) bytesPerUser(ctx context.Context) (int64, error) {
	return memoryOf(ctx, c.redis.ask, classicKeys(userName(0)))
}

// memoryOf sums MEMORY USAGE over keys, with every element counted.
func memoryOf(ctx context.Context, client *redis.Client, keys []string) (int64, error) {
	var sum int64

	for _, key := range keys {
		n, err := client.MemoryUsage(ctx, key, 0).Result()
		if err != nil {
			return 0, fmt.Errorf("MEMORY USAGE %s: %w", key, err)
		}

		sum += n
	}

	return sum, nil
}
