package engine

import (
	"math/bits"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// result is what the store said about one check, reduced to the limit to name: of a denied check the enforced one with the
// longest wait, else the tightest.
type result struct {
	denied bool
	limit  int // index into the check's limits
	state  store.State
}

// reset makes dec the answer to a call that nothing applies to.
func (dec *Decision) reset(descriptors int) {
	dec.Mode, dec.Denied = Unmatched, false
	dec.Deciding = Status{}
	dec.Hold, dec.InStore = "", 0
	dec.Shadowed = dec.Shadowed[:0]
	dec.Statuses = dec.Statuses[:0]
	for range descriptors {
		dec.Statuses = append(dec.Statuses, Status{})
	}
}

// decide makes the status the deciding one if it says more than the one before: a denial before none, a longer wait before
// a shorter, a limit of requests before one of another unit, a smaller remainder before a larger.
func (dec *Decision) decide(st *Status) {
	if !st.Matched {
		return
	}
	old := &dec.Deciding
	if !old.Matched || st.tighter(old) {
		*old = *st
	}
}

func (st *Status) tighter(than *Status) bool {
	if st.Denied != than.Denied {
		return st.Denied
	}
	if st.Denied {
		return st.Wait > than.Wait
	}
	if (st.Limit == nil) != (than.Limit == nil) {
		return st.Limit != nil
	}
	if st.Limit != nil && (st.Limit.Unit == store.Requests) != (than.Limit.Unit == store.Requests) {
		return st.Limit.Unit == store.Requests // clients read rate limit headers as requests; other units do not compare
	}
	return st.Remaining < than.Remaining || st.Remaining == than.Remaining && st.Reset > than.Reset
}

// judge reduces the store's answer to one result per check.
func (sc *scratch) judge(checks []policy.Check, ans *store.Answer) {
	sc.results, sc.firsts = sc.results[:0], sc.firsts[:0]
	next := 0
	for i := range checks {
		sc.firsts = append(sc.firsts, next)
		sc.results = append(sc.results, judgeCheck(&checks[i], ans.States[next:]))
		next += len(checks[i].Check.Limits)
	}
}

func judgeCheck(check *policy.Check, states []store.State) result {
	limits := check.Check.Limits
	best := result{limit: -1}
	for i := range limits {
		if limits[i].Shadow {
			continue
		}
		next := result{denied: states[i].Wait > 0, limit: i, state: states[i]}
		if best.limit < 0 || next.before(best, limits) {
			best = next
		}
	}
	return best
}

func (r result) before(than result, limits []store.Limit) bool {
	if r.denied != than.denied {
		return r.denied
	}
	if r.denied {
		return r.state.Wait > than.state.Wait
	}
	mine, other := limits[r.limit].Max-r.state.Used, limits[than.limit].Max-than.state.Used
	return mine < other || mine == other && r.state.Reset > than.state.Reset
}

// decided turns the store's answer into the decision.
func (sc *scratch) decided(dec *Decision) {
	checks, ans := sc.resolution.Admit, &sc.answer
	if h := &ans.Hold; h.Repeat && h.Status == store.Active {
		sc.letPass()
	}
	dec.Mode, dec.Denied = Stored, !ans.Admitted
	for i, named := range sc.resolution.Of {
		if named.Admit == 0 {
			continue
		}
		st := &dec.Statuses[i]
		sc.answerDescriptor(st, checks, named.Admit)
		dec.decide(st)
	}
	for i := range checks {
		for j := range checks[i].Named {
			limit := &checks[i].Named[j]
			if limit.Shadow && ans.States[sc.firsts[i]+j].Wait > 0 {
				dec.Shadowed = append(dec.Shadowed, Shadowed{Tier: checks[i].Tier, Limit: limit})
			}
		}
	}
}

// letPass makes an answer that found its own hold one of a call that was admitted, which it was: a client of the store may send a
// question twice. The states are those after it, and would deny another such call.
func (sc *scratch) letPass() {
	sc.answer.Admitted = true
	for i := range sc.results {
		sc.results[i].denied = false
	}
}

// answerDescriptor answers a descriptor by the checks that it named, bit by bit: the one that denies it with the longest
// wait, else the tightest.
func (sc *scratch) answerDescriptor(st *Status, checks []policy.Check, named uint64) {
	*st = Status{Matched: true}
	for left := named; left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		next := sc.statusOf(&checks[i], sc.results[i])
		if st.Limit == nil || next.tighter(st) {
			*st = next
		}
	}
}

func (sc *scratch) statusOf(check *policy.Check, r result) Status {
	st := Status{Matched: true, Denied: r.denied, Tier: check.Tier}
	if r.limit < 0 { // shadow limits only
		return st
	}
	st.Limit = &check.Named[r.limit]
	st.Remaining = max(0, st.Limit.Max-r.state.Used)
	st.Reset = r.state.Reset
	if r.denied {
		st.Wait = r.state.Wait
	}
	return st
}
