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
	// Hold is what the request wants to keep; nil if it keeps nothing. Then limits of requests alone are asked.
	Hold *Hold
}

// Hold is what a request wants to keep of the limits of tokens, money and slots until it is settled.
type Hold struct {
	USD    int64 // nano-USD, from 0
	Tokens int64 // from 0
	Slot   bool  // takes a slot
}

// RequestIDKey is the descriptor entry that asks for a hold, whatever its value.
const RequestIDKey = "request_id"

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

const (
	// MaxChecks is how many checks one call may come to, those of the global tier included.
	MaxChecks = 64
	// MaxHeld is how many subjects a call with a hold may name: each may come to a check of every unit.
	MaxHeld = MaxChecks/units - 1
	// units is how many units there are.
	units = 4
)

// Resolution is what a call asks of the store. Its slices are reused by the next Resolve into it.
type Resolution struct {
	// Admit holds the checks that take hits or only look, the global tier's last. A call with a hold has up to four for each
	// subject, side by side: requests, tokens, USD, concurrent. Another has one. Refund holds those that give back, one per subject.
	Admit, Refund []Check
	// Of tells, per descriptor, the checks that it named: bit i of Admit stands for Admit[i]. The global tier's checks
	// belong to every matched descriptor. Both zero: the descriptor matched nothing.
	Of []Named

	subjects []Check // of a call with a hold, one per subject: room to work in
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
	Named          []Limit // the policy's limits of the check's unit, index by index beside store.Check.Limits
	OnStoreFailure OnStoreFailure

	origin origin // how Limits were chosen
}

// LooksOnly reports whether the check stands for a subject that has no limits: it takes nothing and never denies.
func (c *Check) LooksOnly() bool { return c.origin == fromNowhere }
