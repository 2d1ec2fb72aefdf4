package policy

import (
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
)

// Cost is what a policy says about money: what holds are, and what becomes of them. It is immutable.
type Cost struct {
	// Lease is how long a hold that comes by the rate limit API lives.
	Lease time.Duration
	// ReleaseOnExpiry gives the tokens and the money of a hold back whose lease is over; else they count as spent.
	ReleaseOnExpiry bool
	// ReturnRequests gives the request count back, too, when a hold is released.
	ReturnRequests bool
	OnUnknownPrice UnknownPrice
	// Hold is what a call by the rate limit API holds.
	Hold HoldRule

	unknownUsage map[string]UnknownUsage // by outcome; under "" for one that is not there
}

// HoldRule is what a call by the rate limit API holds: a fixed amount, or what the tokens that it names cost at most.
type HoldRule struct {
	USD   int64  // nano-USD, held by every call if it is not 0
	Model string // priced where USD is 0 and the call names no model; empty for none
	// InputTokens and MaxOutputTokens stand for what the call does not name.
	InputTokens, MaxOutputTokens int64
}

// UnknownPrice is what to do with a call of a model that has no price.
type UnknownPrice uint8

// The answers to a model without a price.
const (
	DenyUnpriced  UnknownPrice = iota // refuse the call
	DefaultPriced                     // take the default price: see budget.Table.Default
	AllowUnpriced                     // let it through at no price, with a warning
)

// String returns the answer as policies write it.
func (u UnknownPrice) String() string {
	switch u {
	case DefaultPriced:
		return "default"
	case AllowUnpriced:
		return "allow_and_flag"
	case DenyUnpriced:
		return "deny"
	default:
		return "deny"
	}
}

// UnknownUsage is what to charge for a call that ended without a word on its usage.
type UnknownUsage uint8

// The charges for a usage that is not known.
const (
	ChargeHold  UnknownUsage = iota // all that was held
	ChargeInput                     // the input tokens of the hold; nothing of the output
	ReleaseHold                     // nothing
)

// String returns the charge as policies write it.
func (u UnknownUsage) String() string {
	switch u {
	case ChargeInput:
		return "charge_input"
	case ReleaseHold:
		return "release"
	case ChargeHold:
		return "charge_hold"
	default:
		return "charge_hold"
	}
}

// UnknownUsage returns what to charge for a call that ended with an outcome, "success", "error", "cancelled" or "timeout", and
// without a word on its usage. Another outcome, or none, is charged by the policy's one word for all; where it has a word for each,
// the whole hold.
func (c *Cost) UnknownUsage(outcome string) UnknownUsage {
	if u, ok := c.unknownUsage[outcome]; ok {
		return u
	}
	return c.unknownUsage[""]
}

// defaultLease is the lease of a hold where the policy says nothing.
const defaultLease = 30 * time.Second

// Cost returns what the policy says about money, never nil.
func (s *Snapshot) Cost() *Cost { return s.cost }

// Prices returns the policy's price list, never nil.
func (s *Snapshot) Prices() *budget.Table { return s.prices }
