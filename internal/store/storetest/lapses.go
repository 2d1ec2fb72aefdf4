package storetest

import (
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// RunLapses tests that each lease that ends is told once, by whoever finds it over, of holds of a user and the system, with the money
// that it leaves charged. told is how many leases the store of the fixture has told of so far, and nano-USD.
func RunLapses(t *testing.T, f *Fixture, told func() (leases int, usd int64)) {
	t.Helper()
	const each = 100 // nano-USD of a hold
	slots, budget := []store.Limit{{Max: 100}}, []store.Limit{{Max: 1000, Period: day}}
	user, checks := store.Subject{Kind: "user", ID: "alice"}, []store.Check(nil)
	for _, subject := range []store.Subject{user, global} {
		checks = append(checks,
			store.Check{Subject: subject, Unit: store.USD, Amount: each, Limits: budget},
			store.Check{Subject: subject, Unit: store.Concurrent, Amount: 1, Limits: slots})
	}
	admit := func(req *store.Request) {
		t.Helper()
		ans := new(store.Answer)
		if err := f.Store.Admit(t.Context(), req, ans); err != nil || !ans.Admitted {
			t.Fatalf("Admit: %v, %v", ans.Admitted, err)
		}
	}
	ask := func(id string, givesBack bool) {
		t.Helper()
		admit(&store.Request{Checks: checks, Hold: &store.Hold{
			ID: id, Lease: store.MinLease, Slot: true, USD: each, ReleaseOnExpiry: givesBack,
		}})
	}
	settle := func(id string) {
		t.Helper()
		st := &store.Settlement{Parts: []store.Part{{Subject: user, USD: day}, {Subject: global, USD: day}}, ID: id, USD: 1}
		if err := f.Store.Settle(t.Context(), st, new(store.Settled)); err != nil {
			t.Fatalf("Settle: %v", err)
		}
	}
	want := func(leases int, usd int64, after string) {
		t.Helper()
		if n, nano := told(); n != leases || nano != usd {
			t.Errorf("%d leases and %d nano-USD were told after %s, want %d and %d", n, nano, after, leases, usd)
		}
	}
	begin := time.Hour.Microseconds()
	f.Set(begin)
	ask("in time", false)
	ask("dies", false)
	ask("dies and gives back", true)
	ask("late", false)
	settle("in time")
	want(0, 0, "four holds and a settlement in time")
	f.Set(begin + us(store.MinLease))
	settle("late")
	ask("next", false)
	ask("another", true)
	want(3, 2*each, "a late settlement and further calls")
	f.Set(begin + us(time.Hour))
	admit(&store.Request{Look: true, Checks: checks[2:]})
	admit(&store.Request{Look: true, Checks: checks[:2]})
	want(5, 3*each, "a look at the system alone, and one at the user")
}
