package storetest

import (
	"fmt"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// promise says how much later than its time a hit of a coarse window may be dated: a part of the longest window of the
// log. It is two sub-windows of T/512, since hits merged for one window may be merged again for another.
const promise = store.SubWindows / 2

// truth is every admitted hit of one log, in the order of time, with sums: a model fit for many hits.
type truth struct {
	at  []int64
	sum []int64
}

// add adds a hit.
func (h *truth) add(at, amount int64) {
	h.at = append(h.at, at)
	h.sum = append(h.sum, h.total()+amount)
}

// total is the sum of all hits.
func (h *truth) total() int64 {
	if len(h.sum) == 0 {
		return 0
	}
	return h.sum[len(h.sum)-1]
}

// used is what is live in a window, hit by hit.
func (h *truth) used(period, now int64) int64 {
	i := sort.Search(len(h.at), func(i int) bool { return now < h.at[i]+period })
	if i == 0 {
		return h.total()
	}
	return h.total() - h.sum[i-1]
}

// flood is one log under many hits.
type flood struct {
	*caller
	truth   truth
	now     int64
	check   store.Check
	longest time.Duration // the longest period that any call asks for
}

// step asks once and compares: exact windows are exact, others err only towards denying and by no more than the promise.
func (w *flood) step() bool {
	w.t.Helper()
	w.f.Set(w.now)
	ans := w.admit(w.check)
	must, may := true, true // what a store that errs by the promise says, and one that does not err
	for _, l := range w.check.Limits {
		need := max(w.check.Amount, 1)
		must = must && (l.Shadow || w.truth.used(w.late(l), w.now)+need <= l.Max)
		may = may && (l.Shadow || w.truth.used(us(l.Period), w.now)+need <= l.Max)
	}
	if ans.Admitted && !may {
		w.t.Fatalf("hit %d: %s: admitted over the limit: %+v", len(w.truth.at), describe([]store.Check{w.check}), ans.States)
	}
	if !ans.Admitted && must {
		w.t.Fatalf("hit %d: %s: denied without need: %+v", len(w.truth.at), describe([]store.Check{w.check}), ans.States)
	}
	if ans.Admitted && w.check.Amount > 0 {
		w.truth.add(w.now, w.check.Amount)
	}
	for i, l := range w.check.Limits {
		least, most := w.truth.used(us(l.Period), w.now), w.truth.used(w.late(l), w.now)
		if used := ans.States[i].Used; used < least || used > most {
			w.t.Fatalf("hit %d: %s: limit %s is used %d, want %d to %d",
				len(w.truth.at), describe([]store.Check{w.check}), describeLimit(l), used, least, most)
		}
	}
	return ans.Admitted
}

// late is how long a hit may count in a window, exactly so long if the window is exact.
func (w *flood) late(l store.Limit) int64 {
	if w.check.Unit == store.Requests && l.Max <= store.ExactHits && !l.Shadow {
		return us(l.Period)
	}
	return us(l.Period) + us(w.longest)/promise
}

// volume shows that logs of many hits stay right.
func volume(t *testing.T, f *Fixture) {
	t.Helper()
	for i, v := range []struct {
		name   string
		hits   int
		apart  time.Duration
		check  store.Check
		denied int // how many of the hits are denied, at most
	}{
		{"20,000 hits on a limit of a million a day", 20_000, 3 * sec, hit(alice, 1, lim(1_000_000, day)), 0},
		{"an exact minute beside a coarse day", 7_000, 70 * time.Millisecond, hit(alice, 1, lim(860, mins), lim(1_000_000, day)), 20},
		{"a watched limit that is long passed", 6_000, sec, hit(alice, 1, shadow(10, hour), lim(4000, hour)), 0},
		{"tokens in small amounts", 6_000, sec, spend(store.Tokens, alice, 7, lim(1_000_000, day)), 0},
		{"a full exact window", 4_200, sec, hit(alice, 1, lim(store.ExactHits, 2*hour)), 4_200 - store.ExactHits},
	} {
		t.Run(v.name, func(t *testing.T) {
			w := newFlood(t, f, i, v.check)
			denied := 0
			for n := range v.hits {
				if n == v.hits/2 && f.Disturb != nil {
					f.Disturb()
				}
				if !w.step() {
					denied++
				}
				w.now += us(v.apart)
			}
			if denied > v.denied {
				t.Errorf("%d of %d hits were denied, want at most %d", denied, v.hits, v.denied)
			}
			w.drain()
		})
	}
}

// newFlood begins a flood of a subject and a time of its own.
func newFlood(t *testing.T, f *Fixture, i int, check store.Check) *flood {
	t.Helper()
	c := newCaller(t, f)
	check.Subject.ID = fmt.Sprintf("%s %d", t.Name(), i)
	w := &flood{caller: c, check: check, now: epoch + int64(i)*us(1000*hour)}
	for _, l := range check.Limits {
		w.longest = max(w.longest, l.Period)
	}
	return w
}

// drain looks on while the hits leave the windows.
func (w *flood) drain() {
	w.t.Helper()
	w.check.Amount = 0
	last := w.check.Limits[len(w.check.Limits)-1]
	const looks = 300
	for range looks {
		w.step()
		w.now += us(last.Period) / (looks - 10)
	}
	if used := w.truth.used(w.late(last), w.now); used != 0 {
		w.t.Fatalf("the suite looked on for too short a time: %d hits are left", used)
	}
}

// coarse floods logs at random. rapid prints its seed when a run fails.
func coarse(t *testing.T, f *Fixture) {
	t.Helper()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		w := newFlood(t, f, 0, hit(store.Subject{Kind: "user"}, 1, lim(0, mins)))
		defer func() { w.t = t }()
		w.t = rt
		w.check.Subject.ID = fmt.Sprintf("coarse %d", run)
		w.now += int64(run) * us(hour)
		w.check.Unit = rapid.SampledFrom([]store.Unit{store.Requests, store.Tokens}).Draw(rt, "unit")
		periods := []time.Duration{10 * sec, 30*sec + micro, mins}
		for range rapid.IntRange(20, 120).Draw(rt, "calls") {
			w.check.Limits = nil
			for _, p := range periods[rapid.IntRange(0, 2).Draw(rt, "from"):] {
				w.check.Limits = append(w.check.Limits, store.Limit{
					Max:    rapid.SampledFrom([]int64{20_000, 5000, 4097}).Draw(rt, "max"),
					Period: p,
					Shadow: rapid.IntRange(0, 7).Draw(rt, "shadow") == 7,
				})
			}
			w.check.Amount = rapid.SampledFrom([]int64{100, 1, 700, 0, 2500, 6000}).Draw(rt, "amount")
			w.step()
			w.now += rapid.OneOf(rapid.Int64Range(0, us(10*sec)/store.SubWindows*2), rapid.Int64Range(0, us(4*sec))).Draw(rt, "pass")
		}
	})
}
