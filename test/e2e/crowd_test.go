package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// The crowd: each user sends a request, reads the answer, thinks, and sends the next one.
const (
	crowdUsers = 100
	crowdTime  = 30 * time.Second
	crowdThink = 250 * time.Millisecond
	userLimit  = 10   // per minute, in the production policy
	crowdLimit = 1000 // per hour for the system, in the production policy: just what the crowd's users may have
)

// TestCrowd has 100 users at once ask for 30 seconds through Envoy. Each passes 10 times and is denied from then on,
// without an error, and every denial names a limit that is spent.
func TestCrowd(t *testing.T) {
	t.Parallel()
	s := newStack(t, with(onRedis(harness.Redis(t)), "RATELIMITD_POLICY", "production"))
	end := time.Now().Add(crowdTime)
	var wg sync.WaitGroup
	for i := range crowdUsers {
		wg.Go(func() {
			if err := oneOfTheCrowd(t, s.envoy.URL, fmt.Sprintf("user-%d", i), end); err != nil {
				t.Errorf("user %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if got := s.upstream.Hits(); got != crowdLimit {
		t.Errorf("%d requests reached the upstream, want %d", got, crowdLimit)
	}
	if open := metric(t, s.daemon, "ratelimitd_fail_open_total"); open != 0 {
		t.Errorf("the daemon failed open %v times", open)
	}
	if used := statsOf(t, s.daemon, "user-0").Global.Limits["hour"].Current; used != crowdLimit {
		t.Errorf("%d of the system's requests are used, want %d", used, crowdLimit)
	}
}

// oneOfTheCrowd sends one user's requests until the end and errs at the first wrong verdict. All of them fall into one
// minute, so no request of this user's leaves the window.
func oneOfTheCrowd(t *testing.T, url, user string, end time.Time) error {
	t.Helper()
	think := time.NewTicker(crowdThink)
	defer think.Stop()
	for n := 1; time.Now().Before(end); n++ {
		r, err := fetch(t.Context(), url, user)
		if err != nil {
			return err
		}
		if err := verdict(r, n); err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
		<-think.C
	}
	return nil
}

// verdict errs if the answer to a user's n-th request is not the right one.
func verdict(r reply, n int) error {
	left, err := r.number("X-Ratelimit-Remaining")
	if err != nil {
		return err
	}
	if n <= userLimit {
		// The headers tell of the tightest limit; near the crowd's end that is the system's.
		if r.status != http.StatusOK || left > userLimit-n {
			return fmt.Errorf("status %d with %d remaining, want 200 with at most %d: %s", r.status, left, userLimit-n, r.body)
		}
		return nil
	}
	reason := r.header.Get("X-Ratelimitd-Reason")
	if r.status != http.StatusTooManyRequests || left != 0 || (reason != "user:minute" && reason != "global:hour") {
		return fmt.Errorf("status %d with %d remaining for %q, want 429 with none by a spent limit: %s", r.status, left, reason, r.body)
	}
	retry, err := r.number("Retry-After")
	if err != nil {
		return err
	}
	if most := map[string]int{"user:minute": 60, "global:hour": 3600}[reason]; retry < 1 || retry > most {
		return fmt.Errorf("Retry-After is %d for %s, want 1 to %d", retry, reason, most)
	}
	return nil
}
