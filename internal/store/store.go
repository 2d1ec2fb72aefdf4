// Package store is the contract between the engine and the place where usage lives.
//
// A store answers one question in one atomic step: may all of these checks pass now? Either every check passes and
// every hit is counted, or nothing at all is changed. Time is the store's own clock, in microseconds.
//
// A hit taken at t is live in a window of period T at every moment now with t <= now < t+T. The windows of one subject
// and unit share one log of hits. A store's time never runs backwards for a log: its now is the later of the clock and
// the log's newest hit.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors that a caller tells apart. A store wraps them with what it was doing.
var (
	// ErrUnavailable says that the store could not be asked, or did not answer before the deadline. The hit may stand
	// all the same: a script that was sent may still run.
	ErrUnavailable = errors.New("store unavailable")
	// ErrTimeout says that the store did not answer before the deadline. It is an ErrUnavailable.
	ErrTimeout = fmt.Errorf("%w: no answer in time", ErrUnavailable)
	// ErrCorrupt says that what is stored under a subject's key is not ours, or is damaged.
	ErrCorrupt = errors.New("stored value is not a ratelimitd log")
	// ErrFull says that the embedded store has no room for another subject.
	ErrFull = errors.New("store is full")
	// ErrMismatch says that a hold's id is known with another fingerprint: it was asked for, or settled, otherwise before.
	ErrMismatch = errors.New("the id is known with other contents")
	// ErrNoHold says that no hold is known by an id, and nothing says where to book without one.
	ErrNoHold = errors.New("no such hold")
)

// Unit is what a limit counts.
type Unit uint8

// The units. Their values are part of the stored format.
const (
	Requests   Unit = 1 // whole requests
	Tokens     Unit = 2 // model tokens
	USD        Unit = 3 // nano-USD, 1e-9 USD
	Concurrent Unit = 4 // requests in flight; not a window: it has no period
)

// String returns the unit as policies write it.
func (u Unit) String() string {
	switch u {
	case Requests:
		return "requests"
	case Tokens:
		return "tokens"
	case USD:
		return "usd"
	case Concurrent:
		return "concurrent"
	default:
		return "unknown"
	}
}

// Bounds of what a store accepts. The policy and the edges refuse more than this before a store is asked.
const (
	// MaxAmount is the largest limit and the largest amount of one check: 2^52-1, that is 4.5 million USD in nano-USD.
	// Sums of two such amounts are still exact in a double, which is what a Redis script computes with.
	MaxAmount = 1<<52 - 1
	// MaxRequests is the largest limit and amount of the unit requests: Envoy's fields are 32 bits wide.
	MaxRequests = 1<<32 - 1
	// MaxLimits is how many limits one check may name. A check of the unit Concurrent names one.
	MaxLimits = 16
	// MaxPeriod is the longest window.
	MaxPeriod = 366 * 24 * time.Hour
	// MinPeriod is the shortest window.
	MinPeriod = time.Millisecond
	// ExactHits is how many hits a window may hold and still be kept hit by hit. A window with a larger limit may be
	// kept in sub-windows of at most T/512, which err only towards denying.
	ExactHits = 4096
	// SubWindows is the number of sub-windows of a window too large for an exact log.
	SubWindows = 512
	// Never is the wait of a check whose amount is larger than a limit: it cannot ever pass.
	Never = time.Duration(1<<63 - 1)
)

// Subject is whose usage it is: one user, one organisation, or the system as a whole.
type Subject struct {
	Kind string // "user", "global", or a key that the policy makes a subject, as "org_id"
	ID   string // any bytes; empty for the global subject
}

// Limit is one window of a check: at most Max per Period; or, of the unit Concurrent, at most Max at once.
type Limit struct {
	Max    int64         // 0 to MaxAmount; 0 denies everything
	Period time.Duration // MinPeriod to MaxPeriod, whole microseconds; 0 for the unit Concurrent
	Shadow bool          // evaluated and reported, never enforced
	// Calendar makes the window one of the calendar, of tokens or USD only; Period is then Calendar.Longest(). Nil for a
	// sliding window.
	Calendar *Calendar
}

// Check asks for an amount of one unit for one subject, under all of that subject's limits on the unit.
type Check struct {
	Subject Subject
	Unit    Unit
	// Amount is what is asked for; 0 asks whether a hit of 1 would pass and takes nothing. Of tokens and USD it is what the
	// request's hold has of them; of the unit Concurrent it is 1 with a hold that takes a slot, else 0.
	Amount int64
	// Limits are shared and immutable: one slice per plan, not one per call. Periods are distinct within it.
	Limits []Limit
	// Override is the version of the subject's stored override that Limits were made from; 0 if none is known. If the
	// store holds another version, it changes nothing and answers with Stale.
	Override int64
}

// Request is one decision: all of its checks pass, or none does. No two checks name the same subject and unit, and the checks
// of one subject stand side by side.
type Request struct {
	Checks []Check
	// Hold is what the request keeps if it is admitted; nil if it keeps nothing. Its first subject keeps its record. Amounts of
	// tokens and USD that are taken without a hold are spent at once.
	Hold *Hold
	// Look answers as the decision would come out, and takes nothing: Used is without the amounts. A Hold is then ignored.
	Look bool
	// At is the moment of the hits that a Refund gives back, microseconds since the Unix epoch, 0 to MaxAmount; 0
	// for the newest. Nothing else reads it.
	At int64
	// Deadline is when the answer is due, whatever the store does. The zero value means no deadline of its own.
	Deadline time.Time
}

// State is one limit after the decision. Its durations count from Answer.Now, the store's clock: after a clock that ran
// back they may be longer than the period, by as much as the log's time is ahead of it.
type State struct {
	Used  int64         // live in the window, this call's amount included if it was admitted
	Reset time.Duration // until the oldest live hit leaves, or of slots the first lease ends; 0 if none is live
	// Wait is 0 if the amount fits; else until it fits if nothing else is admitted; Never if it is larger than the limit. Of tokens
	// and USD it need not count on what holds give back before that.
	Wait time.Duration
}

// Stale tells the caller that a subject's stored override is not the one that the check was made from.
type Stale struct {
	Check   int    // index into Request.Checks
	Version int64  // 0: the subject has no override
	Value   string // the override as it was set; empty if there is none
}

// Answer is what the store says to a Request. Its slices are reused by the next call that it is passed to.
type Answer struct {
	Admitted bool  // every enforced limit of every check has room (for an amount of 0: for one hit)
	Now      int64 // the store's clock at the decision, microseconds since the Unix epoch
	// States holds one entry per limit, check by check in the order of the request. Empty when Stale is not.
	States []State
	// Seqs holds, per check, the amount ever admitted to the subject's log up to and including this decision. It orders
	// the decisions of one log. What a refund takes back is taken off it, and it restarts when a log has been empty for its
	// longest period.
	Seqs []int64
	// Stale is not empty when nothing was decided because an override has changed.
	Stale []Stale
	// Held holds, per check of tokens or USD, how much of what is used is held by open holds, over all windows; 0 for the others.
	Held []int64
	// Hold is what the request's hold came to; zero without one.
	Hold HoldState
}

// Change is something that makes an answer of the past untrue before its time.
type Change struct {
	Subject Subject // whose usage or limits changed; ignored when Lost or Restored
	Lost    bool    // changes made elsewhere can no longer be heard: forget all, keep nothing until Restored
	// Restored says that changes can be heard from now on. What was kept before it must be forgotten.
	Restored bool
}

// Store keeps the usage of all subjects. All methods are safe for concurrent use.
type Store interface {
	// Admit decides a request in one atomic step and fills ans. It errs with ErrUnavailable, ErrCorrupt, ErrFull or the
	// context's error; then ans says nothing.
	Admit(ctx context.Context, req *Request, ans *Answer) error
	// Settle ends a hold, or books what has none, in one atomic step, at most once for an id, and fills out. It errs with
	// ErrNoHold, ErrMismatch, ErrUnavailable, ErrCorrupt, ErrFull or the context's error. After ErrUnavailable it may have
	// been done all the same; to repeat it is safe.
	Settle(ctx context.Context, st *Settlement, out *Settled) error
	// Refund gives hits of requests back: for each check it takes back up to Amount of the subject's live hits, the newest first. A
	// hit is live here in the longest window that any policy asked of the log. The first check bounds the others: no
	// other subject gets back more than the first one did, and they get back the hits of the same moments. It fills ans
	// as a check of amount 0 would after it and returns what the first got back. When ans.Stale is not empty nothing was
	// given back to anyone.
	//
	// With Request.At the checks are given back one by one, none bounded by another: each its live hits of that moment and,
	// where those are fewer, the newest before it, never a newer one. So what was asked for at a moment is given back while it
	// is live, and nothing in its place once it has left the log: then all before it have, too. A refund that ends with an
	// error may have been done for some of the checks.
	Refund(ctx context.Context, req *Request, ans *Answer) (int64, error)
	// Reset forgets a subject's hits: requests, tokens and money. Its override stays, and so do slots in use: they are calls
	// in flight. What is settled later of a hold from before is forgotten with it. It errs with ErrUnavailable or the context's
	// error; then it may have been done all the same.
	Reset(ctx context.Context, s Subject) error
	// SetOverride stores a subject's own plan or limits, as the policy package reads them, beside its usage. An empty
	// value removes it. It returns the new version; 0 for a removal. It errs as Reset does, and with ErrFull where there is no room.
	SetOverride(ctx context.Context, s Subject, value string) (int64, error)
	// Override returns a subject's stored override and its version; 0 and "" if there is none. It errs with ErrUnavailable,
	// ErrCorrupt or the context's error.
	Override(ctx context.Context, s Subject) (version int64, value string, err error)
	// OnChange registers the one receiver of changes. It is called before the first Admit, and fn must not block.
	OnChange(fn func(Change))
	// Ping errs with ErrUnavailable when the store cannot be asked.
	Ping(ctx context.Context) error
	// Close ends the store; what waits is answered with ErrUnavailable.
	Close() error
}
