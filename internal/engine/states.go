package engine

import (
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// states are the limits of a call as the store has just told them, in the order of its checks.
func (sc *scratch) states() []LimitState {
	now := time.UnixMicro(sc.answer.Now)
	states := make([]LimitState, 0, len(sc.answer.States))
	for i := range sc.resolution.Admit {
		check := &sc.resolution.Admit[i]
		if check.LooksOnly() {
			continue
		}
		for j := range check.Named {
			state := sc.answer.States[sc.firsts[i]+j]
			told := LimitState{
				Tier: check.Tier, ID: check.Subject.ID, Plan: check.Limits.Plan, Limit: check.Named[j], Used: state.Used,
			}
			if i < len(sc.answer.Held) {
				told.Held = sc.answer.Held[i]
			}
			if state.Reset > 0 {
				told.Resets = now.Add(state.Reset)
			}
			states = append(states, told)
		}
	}
	return states
}

// shadowWarnings tell which shadow limits would have denied the call.
func shadowWarnings(shadowed []Shadowed) []Warning {
	var warnings []Warning
	for _, s := range shadowed {
		warnings = append(warnings, Warning{
			Code: WarnShadow, Text: "the shadow limit " + s.Limit.String() + " of tier " + s.Tier + " would have denied the call",
		})
	}
	return warnings
}

// partsOf are the subjects of checks, each once and in their order, as a settlement takes them.
func partsOf(checks []policy.Check) []store.Part {
	var parts []store.Part
	for i := range checks {
		check := &checks[i]
		if last := len(parts) - 1; last < 0 || parts[last].Subject != check.Subject {
			parts = append(parts, store.Part{Subject: check.Subject})
		}
		part, longest := &parts[len(parts)-1], longestPeriod(check.Check.Limits)
		switch check.Unit {
		case store.USD:
			part.USD = longest
		case store.Tokens:
			part.Tokens = longest
		case store.Requests, store.Concurrent:
		}
	}
	return parts
}

func longestPeriod(limits []store.Limit) time.Duration {
	longest := time.Duration(0)
	for i := range limits {
		longest = max(longest, limits[i].Period)
	}
	return longest
}
