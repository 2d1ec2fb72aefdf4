package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// moneyFlood is one log of money under many holds, and what it must come to: for each hold its moment and its worth.
type moneyFlood struct {
	*story
	seed    uint64
	random  *rand.Rand
	now     int64
	at      []int64
	worth   []int64
	settled []bool
	limits  []store.Limit
}

// moneyVolume shows that logs of more holds than are kept apart stay right: the sum is exact, and a window errs only
// towards denying.
func moneyVolume(t *testing.T, f *Fixture) {
	t.Helper()
	for i, v := range []struct {
		name   string
		holds  int
		apart  time.Duration
		limits []store.Limit
	}{
		{"8,000 holds of a day", 8_000, 4 * sec, []store.Limit{lim(store.MaxAmount, day), lim(store.MaxAmount, 2*day)}},
		{"a short window beside a long one", 6_000, 10 * time.Millisecond, []store.Limit{lim(store.MaxAmount, 5*sec), lim(store.MaxAmount, 30*day)}},
		{"a calendar day beside a sliding one", 6_000, 10 * sec, []store.Limit{calendar(store.MaxAmount, utcDay()), lim(store.MaxAmount, 3*day)}},
	} {
		t.Run(v.name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			w := &moneyFlood{
				story: newStory(newCaller(t, f), i, v.name), seed: seed, random: rand.New(rand.NewPCG(seed, 0)), limits: v.limits,
			}
			w.flood(v.holds, v.apart)
		})
	}
}

// flood takes holds and settles them, most at once, some late, the last after all have been taken.
func (w *moneyFlood) flood(holds int, apart time.Duration) {
	w.t.Helper()
	w.now = w.start
	for n := range holds {
		w.now += us(apart)
		w.f.Set(w.now)
		w.hold(n)
		if n > 0 && w.random.IntN(10) > 0 {
			w.end(n - 1)
		}
		if w.random.IntN(20) == 0 {
			w.end(w.random.IntN(n + 1)) // out of what is merged by now
		}
	}
	for n := range holds {
		w.end(n)
	}
	w.drain()
}

// hold takes a hold and compares.
func (w *moneyFlood) hold(n int) {
	w.t.Helper()
	amount := 1 + w.random.Int64N(1e9)
	req := &store.Request{Checks: call(money(w.user, amount, w.limits...))}
	req.Hold = holdOf(fmt.Sprint(n), req.Checks)
	req.Hold.Lease = store.MaxLease
	if err := w.decide(req); err != nil || !w.ans.Admitted {
		w.t.Fatalf("seed %d, hold %d: %+v, %v", w.seed, n, w.ans, err)
	}
	w.at, w.worth, w.settled = append(w.at, w.now), append(w.worth, amount), append(w.settled, false)
	const every = 23 // to compare takes longer than to hold
	if n%every == 0 {
		w.compare(fmt.Sprintf("hold %d", n))
	}
}

// end settles a hold, if it is not yet.
func (w *moneyFlood) end(n int) {
	w.t.Helper()
	if w.settled[n] {
		return
	}
	w.settled[n], w.worth[n] = true, w.random.Int64N(1e9)
	var out store.Settled
	err := w.client().Settle(context.Background(), &store.Settlement{
		Parts: partsOf(call(money(w.user, 0, w.limits...))), ID: fmt.Sprint(n), Fingerprint: 1, USD: w.worth[n], Release: w.worth[n]%7 == 0,
	}, &out)
	if w.worth[n]%7 == 0 {
		w.worth[n] = 0
	}
	if err != nil || out.At != w.at[n] || out.USD != w.worth[n] {
		w.t.Fatalf("seed %d: the settlement of hold %d came to %+v, %v", w.seed, n, out, err)
	}
}

// compare compares the last answer's uses with the truth. A hold may count for longer than its window, by two sub-windows
// of it, and no hold may count for less.
func (w *moneyFlood) compare(what string) {
	w.t.Helper()
	for i := range w.limits {
		l := &w.limits[i]
		least, most := int64(0), int64(0)
		for n, at := range slices.Backward(w.at) {
			_, live := lives(l, at, w.now)
			_, late := lives(l, at+us(l.Period)/promise, w.now)
			if live {
				least += w.worth[n]
			}
			if live || late {
				most += w.worth[n]
			} else if l.Calendar == nil {
				break
			}
		}
		if used := w.ans.States[i].Used; used < least || used > most {
			w.t.Fatalf("seed %d, %s at %d: %s is used %d, want %d to %d", w.seed, what, w.now, describeLimit(*l), used, least, most)
		}
	}
}

// drain looks on while the money leaves the windows.
func (w *moneyFlood) drain() {
	w.t.Helper()
	last := w.limits[len(w.limits)-1].Period
	const looks = 100
	for n := range looks {
		if err := w.decide(&store.Request{Look: true, Checks: call(money(w.user, 0, w.limits...))}); err != nil {
			w.t.Fatalf("seed %d: a look: %v", w.seed, err)
		}
		w.compare(fmt.Sprintf("look %d", n))
		if w.ans.Held[0] != 0 {
			w.t.Fatalf("seed %d: %d is held after all has been settled", w.seed, w.ans.Held[0])
		}
		w.now += us(last) / (looks - 5)
		w.f.Set(w.now)
	}
	if w.ans.States[len(w.limits)-1].Used != 0 {
		w.t.Fatalf("seed %d: after all windows %d is used", w.seed, w.ans.States[len(w.limits)-1].Used)
	}
}
