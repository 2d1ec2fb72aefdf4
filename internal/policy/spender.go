package policy

import "github.com/ratelimitd/ratelimitd/internal/store"

// Keys returns the descriptor entries that name a tier's subjects and, if the policy trusts callers with it, their plan.
// Both are empty for a tier that the policy does not have and for the global tier.
func (s *Snapshot) Keys(tier string) (key, plan string) {
	t := s.tier(tier)
	if t == nil {
		return "", ""
	}
	if t.trustPlan {
		plan = t.planKey
	}
	return t.key, plan
}

// LooksOnly reports whether the check stands for a subject that has no limits: it takes nothing and never denies.
func (c *Check) LooksOnly() bool { return c.origin == fromNowhere }

// LookAt returns a check that only asks how all limits of a unit stand for a subject, whose stored override has this version.
// Without such limits there is none, which ok tells.
func (l *Limits) LookAt(subject store.Subject, unit store.Unit, version int64) (c Check, ok bool) {
	named, stored := l.of(unit)
	return Check{
		Check: store.Check{Subject: subject, Unit: unit, Limits: stored, Override: version},
		Tier:  subject.Kind, Limits: l, Named: named, origin: fromPolicy,
	}, len(stored) > 0
}
