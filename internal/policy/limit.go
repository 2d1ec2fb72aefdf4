package policy

import (
	"strconv"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

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

// String returns the limit as a policy writes it: "10/minute", "5 USD/day", "1000000 tokens/day", "100 concurrent".
func (l Limit) String() string {
	amount := strconv.FormatInt(l.Max, 10)
	switch l.Unit {
	case store.Requests:
		return amount + "/" + l.periodText()
	case store.USD:
		return budget.FormatMoney(l.Max) + " USD/" + l.periodText()
	case store.Concurrent:
		return amount + " concurrent"
	case store.Tokens:
		return amount + " tokens/" + l.periodText()
	default:
		return amount + " " + l.Unit.String()
	}
}

// Describe returns the limit as a person reads it: "10 requests per minute", "5 USD per day", "20 requests per 90s",
// "100 concurrent requests".
func (l Limit) Describe() string {
	amount := strconv.FormatInt(l.Max, 10)
	plural := "s"
	if l.Max == 1 {
		plural = ""
	}
	switch l.Unit {
	case store.Requests:
		return amount + " request" + plural + " per " + l.periodText()
	case store.Tokens:
		return amount + " token" + plural + " per " + l.periodText()
	case store.USD:
		return budget.FormatMoney(l.Max) + " USD per " + l.periodText()
	case store.Concurrent:
		return amount + " concurrent request" + plural
	default:
		return amount + " " + l.Unit.String()
	}
}

// periodText is the period as it was written, which the name keeps unless it was given by hand.
func (l Limit) periodText() string {
	if period, _, err := parsePeriod(l.Name); err == nil && period == l.Period {
		return l.Name
	}
	return formatPeriod(l.Period)
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
