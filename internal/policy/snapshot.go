package policy

import (
	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// OnStoreFailure is what a tier answers when the store cannot be asked.
type OnStoreFailure uint8

// The answers to a lost store.
const (
	Allow OnStoreFailure = iota // let the call through, uncounted: availability beats strictness
	Deny                        // refuse the call
)

// String returns the answer as policies write it.
func (o OnStoreFailure) String() string {
	if o == Deny {
		return "deny"
	}
	return "allow"
}

// GlobalTier is the tier, and the subject kind, of the system as a whole.
const GlobalTier = "global"

// overridePlan is the name under which limits stand that no plan holds.
const overridePlan = "override"

// Snapshot is one policy, read and checked. It is immutable and safe for concurrent use.
type Snapshot struct {
	domain string
	hash   string
	tiers  []tier // in the order of the policy
	global tier
	user   int // index of the user's tier
	limits []TierLimit
	cost   *Cost
	prices *budget.Table
}

// tier is one kind of subject. A plan's limits are made anew for each tier, so that an ordinal stands for one tier's.
type tier struct {
	name           string
	key            string // the descriptor entry whose value is the subject's id
	planKey        string // the entry that names the plan; read only if trustPlan
	trustPlan      bool
	onStoreFailure OnStoreFailure
	plans          map[string]*Limits
	listed         map[string]*Limits // by id: the policy's own list
	fallback       *Limits            // the default plan's; without a plan, no limits; never nil
	none           *Limits            // what a subject without request limits is asked for; nil for the global tier
}

// TierLimit is a limit with the tier that it belongs to.
type TierLimit struct {
	Tier string
	Plan string
	Limit
}

// Domain returns the one domain that the policy answers for.
func (s *Snapshot) Domain() string { return s.domain }

// Hash returns the SHA-256, in hex, of the policy as it is in force, settings from the environment included. Files that
// differ only in spelling, order of plans or comments have one hash.
func (s *Snapshot) Hash() string { return s.hash }

// UserTier returns the tier of the single user: the subject called "user", else the first one.
func (s *Snapshot) UserTier() string { return s.tiers[s.user].name }

// UserKey returns the descriptor entry whose value is a user's id: the key of the user's tier.
func (s *Snapshot) UserKey() string { return s.tiers[s.user].key }

// PlanKey returns the descriptor entry that names a user's plan; empty if the policy trusts none.
func (s *Snapshot) PlanKey() string {
	if !s.tiers[s.user].trustPlan {
		return ""
	}
	return s.tiers[s.user].planKey
}

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

// Tiers returns the names of all tiers in the order of the policy, the global tier last.
func (s *Snapshot) Tiers() []string {
	names := make([]string, 0, len(s.tiers)+1)
	for i := range s.tiers {
		names = append(names, s.tiers[i].name)
	}
	return append(names, GlobalTier)
}

// Limits returns every limit that has an ordinal, indexed by it. The slice is shared: do not write to it.
func (s *Snapshot) Limits() []TierLimit { return s.limits }

// OnStoreFailure returns what a tier answers when the store cannot be asked; Allow for a tier that does not exist.
func (s *Snapshot) OnStoreFailure(name string) OnStoreFailure {
	if t := s.tier(name); t != nil {
		return t.onStoreFailure
	}
	return Allow
}

// SubjectLimits returns the limits that hold for a subject: those of its override, else of the plan that the caller
// named (only where the policy trusts that), else of the policy's list, else of the default plan. A subject without
// any, or of a kind that the policy does not know, has empty Limits; the answer is never nil.
func (s *Snapshot) SubjectLimits(sub store.Subject, planEntry string, o *Override) *Limits {
	t := s.tier(sub.Kind)
	if t == nil {
		return &Limits{}
	}
	limits, _ := t.choose(sub.ID, planEntry, o)
	return limits
}

// tier finds a tier by its name; nil if the policy has none.
func (s *Snapshot) tier(name string) *tier {
	if name == GlobalTier {
		return &s.global
	}
	for i := range s.tiers {
		if s.tiers[i].name == name {
			return &s.tiers[i]
		}
	}
	return nil
}

// origin is how a subject's limits were chosen, the stronger the later.
type origin uint8

const (
	fromNowhere  origin = iota // no limits
	fromPolicy                 // the policy's list or the default plan
	fromEntry                  // the descriptor's plan entry
	fromOverride               // the override in the store
	fromCall                   // the descriptor's own limit
)

// choose returns a subject's limits, never nil.
func (t *tier) choose(id, planEntry string, o *Override) (*Limits, origin) {
	if o != nil {
		if o.Limits != nil {
			return o.Limits, fromOverride
		}
		if limits := t.plans[o.Plan]; limits != nil {
			return limits, fromOverride
		}
	}
	if limits := t.trusted(planEntry); limits != nil {
		return limits, fromEntry
	}
	if len(t.listed) > 0 {
		if limits := t.listed[id]; limits != nil {
			return limits, fromPolicy
		}
	}
	return t.fallback, fromPolicy
}

// trusted returns the limits of the plan that a descriptor names, nil if the policy does not trust or know it.
func (t *tier) trusted(planEntry string) *Limits {
	if !t.trustPlan || planEntry == "" {
		return nil
	}
	return t.plans[planEntry]
}
