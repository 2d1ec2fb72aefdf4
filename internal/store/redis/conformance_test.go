package redis

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/storetest"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// open returns how the suite opens a store on one running server or Cluster, empty each time.
func open(opt Options, nodes []*goredis.Client, testClock bool) storetest.Open {
	return func(t *testing.T) *storetest.Fixture {
		t.Helper()
		each(t, nodes, func(ctx context.Context, c *goredis.Client) error { return c.FlushAll(ctx).Err() })
		var now atomic.Int64
		if testClock {
			opt.clock = now.Load
		}
		another := func() store.Store {
			s, err := New(opt)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() }) // a test may have closed it
			return s
		}
		f := &storetest.Fixture{
			Store:   another(),
			Another: another,
			TwoStep: opt.Cluster,
			Keys: func() int {
				keys := 0
				each(t, nodes, func(ctx context.Context, c *goredis.Client) error {
					n, err := c.DBSize(ctx).Result()
					keys += int(n)
					return err
				})
				return keys
			},
			Disturb: func() {
				each(t, nodes, func(ctx context.Context, c *goredis.Client) error { return c.ScriptFlush(ctx).Err() })
			},
		}
		if testClock {
			f.Set = now.Store
		}
		return f
	}
}

func each(t *testing.T, nodes []*goredis.Client, do func(context.Context, *goredis.Client) error) {
	t.Helper()
	for _, c := range nodes {
		if err := do(t.Context(), c); err != nil && t.Context().Err() == nil {
			t.Fatal(err)
		}
	}
}

func TestConformanceOnOneServer(t *testing.T) {
	t.Parallel() // beside the Cluster's: both wait for their servers more than they compute
	server := harness.Redis(t)
	opt, nodes := Options{Addrs: []string{server.Addr}, Timeout: patience}, []*goredis.Client{server.Client}
	t.Run("test clock", func(t *testing.T) { storetest.Run(t, open(opt, nodes, true)) })
	t.Run("own clock", func(t *testing.T) { storetest.RunRealTime(t, open(opt, nodes, false)) })
}

func TestConformanceOnACluster(t *testing.T) {
	t.Parallel()
	cluster := harness.Cluster(t)
	opt := Options{Addrs: cluster.Addrs, Cluster: true, Timeout: patience}
	nodes := make([]*goredis.Client, 0, len(cluster.Servers))
	for _, n := range cluster.Servers {
		nodes = append(nodes, n.Client)
	}
	t.Run("test clock", func(t *testing.T) { storetest.Run(t, open(opt, nodes, true)) })
	t.Run("own clock", func(t *testing.T) { storetest.RunRealTime(t, open(opt, nodes, false)) })
}

// patience is what a call has on a machine that does much else: the suite asks for verdicts, not for speed.
const patience = 20 * time.Second
