package redis

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestOpenHoldsOutliveTheirLedgers shows that what a ledger holds can be counted down for as long as the ledger is there.
func TestOpenHoldsOutliveTheirLedgers(t *testing.T) {
	server := harness.Redis(t)
	s := openStore(t, Options{Addrs: []string{server.Addr}})
	user := store.Subject{Kind: "user", ID: "idle"}
	day, year := []store.Limit{{Max: 100, Period: 24 * time.Hour}}, []store.Limit{{Max: 100, Period: store.MaxPeriod}}
	ttl := func(key string) time.Duration {
		t.Helper()
		left, err := server.Client.PTTL(t.Context(), subjectKey(user)+key).Result()
		if err != nil || left <= 0 {
			t.Fatalf("key %q lives for %s, %v; want it to end", key, left, err)
		}
		return left
	}
	var ans store.Answer
	req := holdRequest(user, "a")
	req.Checks[1].Limits = day
	if err := s.Admit(t.Context(), req, &ans); err != nil || !ans.Admitted {
		t.Fatal(ans, err)
	}
	if open, ledger := ttl("h"), ttl("u"); open < ledger {
		t.Errorf("open holds live for %s, their ledger for %s", open, ledger)
	}
	// Another policy that asks for a longer window keeps the ledger for longer.
	look := store.Request{Look: true, Checks: []store.Check{{Subject: user, Unit: store.USD, Limits: year}}}
	if err := s.Admit(t.Context(), &look, &ans); err != nil {
		t.Fatal(err)
	}
	if open, ledger := ttl("h"), ttl("u"); open < ledger || ledger < store.MaxPeriod {
		t.Errorf("after a look at a year: open holds live for %s, their ledger for %s", open, ledger)
	}
	for _, key := range []string{"r", "h:a"} {
		ttl(key)
	}
}

// TestAClockThatWasAheadGivesNothingBack shows that a decision that takes nothing leaves the windows where they are: when Redis's
// clock is put back, what has seemed to leave them is there again.
func TestAClockThatWasAheadGivesNothingBack(t *testing.T) {
	server := harness.Redis(t)
	var now atomic.Int64
	opt := Options{Addrs: []string{server.Addr}}
	s := openStore(t, *opt.WithClock(now.Load))
	user := store.Subject{Kind: "user", ID: "traveller"}
	const begin = 1_700_000_000_000_000
	day := []store.Limit{{Max: 10, Period: 24 * time.Hour}}
	for _, unit := range []store.Unit{store.Requests, store.USD} {
		take := func(at time.Duration, amount int64) store.Answer {
			t.Helper()
			now.Store(begin + at.Microseconds())
			var ans store.Answer
			req := store.Request{Checks: []store.Check{{Subject: user, Unit: unit, Amount: amount, Limits: day}}}
			if err := s.Admit(t.Context(), &req, &ans); err != nil {
				t.Fatal(err)
			}
			return ans
		}
		if ans := take(0, 6); !ans.Admitted {
			t.Fatalf("%s: %+v, want it admitted", unit, ans)
		}
		if ans := take(25*time.Hour, 11); ans.Admitted || ans.States[0].Used != 0 {
			t.Errorf("%s a day ahead: %+v, want a denial over nothing used", unit, ans)
		}
		if ans := take(time.Hour, 6); ans.Admitted || ans.States[0].Used != 6 {
			t.Errorf("%s back again: %+v, want a denial over 6 used", unit, ans)
		}
	}
}
