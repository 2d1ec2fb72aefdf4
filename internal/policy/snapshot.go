package policy

import (
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// OnStoreFailure is what a tier answers when the store cannot be asked.
type OnStoreFailure uint8

// The answers to a lost store.
const (
	Allow OnStoreFailure = iota // let the call through, uncounted: availability beats strictness
	Deny                        // refuse the call
)

// GlobalTier is the tier, and the subject kind, of the system as a whole.
const GlobalTier = "global"

// Limit is one limit of a plan, of the global tier, of an override or of a descriptor.
type Limit struct {
	// Name is short and unique among the limits of its unit and plan: "minute", "hour", "day", else the period as
	// written ("90s"). It is a metric label and a key of the stats answer, so it never holds a request's value.
	Name   string
	Unit   store.Unit
	Max    int64         // requests, tokens, nano-USD or slots
	Period time.Duration // 0 for store.Concurrent
	Shadow bool
	// Ordinal numbers the limits of one snapshot from 0; -1 for a limit that an override or a descriptor brought.
	Ordinal int
}

// Limits are all limits of one plan, or of the global tier. They are immutable.
type Limits struct {
	Plan string // the plan's name; "global" for the global tier; "override" for an override's own limits
	// Requests, Tokens and USD are windows, each in the order of their periods, shortest first.
	Requests, Tokens, USD []Limit
	// StoreRequests is Requests as the store takes it, index by index; likewise the others.
	StoreRequests, StoreTokens, StoreUSD []store.Limit
	// Concurrent bounds the slots in use at once; nil if there is no such limit.
	Concurrent *Limit
}

// Check is a store.Check with what the policy knows of it.
type Check struct {
	store.Check
	Tier           string  // the subject's kind, a name from the policy: "user", "org", "global"
	Limits         *Limits // what the check was made from
	Named          []Limit // the policy's limits, index by index beside store.Check.Limits
	OnStoreFailure OnStoreFailure
}

// MaxChecks is how many subjects one call may name.
const MaxChecks = 64

// Resolution is what a call asks of the store. Its slices are reused by the next Resolve into it.
type Resolution struct {
	// Known is false for a domain that the policy does not know.
	Known bool
	// Admit holds the checks that take hits or only look, one per subject, the global tier last. Refund holds those that
	// give back, likewise.
	Admit, Refund []Check
	// Of tells, per descriptor, the checks that it named: bit i of Admit stands for Admit[i]. The global tier's check
	// belongs to every matched descriptor. Both zero: the descriptor matched nothing.
	Of []Named
}

// Named are the checks that a descriptor named.
type Named struct {
	Admit, Refund uint64
}
