package storetest

import (
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// RunLapses tests that each lease that ends is told once, by whoever finds it over, of holds of a user and the system. told is how
// many the store of the fixture has told of so far.
func RunLapses(t *testing.T, f *Fixture, told func() int) {
	t.Helper()
	limits := []store.Limit{{Max: 100}}
	user, checks := store.Subject{Kind: "user", ID: "alice"}, []store.Check(nil)
	for _, subject := range []store.Subject{user, global} {
		checks = append(checks, store.Check{Subject: subject, Unit: store.Concurrent, Amount: 1, Limits: limits})
	}
	admit := func(req *store.Request) {
		t.Helper()
		if err := f.Store.Admit(t.Context(), req, new(store.Answer)); err != nil {
			t.Fatalf("Admit: %v", err)
		}
	}
	ask := func(id string) {
		t.Helper()
		admit(&store.Request{Checks: checks, Hold: &store.Hold{ID: id, Lease: store.MinLease, Slot: true}})
	}
	settle := func(id string) {
		t.Helper()
		st := &store.Settlement{Parts: []store.Part{{Subject: user}, {Subject: global}}, ID: id}
		if err := f.Store.Settle(t.Context(), st, new(store.Settled)); err != nil {
			t.Fatalf("Settle: %v", err)
		}
	}
	want := func(n int, after string) {
		t.Helper()
		if got := told(); got != n {
			t.Errorf("%d leases were told to have ended after %s, want %d", got, after, n)
		}
	}
	begin := time.Hour.Microseconds()
	f.Set(begin)
	ask("in time")
	ask("dies")
	ask("late")
	settle("in time")
	want(0, "three holds and a settlement in time")
	f.Set(begin + us(store.MinLease))
	settle("late")
	ask("next")
	ask("another")
	want(2, "a late settlement and further calls")
	f.Set(begin + us(time.Hour))
	admit(&store.Request{Look: true, Checks: checks[1:]})
	admit(&store.Request{Look: true, Checks: checks[:1]})
	want(4, "a look at the system alone, and one at the user")
}
