package policy

import "github.com/ratelimitd/ratelimitd/internal/store"

// spreadUnits makes of the one check per subject one for each unit that the subject has limits of, in Admit, and has Of name
// them all.
func (out *Resolution) spreadUnits(hold *Hold) {
	var of [MaxHeld + 1]uint64 // per subject, the bits of its checks
	for i := range out.subjects {
		subject := &out.subjects[i]
		start := len(out.Admit)
		for _, unit := range [units]store.Unit{store.Requests, store.Tokens, store.USD, store.Concurrent} {
			if unit == store.Concurrent && !hold.Slot {
				continue
			}
			named, stored := subject.Limits.of(unit)
			if len(named) == 0 {
				continue
			}
			check := *subject
			check.Unit, check.Named, check.Check.Limits = unit, named, stored
			check.Amount = hold.amount(unit, subject.Amount)
			out.Admit = append(out.Admit, check)
		}
		of[i] = (uint64(1)<<(len(out.Admit)-start) - 1) << start
	}
	for i := range out.Of {
		subjects, checks := out.Of[i].Admit, uint64(0)
		for at := 0; subjects != 0; at, subjects = at+1, subjects>>1 {
			if subjects&1 != 0 {
				checks |= of[at]
			}
		}
		out.Of[i].Admit = checks
	}
}

// amount is what a request asks of a unit.
func (h *Hold) amount(unit store.Unit, requests int64) int64 {
	switch unit {
	case store.Requests:
		return requests
	case store.Tokens:
		return h.Tokens
	case store.USD:
		return h.USD
	case store.Concurrent:
		return 1
	default:
		return 0
	}
}
