package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// shortTimeout is the decision timeout of a daemon whose store is about to be lost: short, so that an answer is soon
// there, and long enough that a busy machine does not often miss it while the store is there.
const shortTimeout = "250ms"

// failures is how many answers are looked at each time that the store is lost.
const failures = 5

// trouble is what a policy says of a lost store, and what a client then gets.
type trouble struct {
	name         string
	user, global string // on_store_failure
	status       int
	tier         string // whose verdict it is
}

// soon is when an answer must be there that the decision timeout bounds. It is much longer than that, for a machine that
// is busy, and shorter than what Envoy waits for before it passes a request on its own.
const soon = 10 * time.Second

func troubles() []trouble {
	return []trouble{
		{name: "all tiers allow", user: "allow", global: "allow", status: http.StatusOK},
		{name: "the user tier denies", user: "deny", global: "allow", status: http.StatusTooManyRequests, tier: "user"},
		{name: "the global tier denies", user: "allow", global: "deny", status: http.StatusTooManyRequests, tier: "global"},
	}
}

// TestStoreTrouble has Redis away at the start, then there, then hanging, then there, then dead, then there: without
// it, every answer comes soon and as the policy says, and with it, limits hold again by themselves.
func TestStoreTrouble(t *testing.T) {
	t.Parallel()
	for _, c := range troubles() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			redis := harness.RedisAway(t)
			env := with(onRedis(redis), "RATELIMITD_DECISION_TIMEOUT", shortTimeout)
			s := newStack(t, withPolicy(t, env, limits{
				user: "1000000/hour", global: "1000000/hour", userOnStoreFailure: c.user, globalOnStoreFault: c.global,
			}.text()))

			s.without(t, c)
			redis.Start()
			s.recovers(t)
			redis.Pause()
			s.without(t, c)
			redis.Resume()
			s.recovers(t)
			redis.Kill()
			s.without(t, c)
			redis.Start()
			s.recovers(t)
			s.troubleIsCounted(t)
		})
	}
}

// without waits until the loss of the store shows and then compares some answers with what the policy says.
func (s *stack) without(t *testing.T, c trouble) {
	t.Helper()
	harness.WaitFor(t, "the loss of the store shows", func(ctx context.Context) error {
		r, err := fetch(ctx, s.envoy.URL, "123")
		if err == nil && r.asked() {
			err = errors.New("an answer has the store's numbers")
		}
		return err
	})
	opened := metric(t, s.daemon, "ratelimitd_fail_open_total")
	for range failures {
		asked := time.Now()
		r := get(t, s.envoy.URL, "123")
		if took := time.Since(asked); took > soon {
			t.Errorf("without the store: the answer took %s, want it within %s", took, soon)
		}
		if r.status != c.status {
			t.Errorf("without the store: status %d, want %d: %s", r.status, c.status, r.body)
		}
		for _, name := range []string{"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset", "Retry-After"} {
			if got := r.header.Get(name); got != "" {
				t.Errorf("without the store: %s is %q, a number that nobody knows", name, got)
			}
		}
		if c.status == http.StatusOK {
			continue
		}
		if got := r.header.Get("X-Ratelimitd-Reason"); got != "store_unavailable" {
			t.Errorf("without the store: x-ratelimitd-reason is %q, want store_unavailable", got)
		}
		var problem struct{ Tier string }
		if err := json.Unmarshal([]byte(r.body), &problem); err != nil || problem.Tier != c.tier {
			t.Errorf("without the store: the body's tier is %q (%v), want %q: %s", problem.Tier, err, c.tier, r.body)
		}
	}
	if more := metric(t, s.daemon, "ratelimitd_fail_open_total") - opened; (more >= failures) != (c.status == http.StatusOK) {
		t.Errorf("without the store: %v more answers are counted that failed open, of %d with status %d", more, failures, c.status)
	}
	s.healthIs(t, "degraded")
}

// recovers waits until requests are counted again and the daemon says that it is well.
func (s *stack) recovers(t *testing.T) {
	t.Helper()
	harness.WaitFor(t, "requests are counted again", func(ctx context.Context) error {
		r, err := fetch(ctx, s.envoy.URL, "123")
		if err == nil && (!r.asked() || r.status != http.StatusOK) {
			err = fmt.Errorf("status %d without the store's numbers", r.status)
		}
		return err
	})
	s.healthIs(t, "healthy")
}

// healthIs waits for a status of the health page, which answers 200 either way.
func (s *stack) healthIs(t *testing.T, want string) {
	t.Helper()
	harness.WaitFor(t, "the daemon says that it is "+want, func(ctx context.Context) error {
		return healthIs(ctx, s.daemon, want)
	})
}

func healthIs(ctx context.Context, d *harness.DaemonProcess, want string) error {
	r, err := fetch(ctx, d.URL("/api/v1/assistant/health"), "")
	if err != nil {
		return err
	}
	var health struct {
		Status string            `json:"status"`
		Checks map[string]string `json:"checks"`
	}
	if err := json.Unmarshal([]byte(r.body), &health); err != nil {
		return fmt.Errorf("read the health page: %w: %s", err, r.body)
	}
	connected := health.Checks["redis"] == "connected" || health.Checks["redis"] == "embedded"
	if r.status != http.StatusOK || health.Status != want || connected != (want == "healthy") {
		return fmt.Errorf("the health page answers %d: %s", r.status, r.body)
	}
	return nil
}

// troubleIsCounted compares the metrics and the log with the trouble that was.
func (s *stack) troubleIsCounted(t *testing.T) {
	t.Helper()
	if got := metric(t, s.daemon, "ratelimitd_store_errors_total"); got == 0 {
		t.Error("no store error is counted")
	}
	if log := s.daemon.Log(); !strings.Contains(log, `"level":"error"`) {
		t.Errorf("the log tells of no trouble:\n%s", log)
	}
	if got := metric(t, s.daemon, "ratelimitd_store_up"); got != 1 {
		t.Errorf("the store is back and ratelimitd_store_up is %v", got)
	}
}
