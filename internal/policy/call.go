package policy

import "github.com/ratelimitd/ratelimitd/internal/store"

// Entry is one key and value of a descriptor.
type Entry struct {
	Key, Value string
}

// Descriptor is one descriptor of a call, free of the protocol that it came by.
type Descriptor struct {
	Entries []Entry
	Amount  int64 // hits asked for; 0 checks only
	Refund  bool  // gives Amount back instead
	// Own is the caller's own request limit for the descriptor's first subject in place of the policy's; nil for the
	// policy's. Only its Max, Period and Shadow are read, and its Name if it is not empty.
	Own *Limit
}

// Call is one question to the policy: which checks does a request of this shape make?
type Call struct {
	Domain      string
	Descriptors []Descriptor
}

// RequestIDKey is the descriptor entry that names a request: the id of the hold that it asks for.
const RequestIDKey = "request_id"

// RequestID returns the id that the call's first request_id entry gives; empty if there is none.
func (c *Call) RequestID() string {
	for i := range c.Descriptors {
		for j := range c.Descriptors[i].Entries {
			if e := &c.Descriptors[i].Entries[j]; e.Key == RequestIDKey {
				return e.Value
			}
		}
	}
	return ""
}

// Refunds reports whether any descriptor gives back.
func (c *Call) Refunds() bool {
	for i := range c.Descriptors {
		if c.Descriptors[i].Refund {
			return true
		}
	}
	return false
}

// Overrides tells the stored override that is known for a subject: its version and its parsed form; 0 and nil for none.
// A version without a parsed form is an override that this policy cannot read; it is ignored.
type Overrides func(store.Subject) (version int64, o *Override)

// MaxChecks is how many checks one call may come to: subjects, the global tier included.
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

// Check is a store.Check with what the policy knows of it.
type Check struct {
	store.Check

	Tier           string  // the subject's kind, a name from the policy: "user", "org", "global"
	Limits         *Limits // what the check was made from
	Named          []Limit // the policy's limits, index by index beside store.Check.Limits
	OnStoreFailure OnStoreFailure

	origin origin // how Limits were chosen
}
