package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// A daemon whose Redis hangs, and those who ask it meanwhile.
const (
	boundedTimeout = "100ms" // the decision timeout
	boundedCallers = 100     // at once
	boundedAsks    = 10      // of each caller, one after another
	boundedReaders = 4       // of statistics, without a pause
	// boundedSoon is when each answer must be there: so much later than the decision timeout that a busy machine under
	// the race detector keeps it, and sooner than an answer that the Redis client's own timeouts alone bound: with a
	// decision timeout of 5 s, answers took 2 s.
	boundedSoon = 1500 * time.Millisecond
)

// TestEveryAnswerIsBoundedWhileRedisHangs pauses Redis, so that it neither answers nor refuses. With many callers at
// once, some of whom ask for statistics, every decision comes soon and lets the call through. It is not parallel:
// it measures time, if only roughly.
func TestEveryAnswerIsBoundedWhileRedisHangs(t *testing.T) {
	redis := harness.Redis(t)
	env := with(onRedis(redis), "RATELIMITD_DECISION_TIMEOUT", boundedTimeout)
	d := harness.Daemon(t, withPolicy(t, env, limits{user: "1000000/hour", global: "1000000/hour"}.text()))
	c := dial(t, d.GRPCAddr)
	harness.WaitFor(t, "calls are counted", func(ctx context.Context) error {
		res, err := c.ask(ctx, "123")
		if err == nil && failedOpen(res) {
			err = fmt.Errorf("the daemon failed open: %v", res)
		}
		return err
	})
	redis.Pause()
	defer redis.Resume()

	var callers, readers sync.WaitGroup
	var over atomic.Bool
	for range boundedReaders {
		readers.Go(func() {
			for !over.Load() {
				if err := statsFailSoon(t.Context(), d); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range boundedCallers {
		callers.Go(func() {
			for n := range boundedAsks {
				if err := failsOpenSoon(t.Context(), c, fmt.Sprintf("user-%d", i)); err != nil {
					t.Errorf("caller %d, call %d: %v", i, n, err)
					return
				}
			}
		})
	}
	callers.Wait()
	over.Store(true)
	readers.Wait()
	if got := metric(t, d, "ratelimitd_fail_open_total", `tier="user"`); got < boundedCallers*boundedAsks {
		t.Errorf("%v answers are counted that failed open, want %d", got, boundedCallers*boundedAsks)
	}
}

// failsOpenSoon asks for one request and errs unless it is let through, soon and without the store.
func failsOpenSoon(ctx context.Context, c caller, user string) error {
	ctx, cancel := context.WithTimeout(ctx, harness.Patience)
	defer cancel()
	asked := time.Now()
	res, err := c.ask(ctx, user)
	switch took := time.Since(asked); {
	case err != nil:
		return fmt.Errorf("ask for %s: %w", user, err)
	case !isOK(res) || !failedOpen(res):
		return fmt.Errorf("the answer is %v, want OK by failing open", res)
	case took > boundedSoon:
		return fmt.Errorf("the answer took %s, want it within %s", took, boundedSoon)
	}
	return nil
}

// statsFailSoon asks for statistics and errs unless the answer says soon that there are none.
func statsFailSoon(ctx context.Context, d *harness.DaemonProcess) error {
	asked := time.Now()
	r, err := fetch(ctx, d.URL("/api/v1/assistant/stats?user_id=123"), "")
	switch took := time.Since(asked); {
	case err != nil:
		return err
	case r.status != http.StatusServiceUnavailable:
		return fmt.Errorf("the statistics answer %d, want 503: %s", r.status, r.body)
	case took > boundedSoon:
		return fmt.Errorf("the statistics took %s, want them refused within %s", took, boundedSoon)
	}
	return nil
}
