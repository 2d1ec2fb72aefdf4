package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/redis/go-redis/v9"
)

const (
	// masterName is what the sentinels call their master.
	masterName = "ratelimitd"
	sentinels  = 3
	replicas   = 2
)

// SentinelSet is a master with two replicas, watched by three sentinels.
type SentinelSet struct {
	Master string   // the name that the sentinels know the master by
	Addrs  []string // of the sentinels
	// Servers are the redis-servers, the first master first; after a failover another one is the master.
	Servers []*RedisServer

	t        TB
	watchers []*process
	asks     []*redis.SentinelClient
}

// Sentinel starts a master, its replicas and its sentinels, and returns when the sentinels agree on all of them.
func Sentinel(t TB) *SentinelSet {
	t.Helper()
	s := &SentinelSet{Master: masterName, t: t}
	first := Redis(t, WithArgs("--repl-diskless-sync-delay", "0"))
	s.Servers = append(s.Servers, first)
	for range replicas {
		s.Servers = append(s.Servers, Redis(t, WithArgs("--replicaof", loopbackIP+" "+strconv.Itoa(first.Port()),
			"--repl-diskless-sync-delay", "0")))
	}
	for i := range sentinels {
		s.watch(i, first.Port())
	}
	WaitFor(t, "the sentinels see the master, its replicas and each other", s.settled)
	return s
}

// watch starts one sentinel.
func (s *SentinelSet) watch(i, master int) {
	s.t.Helper()
	port := Port(s.t)
	conf := filepath.Join(s.t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind %s\ndir %s\nsentinel monitor %s %s %d %d\n", port, loopbackIP, filepath.Dir(conf),
		masterName, loopbackIP, master, sentinels/2+1) +
		fmt.Sprintf("sentinel down-after-milliseconds %s 1000\nsentinel failover-timeout %s 10000\n", masterName, masterName)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		s.t.Fatalf("write the configuration of a sentinel: %v", err)
	}
	c := redis.NewSentinelClient(&redis.Options{Addr: local(port)})
	s.t.Cleanup(func() { _ = c.Close() }) // its connections have nothing left to lose
	p := &process{
		t: s.t, name: fmt.Sprintf("sentinel %d", i), path: redisServer(s.t), args: []string{conf, "--sentinel"},
		ready: func(ctx context.Context) error {
			if err := knock(ctx, "tcp", local(port)); err != nil {
				return err
			}
			return c.Ping(ctx).Err()
		},
	}
	p.register()
	p.start()
	s.Addrs, s.watchers, s.asks = append(s.Addrs, local(port)), append(s.watchers, p), append(s.asks, c)
}

// settled errs while a sentinel does not know a master that is up, all of its replicas, or the other sentinels.
func (s *SentinelSet) settled(ctx context.Context) error {
	for i, c := range s.asks {
		m, err := c.Master(ctx, masterName).Result()
		if err != nil {
			return fmt.Errorf("ask sentinel %d: %w", i, err)
		}
		want := map[string]string{
			"flags": "master", "num-slaves": strconv.Itoa(replicas), "num-other-sentinels": strconv.Itoa(sentinels - 1),
		}
		for field, value := range want {
			if m[field] != value {
				return fmt.Errorf("sentinel %d: %s is %q, want %q", i, field, m[field], value)
			}
		}
		rs, err := c.Replicas(ctx, masterName).Result()
		if err != nil {
			return fmt.Errorf("ask sentinel %d for the replicas: %w", i, err)
		}
		for _, r := range rs {
			if r["master-link-status"] != "ok" {
				return fmt.Errorf("sentinel %d: the link of replica %s is %q", i, r["name"], r["master-link-status"])
			}
		}
	}
	return nil
}

// Current returns the redis-server that the sentinels now name as the master.
func (s *SentinelSet) Current(ctx context.Context) (*RedisServer, error) {
	var names []string
	for i, c := range s.asks {
		addr, err := c.GetMasterAddrByName(ctx, masterName).Result()
		if err != nil {
			return nil, fmt.Errorf("ask sentinel %d for the master: %w", i, err)
		}
		if len(addr) != 2 {
			return nil, fmt.Errorf("sentinel %d names the master %q", i, addr)
		}
		names = append(names, addr[1])
	}
	for _, name := range names {
		if name != names[0] {
			return nil, fmt.Errorf("the sentinels do not agree on the master: ports %q", names)
		}
	}
	for _, r := range s.Servers {
		if strconv.Itoa(r.Port()) == names[0] {
			return r, nil
		}
	}
	return nil, errors.New("the sentinels name a master that is none of the test's: port " + names[0])
}

// Failover kills the master and returns when the sentinels have put a replica in its place and it takes writes.
func (s *SentinelSet) Failover() {
	s.t.Helper()
	var old *RedisServer
	WaitFor(s.t, "the sentinels name a master", func(ctx context.Context) error {
		var err error
		old, err = s.Current(ctx)
		return err
	})
	old.Kill()
	WaitFor(s.t, "the sentinels name another master", func(ctx context.Context) error {
		now, err := s.Current(ctx)
		if err != nil {
			return err
		}
		if now == old {
			return errors.New("the dead master is still the master")
		}
		role, err := now.Client.Do(ctx, "ROLE").Slice()
		if err != nil {
			return fmt.Errorf("ask the new master for its role: %w", err)
		}
		if len(role) == 0 || role[0] != "master" {
			return fmt.Errorf("the new master's role is %v", role)
		}
		return nil
	})
}

// Replicated returns when every replica has what the master has now.
func (s *SentinelSet) Replicated() {
	s.t.Helper()
	WaitFor(s.t, "the replicas have what the master has", func(ctx context.Context) error {
		master, err := s.Current(ctx)
		if err != nil {
			return err
		}
		// WAIT is about the writes of its own connection; replicas take writes in order, so one that is made now covers
		// all that came before.
		conn := master.Client.Conn()
		defer func() { _ = conn.Close() }() // back to the pool
		if err := conn.Set(ctx, "ratelimitd-test-replicated", 1, 0).Err(); err != nil {
			return fmt.Errorf("write to the master: %w", err)
		}
		n, err := conn.Wait(ctx, replicas, Patience/2).Result()
		if err != nil {
			return fmt.Errorf("wait for the replicas: %w", err)
		}
		if n < replicas {
			return fmt.Errorf("%d of %d replicas have it", n, replicas)
		}
		return nil
	})
}
