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
	// Own is the caller's own request limit for the descriptor's subjects in place of the policy's; nil for the policy's.
	Own *Limit
}

// Call is one question to the policy: which checks does a request of this shape make?
type Call struct {
	Domain      string
	Descriptors []Descriptor
}

// Overrides tells the stored override that is known for a subject: its version and its parsed form; 0 and nil for none.
type Overrides func(store.Subject) (version int64, o *Override)
