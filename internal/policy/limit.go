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
	Period time.Duration // 0 for store.Concurrent; Calendar.Longest() for a window of the calendar
	Shadow bool
	// Calendar makes the window one of the calendar, of tokens or USD; nil for a sliding one.
	Calendar *store.Calendar
	// Ordinal numbers the limits of one snapshot from 0; -1 for a limit that an override or a descriptor brought.
	Ordinal int
}

// String returns the limit as a policy writes it: "10/minute", "5 USD/day", "1000000 tokens/day", "100 concurrent". A window of
// the calendar has its time zone behind it: "100 USD/month (calendar, Europe/Berlin)".
func (l Limit) String() string {
	amount := strconv.FormatInt(l.Max, 10)
	switch l.Unit {
	case store.Requests:
		return amount + "/" + l.periodText()
	case store.USD:
		return budget.FormatMoney(l.Max) + " USD/" + l.periodText() + l.zoneText()
	case store.Concurrent:
		return amount + " concurrent"
	case store.Tokens:
		return amount + " tokens/" + l.periodText() + l.zoneText()
	default:
		return amount + " " + l.Unit.String()
	}
}

// Describe returns the limit as a person reads it: "10 requests per minute", "5 USD per day", "20 requests per 90s",
// "100 concurrent requests", "100 USD per calendar month (Europe/Berlin)".
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
		return amount + " token" + plural + l.perText()
	case store.USD:
		return budget.FormatMoney(l.Max) + " USD" + l.perText()
	case store.Concurrent:
		return amount + " concurrent request" + plural
	default:
		return amount + " " + l.Unit.String()
	}
}

// perText is the period of a limit of tokens or money as a person reads it.
func (l Limit) perText() string {
	if l.Calendar != nil {
		return " per calendar " + l.periodText() + " (" + l.Calendar.Zone().String() + ")"
	}
	return " per " + l.periodText()
}

// zoneText tells a window of the calendar from one that slides.
func (l Limit) zoneText() string {
	if l.Calendar == nil {
		return ""
	}
	return " (calendar, " + l.Calendar.Zone().String() + ")"
}

// periodText is the period as it was written, which the name keeps unless it was given by hand.
func (l Limit) periodText() string {
	if l.Calendar != nil {
		return l.Calendar.Unit().String()
	}
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
	// StoreConcurrent is Concurrent as the store takes it: one limit or none.
	StoreConcurrent []store.Limit

	slots []Limit // what Concurrent points into
}

// of returns the limits of a unit, with the store's form of them.
func (l *Limits) of(unit store.Unit) ([]Limit, []store.Limit) {
	switch unit {
	case store.Requests:
		return l.Requests, l.StoreRequests
	case store.Tokens:
		return l.Tokens, l.StoreTokens
	case store.USD:
		return l.USD, l.StoreUSD
	case store.Concurrent:
		return l.slots, l.StoreConcurrent
	default:
		return nil, nil
	}
}

// asks tells whether a call has anything to check under the limits.
func (l *Limits) asks(hold *Hold) bool {
	if hold == nil {
		return len(l.Requests) > 0
	}
	return len(l.Requests) > 0 || len(l.Tokens) > 0 || len(l.USD) > 0 || hold.Slot && l.Concurrent != nil
}
