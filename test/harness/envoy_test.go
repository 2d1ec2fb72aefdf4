package harness_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestEnvoyPassesWithoutRatelimitd has the shipped Envoy in front of an upstream, and no one to ask: it passes.
func TestEnvoyPassesWithoutRatelimitd(t *testing.T) {
	t.Parallel()
	u := harness.Upstream(t)
	e := harness.Envoy(t, harness.EnvoyFile, harness.Between(t, u.Addr, harness.Addr(t)))
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("status %d (%v), want 200: %s", res.StatusCode, err, body)
		}
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := u.Hits(); got != 3 {
		t.Errorf("%d requests reached the upstream, want 3", got)
	}
}

// TestRunEndsWhatItStarted runs a program's body that fails: what it registered still runs, last first.
func TestRunEndsWhatItStarted(t *testing.T) {
	t.Parallel()
	var order []int
	ok := harness.Run(func(t harness.TB) {
		t.Cleanup(func() { order = append(order, 1) })
		t.Cleanup(func() { order = append(order, 2) })
		t.Fatalf("this failure is on purpose")
	})
	if ok || len(order) != 2 || order[0] != 2 {
		t.Errorf("Run says %t and cleaned up in the order %v, want false and 2, 1", ok, order)
	}
}
