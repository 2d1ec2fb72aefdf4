package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// crowds shows that many calls at one moment come to what one after the other would.
func crowds(t *testing.T, f *Fixture) {
	t.Helper()
	f.Set(epoch)
	clients := []store.Store{f.Another(), f.Another(), f.Another(), f.Another()}
	for _, v := range []struct {
		name string
		fits int64 // calls
		ask  func(store.Subject) []store.Check
		two  bool // of two subjects, so that a store of two steps may deny more
	}{
		{"money", 14, func(s store.Subject) []store.Check { return call(money(s, 7, lim(100, day))) }, false},
		{"tokens", 33, func(s store.Subject) []store.Check { return call(tokens(s, 3, lim(100, mins))) }, false},
		{"slots", 25, func(s store.Subject) []store.Check { return call(slot(s, 25)) }, false},
		{"all of them", 9, func(s store.Subject) []store.Check {
			return call(hit(s, 1, lim(30, mins)), tokens(s, 3, lim(60, mins)), money(s, 11, lim(100, day)), slot(s, 20))
		}, false},
		{"a user's and all users' money", 14, func(s store.Subject) []store.Check {
			return call(money(s, 7, lim(300, day)), slot(s, 200), money(global, 7, lim(100, day)))
		}, true},
	} {
		t.Run(v.name, func(t *testing.T) {
			s := store.Subject{Kind: "user", ID: "crowd of " + v.name}
			const calls = 200
			var admitted atomic.Int64
			together(t, clients, calls, func(client store.Store, n int) error {
				ans, checks := new(store.Answer), v.ask(s)
				err := client.Admit(context.Background(), &store.Request{Checks: checks, Hold: holdOf(fmt.Sprintf("call %d", n), checks)}, ans)
				if err == nil && ans.Admitted {
					admitted.Add(1)
				}
				return err
			})
			got := admitted.Load()
			mayDeny := v.two && f.TwoStep
			if got > v.fits || (got < v.fits && !mayDeny) {
				t.Errorf("of %d calls at once %d were admitted, want the %d that fit", calls, got, v.fits)
			}
			checks := v.ask(s)
			ans := newCaller(t, f).admit(looking(checks)...)
			next := 0
			for i := range checks {
				if want := got * checks[i].Amount; ans.States[next].Used != want {
					t.Errorf("%s has used %d %s, want %d", name(checks[i].Subject), ans.States[next].Used, checks[i].Unit, want)
				}
				next += len(checks[i].Limits)
			}
		})
	}
	t.Run("1,000 settlements of one hold book once", func(t *testing.T) { settleCrowd(t, f, clients) })
}

// looking are checks that ask for nothing.
func looking(checks []store.Check) []store.Check {
	out := append([]store.Check(nil), checks...)
	for i := range out {
		out[i].Amount = 0
	}
	return out
}

// together makes many calls at once.
func together(t *testing.T, clients []store.Store, calls int, do func(store.Store, int) error) {
	t.Helper()
	var group sync.WaitGroup
	begin := make(chan struct{})
	for n := range calls {
		group.Go(func() {
			<-begin
			if err := do(clients[n%len(clients)], n); err != nil {
				t.Errorf("call %d: %v", n, err)
			}
		})
	}
	close(begin)
	group.Wait()
}

// settleCrowd settles one hold a thousand times at once.
func settleCrowd(t *testing.T, f *Fixture, clients []store.Store) {
	t.Helper()
	const calls, held, actual = 1000, 70, 45
	c := newCaller(t, f)
	s := store.Subject{Kind: "user", ID: "settled by a crowd"}
	checks := call(money(s, held, lim(100, day)), slot(s, 1), money(global, held, lim(store.MaxAmount, 2*day)))
	req := &store.Request{Checks: checks, Hold: holdOf("one", checks)}
	before := c.admit(money(global, 0, lim(store.MaxAmount, 2*day))).States[0].Used
	if err := c.decide(req); err != nil || !c.ans.Admitted {
		t.Fatalf("%s: %+v, %v", describe(checks), c.ans, err)
	}
	var first, repeats atomic.Int64
	together(t, clients, calls, func(client store.Store, _ int) error {
		var out store.Settled
		err := client.Settle(context.Background(), &store.Settlement{
			Parts: partsOf(checks), ID: "one", Fingerprint: 2, USD: actual, Book: epoch,
		}, &out)
		switch {
		case err != nil:
		case out.Was != store.Active || out.USD != actual || out.HeldUSD != held:
			return fmt.Errorf("settled as %+v, want %d of %d held", out, actual, held)
		case out.Repeat:
			repeats.Add(1)
		default:
			first.Add(1)
		}
		return err
	})
	if first.Load() != 1 || repeats.Load() != calls-1 {
		t.Errorf("%d settlements were the first and %d repeats, want 1 and %d", first.Load(), repeats.Load(), calls-1)
	}
	wantUsed(t, c.admit(looking(checks)...), actual, 0, before+actual)
}
