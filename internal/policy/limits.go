package policy

import (
	"cmp"
	"slices"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// newLimits sorts limits by unit and period and makes the store's form of them. An ordinal of -1 on the first of them
// is kept; numbering is the snapshot's.
func newLimits(plan string, all []Limit) *Limits {
	byUnit := map[store.Unit][]Limit{}
	for _, limit := range all {
		byUnit[limit.Unit] = append(byUnit[limit.Unit], limit)
	}
	limits := &Limits{Plan: plan}
	limits.Requests, limits.StoreRequests = windows(byUnit[store.Requests])
	limits.Tokens, limits.StoreTokens = windows(byUnit[store.Tokens])
	limits.USD, limits.StoreUSD = windows(byUnit[store.USD])
	if slots := byUnit[store.Concurrent]; len(slots) > 0 {
		limits.slots, limits.StoreConcurrent = windows(slots)
		limits.Concurrent = &limits.slots[0]
	}
	return limits
}

// windows sorts limits of one unit, the shortest period first, and returns them with the store's form of them.
func windows(limits []Limit) ([]Limit, []store.Limit) {
	slices.SortFunc(limits, func(a, b Limit) int { return cmp.Compare(a.Period, b.Period) })
	var stored []store.Limit
	for _, limit := range limits {
		stored = append(stored, store.Limit{
			Max: limit.Max, Period: limit.Period, Shadow: limit.Shadow, Calendar: limit.Calendar,
		})
	}
	return limits, stored
}

// all returns pointers to every limit, in the order of requests, tokens, USD, concurrent.
func (l *Limits) all() []*Limit {
	var all []*Limit
	for _, unit := range [][]Limit{l.Requests, l.Tokens, l.USD} {
		for i := range unit {
			all = append(all, &unit[i])
		}
	}
	if l.Concurrent != nil {
		all = append(all, l.Concurrent)
	}
	return all
}

// LookAt returns a check that only asks how all limits of a unit stand for a subject, whose stored override has this version.
// Without such limits there is none, which ok tells.
func (l *Limits) LookAt(subject store.Subject, unit store.Unit, version int64) (c Check, ok bool) {
	named, stored := l.of(unit)
	return Check{
		Check: store.Check{Subject: subject, Unit: unit, Limits: stored, Override: version},
		Tier:  subject.Kind, Limits: l, Named: named, origin: fromPolicy,
	}, len(stored) > 0
}
