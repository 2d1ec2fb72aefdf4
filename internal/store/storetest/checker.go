package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// record is one answered call of a concurrent run.
type record struct {
	admitted       bool
	now            int64 // the store's clock
	sent, received int64 // the caller's clock
	asked          []asked
}

// asked is one check of a recorded call and its answer.
type asked struct {
	log    int   // index into the checker's logs
	at     int64 // the log's own time of the answer
	amount int64
	seq    int64
	states []store.State
}

// checker proves from the answers alone that a concurrent run kept the contract. Limits must be enforced and exact, and
// the run shorter than every log's longest period, so that no sequence begins anew.
type checker struct {
	logs [][]store.Limit // the limits of each log, the same in every call
	// weak demands only what a store of two steps promises: no interval holds more than a limit, neither by each log's
	// own time nor by the callers' clock. A hit that was undone stands in no record, so that sequences have gaps.
	weak bool
}

// taken is one admitted hit of a log.
type taken struct {
	at             int64 // by the log's time, which never runs back
	sum            int64 // of all amounts so far, this one included
	amount         int64
	sent, received int64
}

// check returns what is wrong with a run, the first few of each kind; nothing if it kept the contract.
func (c *checker) check(records []record) []string {
	var wrong []string
	histories := make([][]taken, len(c.logs))
	for log := range c.logs {
		histories[log] = c.history(records, log)
		wrong = append(wrong, c.seenByCallers(log, histories[log])...)
		wrong = append(wrong, c.within(log, histories[log])...)
		if !c.weak {
			wrong = append(wrong, c.unbroken(log, histories[log])...)
		}
	}
	if !c.weak && len(wrong) == 0 { // a broken history would make every answer look wrong
		wrong = c.answers(records, histories)
	}
	return wrong
}

// history is a log's admitted hits in the order of their sequence; with the weak promise, which knows none, of their time.
func (c *checker) history(records []record, log int) []taken {
	var out []taken
	for i := range records {
		r := &records[i]
		for _, a := range r.asked {
			if r.admitted && a.log == log && a.amount > 0 {
				out = append(out, taken{at: a.at, sum: a.seq, amount: a.amount, sent: r.sent, received: r.received})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b taken) int {
		if c.weak {
			return cmp.Compare(a.at, b.at)
		}
		return cmp.Compare(a.sum, b.sum)
	})
	for i := 1; i < len(out); i++ {
		out[i].at = max(out[i].at, out[i-1].at)
	}
	return out
}

// unbroken finds gaps and repeats in a log's sequence: hits that no admitted call took, or that two calls share.
func (c *checker) unbroken(log int, hits []taken) []string {
	var wrong []string
	sum := int64(0)
	for _, h := range hits {
		if h.sum != sum+h.amount {
			wrong = append(wrong, fmt.Sprintf("log %d: an admitted hit of %d brought the sequence from %d to %d", log, h.amount, sum, h.sum))
		}
		sum = h.sum
	}
	return few(wrong)
}

// within finds intervals of a limit's period that hold more than the limit, by the log's own time.
func (c *checker) within(log int, hits []taken) []string {
	var wrong []string
	for _, l := range c.logs[log] {
		period, first, live := us(l.Period), 0, int64(0)
		for _, h := range hits {
			live += h.amount
			for hits[first].at+period <= h.at {
				live -= hits[first].amount
				first++
			}
			if live > l.Max {
				wrong = append(wrong, fmt.Sprintf("log %d: %d were admitted in the %s up to %d, limit %d", log, live, l.Period, h.at, l.Max))
			}
		}
	}
	return few(wrong)
}

// seenByCallers finds intervals that hold more than a limit whatever moments between asking and being answered the
// store took its hits at.
func (c *checker) seenByCallers(log int, hits []taken) []string {
	var wrong []string
	bySent := slices.Clone(hits)
	slices.SortFunc(bySent, func(a, b taken) int { return int(a.sent - b.sent) })
	for _, l := range c.logs[log] {
		for i, first := range bySent {
			sum := int64(0)
			for _, h := range bySent[i:] {
				if h.sent >= first.sent+us(l.Period) {
					break
				}
				if h.received < first.sent+us(l.Period) {
					sum += h.amount
				}
			}
			if sum > l.Max {
				wrong = append(wrong, fmt.Sprintf("log %d: callers were admitted %d within %s from %d, limit %d",
					log, sum, l.Period, first.sent, l.Max))
			}
		}
	}
	return few(wrong)
}

// answers finds answers that do not follow from the hits before them: uses that were not so, denials without need, and
// admissions without room.
func (c *checker) answers(records []record, histories [][]taken) []string {
	var wrong []string
	for i := range records {
		r := &records[i]
		fits := true
		for _, a := range r.asked {
			hits := histories[a.log]
			n := sort.Search(len(hits), func(i int) bool { return hits[i].sum > a.seq })
			now := a.at
			if n > 0 {
				now = max(now, hits[n-1].at)
			}
			for j, l := range c.logs[a.log] {
				used := live(hits[:n], us(l.Period), now)
				if used != a.states[j].Used {
					wrong = append(wrong, fmt.Sprintf("log %d at %d, sequence %d: %d/%s is used %d by the answer, %d by the hits before it",
						a.log, now, a.seq, l.Max, l.Period, a.states[j].Used, used))
				}
				if r.admitted {
					used -= a.amount
				}
				fits = fits && used+max(a.amount, 1) <= l.Max
			}
		}
		if fits != r.admitted {
			wrong = append(wrong, fmt.Sprintf("a call at %d was answered admitted=%v, but its windows say %v: %+v", r.now, r.admitted, fits, r.asked))
		}
	}
	return few(wrong)
}

// live is what of the hits is live in a window.
func live(hits []taken, period, now int64) int64 {
	first := sort.Search(len(hits), func(i int) bool { return now < hits[i].at+period })
	sum := int64(0)
	for _, h := range hits[first:] {
		sum += h.amount
	}
	return sum
}

// few is the first few of many findings.
func few(wrong []string) []string {
	const enough = 5
	if len(wrong) > enough {
		return append(wrong[:enough:enough], fmt.Sprintf("and %d more of this kind", len(wrong)-enough))
	}
	return wrong
}
