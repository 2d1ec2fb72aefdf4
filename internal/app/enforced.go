package app

import (
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Enforced tells whether this version denies by limits of a unit. Limits of the other units are read, checked and shown.
func Enforced(u store.Unit) bool { return u == store.Requests }

// notEnforced names the limits that would deny if this version enforced their unit, as "user standard 5 USD/day". A
// shadow limit is not among them: it denies in no version.
func notEnforced(limits []policy.TierLimit) []string {
	var names []string
	for i := range limits {
		if l := &limits[i]; !l.Shadow && !Enforced(l.Unit) {
			names = append(names, l.Tier+" "+l.Plan+" "+l.String())
		}
	}
	return names
}
