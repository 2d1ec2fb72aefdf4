package harness_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestRedisLives starts, restarts, kills and pauses a real redis-server.
func TestRedisLives(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]harness.RedisOption{
		"plain":       nil,
		"password":    {harness.WithPassword("open sesame")},
		"socket":      {harness.WithSocket()},
		"tls":         {harness.WithTLS(harness.NewCerts(t))},
		"append only": {harness.WithAppendOnly()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := harness.Redis(t, opts...)
			set(t, r)
			r.Restart()
			var want error = redis.Nil
			if name == "append only" {
				want = nil
			}
			if err := r.Client.Get(t.Context(), "key").Err(); !errors.Is(err, want) {
				t.Errorf("after a restart the key reads %v, want %v", err, want)
			}
			r.Pause()
			r.Resume()
			r.Kill()
			if err := r.Client.Ping(t.Context()).Err(); err == nil {
				t.Error("a killed server answers")
			}
			r.Start()
			set(t, r)
		})
	}
}

// TestSentinelFailsOver kills a master and finds another one that holds what the first held.
func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	s := harness.Sentinel(t)
	c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: s.Master, SentinelAddrs: s.Addrs})
	t.Cleanup(func() { _ = c.Close() }) // nothing left to lose
	if err := c.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatalf("write: %v", err)
	}
	s.Failover()
	harness.WaitFor(t, "write after the failover", func(ctx context.Context) error {
		return c.Set(ctx, "key", "value", 0).Err()
	})
}

// TestClusterHoldsEverySlot writes keys that fall to all masters.
func TestClusterHoldsEverySlot(t *testing.T) {
	t.Parallel()
	s := harness.Cluster(t)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: s.Addrs})
	t.Cleanup(func() { _ = c.Close() }) // nothing left to lose
	for i := range 100 {
		if err := c.Set(t.Context(), fmt.Sprintf("key %d", i), "value", 0).Err(); err != nil {
			t.Fatalf("write: %v", err)
		}
	}
	for i, r := range s.Servers {
		if n, err := r.Client.DBSize(t.Context()).Result(); err != nil || n == 0 {
			t.Errorf("node %d holds %d keys (%v), want some", i, n, err)
		}
	}
}

func set(t *testing.T, r *harness.RedisServer) {
	t.Helper()
	if err := r.Client.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatalf("write: %v", err)
	}
}
