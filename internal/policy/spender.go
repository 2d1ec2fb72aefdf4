package policy

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
