package storetest

import (
	"math/rand/v2"

	"pgregory.net/rapid"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// burst is many calls in a short time, on one log or on a user's and the global one, of two policies in turn, and now
// and then a refund between them: logs grow, are laid out anew, and windows move over many hits.
func (w *walk) burst(rt *rapid.T) {
	const (
		mostBursts = 4  // of one run, to keep it short
		paceCalls  = 10 // made at one pace
	)
	if w.bursts == mostBursts {
		return
	}
	w.bursts++
	calls := rapid.SampledFrom([]int{300, 50, 120, 200}).Draw(rt, "calls")
	paces := rapid.SliceOfN(rapid.SampledFrom([]int64{
		0, 1, 10, 1000, 1000, 20_000, us(longest) / 250, us(longest) / 20,
	}), 1, 4).Draw(rt, "paces") // most microseconds from one call to the next
	refunds := rapid.SampledFrom([]int{0, 0, 7, 40}).Draw(rt, "refund after")
	shift := rapid.SampledFrom([]int{1, 10, 100}).Draw(rt, "policy for")
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
	policies := [][][]store.Limit{{w.roomy(rt), w.roomy(rt)}, {w.roomy(rt), w.roomy(rt)}}
	subjects := []store.Subject{rapid.SampledFrom(w.subjects[:3]).Draw(rt, "subject"), global}
	subjects = subjects[rapid.IntRange(0, 1).Draw(rt, "from"):]
	subjects = subjects[:rapid.IntRange(1, len(subjects)).Draw(rt, "subjects")]
	for n := range calls {
		checks := make([]store.Check, len(subjects))
		for i, s := range subjects {
			checks[i] = hit(s, 1, policies[n/shift%2][i]...)
			checks[i].Override = w.model.overrides[s].Version
		}
		if refunds > 0 && n%refunds == refunds-1 {
			w.giveBack(checks, random.Int64N(6))
		} else {
			w.ask(checks)
		}
		w.goTo(w.start + random.Int64N(paces[n/paceCalls%len(paces)]+1))
		w.told = w.told[:0]
	}
}

// roomy draws a policy, or windows of its own, that leaves room for a burst: a limit below it would deny nearly all.
func (w *walk) roomy(rt *rapid.T) []store.Limit {
	drawn := w.limits(rt)
	if rapid.IntRange(0, 4).Draw(rt, "as it is") == 4 {
		return drawn
	}
	out := make([]store.Limit, len(drawn))
	for i, l := range drawn {
		l.Max = max(l.Max, rapid.SampledFrom([]int64{store.ExactHits, 1000, 150}).Draw(rt, "room"))
		out[i] = l
	}
	return out
}
