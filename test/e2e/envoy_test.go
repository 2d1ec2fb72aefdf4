package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// onEachStore runs a test on the embedded store and on a Redis.
func onEachStore(t *testing.T, test func(t *testing.T, env harness.Env)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, harness.Env{})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, onRedis(harness.Redis(t)))
	})
}

// TestEnvoyTakesTheShippedConfiguration has Envoy check the file that the docs show, as it stands.
func TestEnvoyTakesTheShippedConfiguration(t *testing.T) {
	t.Parallel()
	harness.CheckEnvoy(t, harness.EnvoyFile)
}

// TestTenPassAndTheEleventhIsTold sends 11 requests under the production policy: 10 reach the upstream, and the last one
// is told by which limit it was denied and when to come back.
func TestTenPassAndTheEleventhIsTold(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, env harness.Env) {
		s := newStack(t, with(env, "RATELIMITD_POLICY", "production"))
		for i := range 10 {
			r := get(t, s.envoy.URL, "123")
			if r.status != http.StatusOK {
				t.Fatalf("request %d: status %d, want 200: %s", i+1, r.status, r.body)
			}
			checkWindow(t, r, 10, 9-i)
			for _, name := range []string{"Retry-After", "X-Ratelimitd-Reason"} {
				if got := r.header.Get(name); got != "" {
					t.Errorf("request %d passed and says %s: %s", i+1, name, got)
				}
			}
		}
		checkDenial(t, get(t, s.envoy.URL, "123"))
		if got := s.upstream.Hits(); got != 10 {
			t.Errorf("%d requests reached the upstream, want 10", got)
		}
		if r := get(t, s.envoy.URL, "124"); r.status != http.StatusOK {
			t.Errorf("another user gets %d, want 200: %s", r.status, r.body)
		}
	})
}

// TestShippedTimeouts is TestTenPassAndTheEleventhIsTold with nothing replaced in the shipped configuration but ports,
// and a daemon with its own defaults. A busy machine may make an Envoy with such a timeout pass a request unasked; then
// another user tries again.
func TestShippedTimeouts(t *testing.T) {
	t.Parallel()
	u := harness.Upstream(t)
	env := with(onRedis(harness.Redis(t)), "RATELIMITD_DECISION_TIMEOUT", "")
	d := harness.Daemon(t, withPolicy(t, env, limits{user: "10/minute", global: "1000000/hour"}.text()))
	e := harness.Envoy(t, harness.EnvoyFile, harness.Ports(t, u.Addr, d.GRPCAddr))
	var user int
	harness.WaitFor(t, "a user is answered in time, 11 times in a row", func(ctx context.Context) error {
		user++
		for i := range 11 {
			r, err := fetch(ctx, e.URL, strconv.Itoa(user))
			if err == nil && !r.asked() {
				err = errors.New("an answer has no numbers")
			}
			if err != nil {
				return err
			}
			if want := map[bool]int{true: http.StatusOK, false: http.StatusTooManyRequests}[i < 10]; r.status != want {
				t.Fatalf("request %d: status %d, want %d: %s", i+1, r.status, want, r.body)
			}
		}
		return nil
	})
}

// checkWindow compares the X-RateLimit headers with a limit per minute.
func checkWindow(t *testing.T, r reply, limit, remaining int) {
	t.Helper()
	if got, _, _ := strings.Cut(r.header.Get("X-Ratelimit-Limit"), ","); got != strconv.Itoa(limit) {
		t.Errorf("X-RateLimit-Limit is %q, want it to begin with %d", r.header.Get("X-Ratelimit-Limit"), limit)
	}
	if got := r.header.Get("X-Ratelimit-Remaining"); got != strconv.Itoa(remaining) {
		t.Errorf("X-RateLimit-Remaining is %q, want %d", got, remaining)
	}
	if reset, err := r.number("X-Ratelimit-Reset"); err != nil || reset < 0 || reset > 60 {
		t.Errorf("X-RateLimit-Reset is %d (%v), want 0 to 60 seconds", reset, err)
	}
}

// checkDenial compares a denial by 10 requests per minute with what is promised of it.
func checkDenial(t *testing.T, r reply) {
	t.Helper()
	if r.status != http.StatusTooManyRequests {
		t.Fatalf("status %d, want 429: %s", r.status, r.body)
	}
	checkWindow(t, r, 10, 0)
	retry, err := r.number("Retry-After")
	if err != nil || retry < 1 || retry > 60 {
		t.Errorf("Retry-After is %d (%v), want 1 to 60 seconds", retry, err)
	}
	for name, want := range map[string]string{
		"X-Ratelimitd-Reason": "user:minute", "Content-Type": "application/json",
	} {
		if got := r.header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q, once", name, got, want)
		}
	}
	var problem map[string]any
	if err := json.Unmarshal([]byte(r.body), &problem); err != nil {
		t.Fatalf("the body is no JSON: %v: %s", err, r.body)
	}
	for field, want := range map[string]any{
		"detail": "Rate limit exceeded: 10 requests per minute", "title": "Too Many Requests",
		"status": 429.0, "tier": "user", "limit": 10.0, "remaining": 0.0, "retry_after": float64(retry),
	} {
		if got := problem[field]; got != want {
			t.Errorf("the body's %s is %v, want %v", field, got, want)
		}
	}
	if kind, _ := problem["type"].(string); !strings.Contains(kind, ":") {
		t.Errorf("the body's type is %v, want a URI", problem["type"])
	}
	text, _ := problem["resets_at"].(string)
	if at, err := time.Parse(time.RFC3339, text); err != nil || time.Until(at) > 61*time.Second {
		t.Errorf("the body's resets_at is %q (%v), want a time within the next minute", text, err)
	}
}

// TestAfterRetryAfterTheNextPasses spends a short window, waits as long as it is told, and passes at once.
func TestAfterRetryAfterTheNextPasses(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, env harness.Env) {
		s := newStack(t, withPolicy(t, env, limits{user: "3/2s", global: "100000/hour"}.text()))
		denied := spend(t, s.envoy.URL, "123")
		retry, err := denied.number("Retry-After")
		if err != nil || retry < 1 || retry > 2 {
			t.Fatalf("Retry-After is %d (%v), want 1 or 2 seconds", retry, err)
		}
		<-time.After(time.Duration(retry) * time.Second)
		if r := get(t, s.envoy.URL, "123"); r.status != http.StatusOK {
			t.Errorf("after Retry-After the status is %d, want 200: %s", r.status, r.body)
		}
	})
}

// spend sends requests until one is denied, and returns that answer.
func spend(t *testing.T, url, user string) reply {
	t.Helper()
	for range 100 {
		if r := get(t, url, user); r.status != http.StatusOK {
			if r.status != http.StatusTooManyRequests {
				t.Fatalf("status %d, want 200 or 429: %s", r.status, r.body)
			}
			return r
		}
	}
	t.Fatal("100 requests passed, want a denial")
	return reply{}
}

// TestTwoSidecarsShareOneLimit has two Envoys ask two daemons with one Redis, at once: as many requests pass as if there
// were one of each.
func TestTwoSidecarsShareOneLimit(t *testing.T) {
	t.Parallel()
	const limit, workers, each = 60, 16, 10
	env := withPolicy(t, onRedis(harness.Redis(t)), limits{user: "60/hour", global: "100000/hour"}.text())
	stacks := [2]*stack{newStack(t, env), newStack(t, env)}
	var wg sync.WaitGroup
	answers := make(chan reply, workers*each)
	for w := range workers {
		wg.Go(func() {
			for range each {
				r, err := fetch(t.Context(), stacks[w%2].envoy.URL, "123")
				if err != nil {
					t.Error(err)
					continue
				}
				answers <- r
			}
		})
	}
	wg.Wait()
	close(answers)
	left := map[string]bool{}
	var passed, denied int
	for r := range answers {
		switch r.status {
		case http.StatusOK:
			passed++
			if n := r.header.Get("X-Ratelimit-Remaining"); n == "" || left[n] {
				t.Errorf("X-RateLimit-Remaining is %q, want a number that no other request was told", n)
			} else {
				left[n] = true
			}
		case http.StatusTooManyRequests:
			denied++
		default:
			t.Errorf("status %d, want 200 or 429: %s", r.status, r.body)
		}
	}
	if passed != limit || denied != workers*each-limit {
		t.Errorf("%d passed and %d were denied, want %d and %d", passed, denied, limit, workers*each-limit)
	}
	if got := stacks[0].upstream.Hits() + stacks[1].upstream.Hits(); got != limit {
		t.Errorf("%d requests reached the upstreams, want %d", got, limit)
	}
	for i, s := range stacks {
		if got := statsOf(t, s.daemon, "123").Limits["hour"].Current; got != limit {
			t.Errorf("daemon %d says that %d are used, want %d", i, got, limit)
		}
	}
}

// TestUnknownDomainPasses asks for a domain that the policy does not know.
func TestUnknownDomainPasses(t *testing.T) {
	t.Parallel()
	d, u := harness.Daemon(t, harness.Env{"RATELIMITD_POLICY": "testing"}), harness.Upstream(t)
	e := harness.Envoy(t, harness.EnvoyFile,
		harness.Between(t, u.Addr, d.GRPCAddr).With("domain: assistant", "domain: elsewhere"))
	for range 30 {
		if r := get(t, e.URL, "123"); r.status != http.StatusOK || r.asked() {
			t.Fatalf("status %d with headers %v, want 200 without any limit", r.status, r.header)
		}
	}
}

// TestRequestsWithoutUserShareOneLimit sends requests that name no user, as the shipped configuration describes them.
func TestRequestsWithoutUserShareOneLimit(t *testing.T) {
	t.Parallel()
	s := newStack(t, harness.Env{"RATELIMITD_POLICY": "production"})
	for i := range 10 {
		if r := get(t, s.envoy.URL, ""); r.status != http.StatusOK {
			t.Fatalf("request %d: status %d, want 200: %s", i+1, r.status, r.body)
		}
	}
	checkDenial(t, get(t, s.envoy.URL, ""))
	if r := get(t, s.envoy.URL, "123"); r.status != http.StatusOK {
		t.Errorf("a user gets %d, want 200: %s", r.status, r.body)
	}
}

// TestPingingEnvoyKeepsItsConnection has an idle Envoy ping, again and again: the daemon does not take that for an attack
// and close the connection.
func TestPingingEnvoyKeepsItsConnection(t *testing.T) {
	t.Parallel()
	d, u := harness.Daemon(t, nil), harness.Upstream(t)
	e := harness.Envoy(t, harness.EnvoyFile, harness.Between(t, u.Addr, d.GRPCAddr).
		With("connection_keepalive: { interval: 10s, timeout: 2s }", "connection_keepalive: { interval: 1.5s, timeout: 60s }"))
	get(t, e.URL, "123")
	<-time.After(9 * time.Second) // the time of six pings; gRPC's own patience ends with the third
	if r := get(t, e.URL, "123"); r.header.Get("X-Ratelimit-Remaining") != "8" {
		t.Errorf("after the pings X-RateLimit-Remaining is %q, want 8", r.header.Get("X-Ratelimit-Remaining"))
	}
	stats := get(t, e.AdminURL+"/stats?filter=cluster.ratelimitd.upstream_cx", "").body
	for _, want := range []string{"upstream_cx_total: 1\n", "upstream_cx_destroy: 0\n"} {
		if !strings.Contains(stats, "cluster.ratelimitd."+want) {
			t.Errorf("Envoy does not say %s:\n%s", strings.TrimSpace(want), stats)
		}
	}
}
