package e2e

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// tally is what the clients of a test have seen so far.
type tally struct {
	mu       sync.Mutex
	passed   int             // 200s
	counted  int             // 200s that carry the daemon's numbers
	left     map[string]bool // X-RateLimit-Remaining of those
	mistakes []string
}

func (c *tally) add(r reply, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.mistakes = append(c.mistakes, err.Error())
		return
	}
	if r.status != http.StatusOK {
		c.mistakes = append(c.mistakes, r.body)
		return
	}
	c.passed++
	if !r.asked() {
		return
	}
	c.counted++
	n := r.header.Get("X-Ratelimit-Remaining")
	if c.left[n] {
		c.mistakes = append(c.mistakes, "two requests were told that "+n+" remain")
	}
	c.left[n] = true
}

func (c *tally) seen() (passed, counted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed, c.counted
}

// TestKilledDaemonLosesNoCount kills a daemon under traffic, twice, and starts it again: Envoy passes requests on its
// own meanwhile, the daemon answers again by itself, and what was counted before is counted still.
func TestKilledDaemonLosesNoCount(t *testing.T) {
	t.Parallel()
	const limit, workers, kills, between = 4000, 4, 2, 200
	env := withPolicy(t, onRedis(harness.Redis(t)), limits{user: "4000/hour", global: "100000/hour"}.text())
	s := newStack(t, env)
	seen := &tally{left: map[string]bool{}}
	var done atomic.Bool
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for !done.Load() {
				seen.add(fetch(t.Context(), s.envoy.URL, "123"))
			}
		})
	}
	stop := func() { done.Store(true); wg.Wait() }
	defer stop()

	more := func(what string) {
		_, from := seen.seen()
		harness.WaitFor(t, what, func(context.Context) error {
			if _, now := seen.seen(); now < from+between {
				return errors.New("too few requests are counted")
			}
			return nil
		})
	}
	more("requests are counted")
	for range kills {
		s.daemon.Kill()
		passed, counted := seen.seen()
		harness.WaitFor(t, "Envoy passes requests on its own", func(context.Context) error {
			if p, c := seen.seen(); p-c < passed-counted+between {
				return errors.New("too few requests have passed uncounted")
			}
			return nil
		})
		s.daemon.Start()
		more("requests are counted again")
	}
	stop()

	for _, mistake := range seen.mistakes {
		t.Error(mistake)
	}
	_, counted := seen.seen()
	used := int(statsOf(t, s.daemon, "123").Limits["hour"].Current)
	// A call that was under way at a kill may have been counted without its answer reaching Envoy: one per client.
	if used < counted || used > counted+kills*workers {
		t.Errorf("%d are used; %d requests were told that they count, and at most %d more may", used, counted, kills*workers)
	}
	if counted > limit {
		t.Errorf("%d requests were admitted, want at most %d", counted, limit)
	}
}
