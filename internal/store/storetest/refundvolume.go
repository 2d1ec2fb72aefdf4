package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// refundPatience is how long the largest refund may take on a slow, busy machine.
const refundPatience = 2 * time.Second

// refundVolume shows that refunds from logs of many exact hits are right, and quick.
func refundVolume(t *testing.T, f *Fixture) {
	t.Helper()
	user, other := lim(store.ExactHits, hour), lim(store.ExactHits, 90*mins)
	const (
		many  = 4000
		apart = 200 * time.Millisecond
	)
	for i, v := range []struct {
		name    string
		between int // of so many hits, all but one are others'
		behind  int // so many more hits of others come last
		refunds []int64
	}{
		{"all of 4,000 hits at once", 1, 0, []int64{many}},
		{"more than there is", 1, 0, []int64{many + 50, 1}},
		{"a few, others' hits between", 3, 0, []int64{3, 1, 40}},
		{"a few, many hits of others behind", 2, 1500, []int64{1, 5, 200}},
		{"all, others' hits between and behind", 4, 300, []int64{many}},
	} {
		t.Run(v.name, func(t *testing.T) {
			w := &walk{caller: newCaller(t, f), model: newModel(), offsets: make(map[logName]int64)}
			w.start += int64(i) * us(1000*hour)
			w.reset(global)
			alice := store.Subject{Kind: "user", ID: fmt.Sprintf("alice %d", i)}
			bob := store.Subject{Kind: "user", ID: fmt.Sprintf("bob %d", i)}
			for n := range many {
				who := bob
				if n%v.between == 0 && n < many-v.behind {
					who = alice
				}
				w.goTo(w.start + us(apart))
				w.fill(hit(who, 1, user), hit(global, 1, other))
			}
			for _, amount := range v.refunds {
				w.goTo(w.start + us(sec))
				begun := time.Now()
				w.giveBack(call(hit(alice, 0, user), hit(global, 0, other)), amount)
				if took := time.Since(begun); took > refundPatience {
					t.Errorf("a refund of %d took %s, want at most %s", amount, took, refundPatience)
				}
				w.goTo(w.start + us(sec))
				w.ask(call(hit(alice, 2, user), hit(global, 2, other)))
				w.ask(call(hit(bob, 1, user), hit(global, 1, other)))
			}
			for range 20 {
				w.goTo(w.start + us(6*mins))
				w.ask(call(hit(alice, 1, user), hit(global, 1, other)))
			}
		})
	}
}

// fill takes hits that must pass, and has the model take them without asking it, since it is slow.
func (w *walk) fill(checks ...store.Check) {
	w.t.Helper()
	if ans := w.admit(checks...); !ans.Admitted {
		w.t.Fatalf("at %d: %s: denied: %+v", w.model.now, describe(checks), ans.States)
	}
	w.model.take(checks)
}
