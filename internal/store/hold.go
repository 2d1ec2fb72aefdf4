package store

import "time"

// Bounds of holds.
const (
	// MinLease and MaxLease bound a hold's life without renewal.
	MinLease = time.Second
	MaxLease = time.Hour
	// MaxHoldID is the longest id of a hold, bytes.
	MaxHoldID = 64
	// MaxHeldChecks is how many checks a request with a hold, and how many parts a settlement may have.
	MaxHeldChecks = 64
	// MaxMemo is the longest memo of a settlement, bytes.
	MaxMemo = 255
	// KeepAnswers is how long a hold is known after its lease or its settlement, so that a repeat finds the first answer.
	KeepAnswers = 24 * time.Hour
	// WaiterLife is how long a place in the line for a slot is kept for a waiter that does not ask again.
	WaiterLife = 3 * time.Second
)

// Hold is what an admitted request keeps until it is settled or released: a slot, tokens and money, under an id that is unique
// among the holds of the request's first subject.
//
// Tokens and money of a hold are used from the moment of its admission, in the windows of that moment, and stay there until it
// is settled: the settlement puts the actual amount in their place. A slot is in use until then or until the lease is over,
// whichever is first. A lease that is over ends the hold: what then becomes of its tokens and money is ReleaseOnExpiry's.
//
// A request whose hold's id is known is a repeat: nothing is decided or taken, Answer.Hold tells what the id stands for, and the
// states are those of a look. With another fingerprint it errs with ErrMismatch.
type Hold struct {
	ID string // 1 to MaxHoldID bytes
	// Fingerprint stands for the contents of what was asked, so that a repeat is told from another request of the same id.
	Fingerprint uint64
	Lease       time.Duration // MinLease to MaxLease
	Slot        bool          // takes a slot of each subject that has a check of unit Concurrent
	USD         int64         // nano-USD, 0 to MaxAmount
	Tokens      int64         // 0 to MaxAmount
	// ReleaseOnExpiry gives tokens and money back when the lease is over; else they count as spent.
	ReleaseOnExpiry bool
	// Extend renews the lease of a hold that is there, from now on, and raises what it holds to USD and Tokens in all; less than
	// it holds changes nothing. The checks are the hold's of tokens and USD, if more is asked for, with amounts of USD and Tokens
	// in all; what is missing of them is asked for, and a check of which nothing is missing passes. They name every subject of
	// the hold, in its order: one without such a check by a check without limits. What is added belongs to the windows of the
	// admission, too. If it is denied, the lease is renewed all the same. A hold that is not
	// active is left as it is: Answer.Hold.Status tells. An id that is not known errs with ErrNoHold. Slot and ReleaseOnExpiry
	// are not read. Fingerprint is that of the hold's first request, or 0.
	Extend bool
	// InLine keeps a place in the line of each subject that has no slot for the request, if slots are all that it lacks. The
	// place is kept for WaiterLife from the last time that the request was asked, in the order of the first times. Requests
	// that have no place stand behind all that have. A Settlement that releases the id gives the place up.
	InLine bool
}

// HoldStatus is a state of the reservation state machine.
type HoldStatus uint8

// The states. Their values are part of the stored format.
const (
	NoHold   HoldStatus = 0 // none is known by the id
	Active   HoldStatus = 1
	Closed   HoldStatus = 2
	Released HoldStatus = 3
	Expired  HoldStatus = 4 // the lease was over before it was settled
)

// HoldState is what a request's hold came to.
type HoldState struct {
	Status HoldStatus // NoHold after a denial
	// Repeat says that the id was known, so that nothing was decided.
	Repeat  bool
	At      int64 // when it was admitted, microseconds since the Unix epoch
	Expires int64 // when its lease ends, likewise
	USD     int64 // what it holds, nano-USD; after the settlement, what was held
	Tokens  int64
	// Queued says that the request was denied for want of a slot alone, and has a place in line; Ahead waiters are before it.
	Queued bool
	Ahead  int
}

// Settlement ends a hold: it puts what was really used in the place of what was held, in the windows of the admission, and
// frees the slot.
//
// The first settlement of an id counts; a repeat with the same fingerprint is answered as the first one, and one with another
// errs with ErrMismatch. A hold that has expired is settled late, by the difference to what was left of it. For an id that is
// not known the amounts are booked at Book, once, if that is set.
type Settlement struct {
	// Parts are the subjects of the hold's request, in the order of its checks; each once.
	Parts       []Part
	ID          string // the hold's, 1 to MaxHoldID bytes
	Fingerprint uint64
	// Release ends the hold as if nothing had been used: USD and Tokens are ignored. Release of an id that is not known gives
	// its places in lines up and errs with ErrNoHold, whatever Book is; so does any settlement of one without Book.
	Release bool
	// Waiting, with Release, gives up the places in lines alone: a hold that is there stays as it is. It errs with ErrNoHold either
	// way. A waiter that goes so takes nothing from another call of its id that was admitted meanwhile.
	Waiting bool
	// Keep settles at what is held: USD and Tokens stand for an id that is not known.
	Keep   bool
	USD    int64 // nano-USD really spent, 0 to MaxAmount
	Tokens int64 // tokens really used, 0 to MaxAmount
	// Book is the moment at which to book if no hold is known, microseconds since the Unix epoch; one in the future counts as
	// now. 0 errs with ErrNoHold then.
	Book int64
	// Memo is kept for repeats, at most MaxMemo bytes.
	Memo     []byte
	Deadline time.Time // as a Request's
}

// Part is one subject of a settlement.
type Part struct {
	Subject Subject
	// USD and Tokens are the longest windows of the subject's limits on these units; 0 if it has none. They say where, and for
	// how long, to book what had no hold.
	USD, Tokens time.Duration
}

// Settled is what a settlement came to. Its Memo is reused by the next call that it is passed to.
type Settled struct {
	// Was is what the hold was before its first settlement: Active, Expired, or NoHold for what was booked without one.
	Was    HoldStatus
	Status HoldStatus // what it is now: Closed or Released
	Repeat bool       // an earlier call has done it; what follows is that call's
	Now    int64      // the store's clock, microseconds since the Unix epoch
	At     int64      // the admission, or where it was booked without a hold
	// HeldUSD and HeldTokens are what was held, USD and Tokens what is booked now; of USD in nano-USD.
	HeldUSD, HeldTokens, USD, Tokens int64
	Memo                             []byte
}
