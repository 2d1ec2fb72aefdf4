package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// costStack is one ratelimitd, with the Envoy that settles money and an assistant of its own.
type costStack struct {
	daemon    *harness.DaemonProcess
	envoy     *harness.EnvoyProxy
	assistant *harness.AssistantServer
}

// newCostStack starts a daemon with a policy and puts an Envoy between it and an assistant that answers as reply says.
func newCostStack(t *testing.T, env harness.Env, policy costPolicy, reply func(r *http.Request) harness.Reply) *costStack {
	t.Helper()
	s := &costStack{assistant: harness.Assistant(t, reply), daemon: harness.Daemon(t, withPolicy(t, env, policy.text()))}
	s.envoy = newCostEnvoy(t, s)
	return s
}

// newCostEnvoy puts one more Envoy between a stack's daemon and its assistant.
func newCostEnvoy(t *testing.T, s *costStack) *harness.EnvoyProxy {
	t.Helper()
	return harness.Envoy(t, harness.EnvoyCostFile, harness.Between(t, s.assistant.Addr, s.daemon.GRPCAddr))
}

// costPolicy is a policy with money for one kind of user.
type costPolicy struct {
	user, global string // limits as policies write them
	hold         string // "usd: 0.001" if empty
	unknown      string // on_unknown_usage; the default if empty
	lease        string // "10m" if empty: no test waits so long
}

// text writes the policy.
func (p costPolicy) text() string {
	or := func(s, other string) string {
		if s == "" {
			return other
		}
		return s
	}
	return limits{user: p.user, global: p.global}.text() +
		"cost:\n  prices:\n" +
		"    llama-3.2-3b-instruct: {input: 0.0000002, output: 0.0000006}\n" +
		"    with-a-cache: {input: 0.0000002, output: 0.0000006, cache_read: 0.00000005, reasoning: 0.000001}\n" +
		"  hold: {" + or(p.hold, "usd: 0.001") + "}\n  lease: " + or(p.lease, "10m") + "\n" +
		"  on_unknown_usage: " + or(p.unknown, "charge_hold") + "\n"
}

// spending is what the statistics say of a user's money and of the slots in use.
type spending struct {
	Cost struct {
		Today json.Number `json:"today"`
	} `json:"cost"`
	Global struct {
		Cost struct {
			Today json.Number `json:"today"`
		} `json:"cost"`
		Concurrent struct {
			Current json.Number `json:"current"`
		} `json:"concurrent"`
	} `json:"global"`
}

// spendingOf reads the statistics of a user; a daemon whose store is away has none.
func spendingOf(ctx context.Context, d *harness.DaemonProcess, user string) (spending, error) {
	r, err := fetch(ctx, d.URL("/api/v1/assistant/stats?user_id="+user), "")
	if err != nil {
		return spending{}, err
	}
	if r.status != http.StatusOK {
		return spending{}, fmt.Errorf("the statistics answer %d, want 200: %s", r.status, r.body)
	}
	var s spending
	decoder := json.NewDecoder(strings.NewReader(r.body))
	if err := decoder.Decode(&s); err != nil {
		return spending{}, fmt.Errorf("read the statistics: %w in %s", err, r.body)
	}
	return s, nil
}

// waitSpent waits until the statistics say that a user has spent exactly so many USD and that no slot is in use: the end of
// a stream is told when the client has its answer. Without want it waits for the slots alone.
func waitSpent(t *testing.T, d *harness.DaemonProcess, user, want string) {
	t.Helper()
	harness.WaitFor(t, "user "+user+" has spent "+want+" USD and no slot is in use", func(ctx context.Context) error {
		s, err := spendingOf(ctx, d, user)
		switch {
		case err != nil:
			return err
		case want != "" && !sameUSD(s.Cost.Today.String(), want):
			return fmt.Errorf("it is %s USD", s.Cost.Today)
		case s.Global.Concurrent.Current != "" && s.Global.Concurrent.Current != "0":
			return fmt.Errorf("%s slots are in use", s.Global.Concurrent.Current)
		}
		return nil
	})
}

// sameUSD tells whether two decimal numbers are the same, to the last digit.
func sameUSD(a, b string) bool {
	x, ok := new(big.Rat).SetString(a)
	y, fine := new(big.Rat).SetString(b)
	return ok && fine && x.Cmp(y) == 0
}

// crowd is requests that were sent at once and are answered in their own time.
type crowd struct {
	mu      sync.Mutex
	wg      sync.WaitGroup
	answers map[int][]reply // by status
	errs    []error
}

// sendAtOnce sends n requests; user and header say as whom and with what, by the request's number.
func sendAtOnce(t *testing.T, url string, n int, user func(i int) string, header map[string]string) *crowd {
	t.Helper()
	c := &crowd{answers: map[int][]reply{}}
	for i := range n {
		c.wg.Go(func() {
			r, err := fetchWith(t.Context(), url, user(i), header)
			c.mu.Lock()
			defer c.mu.Unlock()
			if err != nil {
				c.errs = append(c.errs, err)
				return
			}
			c.answers[r.status] = append(c.answers[r.status], r)
		})
	}
	return c
}

// waitFor waits until n requests were answered with a status, and returns the answers.
func (c *crowd) waitFor(t *testing.T, n, status int) []reply {
	t.Helper()
	var found []reply
	harness.WaitFor(t, fmt.Sprintf("%d requests are answered with %d", n, status), func(context.Context) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if found = c.answers[status]; len(found) != n {
			return fmt.Errorf("%d are; errors: %v", len(found), c.errs)
		}
		return nil
	})
	return found
}

// one is the user of every request.
func one(user string) func(int) string { return func(int) string { return user } }

// checkReason checks by which limit answers were denied: "tier:name".
func checkReason(t *testing.T, denied []reply, want string) {
	t.Helper()
	for _, r := range denied {
		if got := r.header.Get("X-Ratelimitd-Reason"); got != want {
			t.Fatalf("denied for %q, want %q: %s", got, want, r.body)
		}
	}
}

// waitActive waits until so many of an Envoy's questions to ratelimitd are not answered.
func waitActive(t *testing.T, e *harness.EnvoyProxy, n int) {
	t.Helper()
	want := fmt.Sprintf("cluster.ratelimitd.upstream_rq_active: %d\n", n)
	harness.WaitFor(t, fmt.Sprintf("%d questions are under way", n), func(ctx context.Context) error {
		r, err := fetch(ctx, e.AdminURL+"/stats?filter=cluster.ratelimitd.upstream_rq_active", "")
		if err == nil && !strings.Contains(r.body, want) {
			err = fmt.Errorf("Envoy says %q", r.body)
		}
		return err
	})
}
