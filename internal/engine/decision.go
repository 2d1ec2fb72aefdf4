package engine

import (
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
)

// Mode tells where a decision came from.
type Mode uint8

// The modes of a decision.
const (
	Stored     Mode = iota // the store decided
	Local                  // a denial that the store gave earlier and that still holds
	FailedOpen             // the store could not be asked; every tier allows that
	FailedShut             // the store could not be asked; a tier denies then
	Unmatched              // no limit of the policy applies
	Disabled               // rate limiting is switched off
)

// String returns the mode as logs and response metadata spell it.
func (m Mode) String() string {
	switch m {
	case Stored:
		return "stored"
	case Local:
		return "local"
	case FailedOpen:
		return "failed_open"
	case FailedShut:
		return "failed_shut"
	case Unmatched:
		return "unmatched"
	case Disabled:
		return "disabled"
	default:
		return "unknown"
	}
}

// Status is the answer to one descriptor: that of its tightest limit, or when it is denied, of the limit with the
// longest wait.
type Status struct {
	Matched bool // false: no limit applies, and nothing below is set
	Denied  bool
	Tier    string        // "user", "org", "global"
	Limit   *policy.Limit // nil when the store gave no numbers (or nothing matched)
	// Remaining, Reset and Wait are the store's numbers for Limit; meaningless when Limit is nil.
	Remaining int64
	Reset     time.Duration // until the window's oldest hit leaves; 0 if it is empty
	Wait      time.Duration // when denied: until the same call would pass; store.Never if it cannot
}

// Decision is the engine's answer to a call. Its slices are reused by the next call that it is passed to.
type Decision struct {
	Mode     Mode
	Denied   bool
	Statuses []Status // one per descriptor, in order
	// Hold is the token of what the call holds; empty if it holds nothing: it asked for none, or it was denied.
	Hold     string
	Deciding Status // the tightest over all descriptors; when denied, the one with the longest wait
	// InStore is how long the call waited for the store.
	InStore time.Duration
	// Shadowed are the shadow limits that would have denied the call.
	Shadowed []Shadowed
}

// Shadowed is a shadow limit that a call went past.
type Shadowed struct {
	Tier  string
	Limit *policy.Limit
}
