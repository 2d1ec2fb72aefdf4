// Package storetest is the one conformance suite of the Store contract. Every store runs it:
//
//	func TestConformance(t *testing.T) { storetest.Run(t, open) }
//	func TestRealTime(t *testing.T)    { storetest.RunRealTime(t, openWithOwnClock) }
//
// Its parts: tables of rules in the order of the contract's promises, a random comparison with a naive model that keeps
// every timestamp, and a concurrent run whose answers a checker proves right afterwards.
package storetest

import (
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Fixture is one opened store with what the suite needs beside the contract. The function that opens it registers the
// end of the store with t.Cleanup; a store may have been closed by then.
type Fixture struct {
	Store store.Store
	// Set sets the store's clock, in microseconds since the Unix epoch; nil for a store with its own clock. While the
	// clock is set by hand, a store must not let keys expire by another clock.
	Set func(us int64)
	// Another opens a further client of the same state, as another daemon would be. An embedded store returns itself.
	Another func() store.Store
	// Keys counts the subjects or keys that are stored now.
	Keys func() int
	// Disturb does something in mid-run that must not be noticed, as flushing the script cache; nil for nothing.
	Disturb func()
	// TwoStep says that a decision over subjects of different slots is two steps with an undo. A denied call's hit on
	// the first subject may then be seen for a moment by others: tests with one caller demand all of the contract,
	// concurrent ones that no interval holds more than a limit, and that nothing denied is counted once all calls have
	// ended.
	TwoStep bool
}

// Open opens an empty store for one test.
type Open func(t *testing.T) *Fixture

// part is one named test of the suite.
type part struct {
	name string
	run  func(t *testing.T, f *Fixture)
}

// Run runs all parts that set the store's clock. Each part opens a store of its own.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, p := range append(parts(), holdParts()...) {
		t.Run(p.name, func(t *testing.T) { p.run(t, open(t)) })
	}
}

// RunRealTime runs the parts that need a store with its own clock: Fixture.Set is not called.
func RunRealTime(t *testing.T, open Open) {
	t.Helper()
	for _, p := range realTimeParts() {
		t.Run(p.name, func(t *testing.T) { p.run(t, open(t)) })
	}
}

// parts lists the tests under a clock set by hand.
func parts() []part {
	return []part{
		{"Windows", tell(windowRules())},
		{"History", tell(historyRules())},
		{"Calls", tell(callRules())},
		{"Refunds", tell(refundRules())},
		{"Volume", volume},
		{"RefundVolume", refundVolume},
		{"Model", random},
		{"CoarseModel", coarse},
		{"HostileIDs", hostile},
		{"Overrides", overrides},
		{"Keys", keys},
		{"Changes", changes},
		{"Refusals", refusals},
		{"Close", closing},
	}
}

// holdParts lists the tests of holds under a clock set by hand.
func holdParts() []part {
	return []part{
		{"Reserve", tellTales(reserveTales())},
		{"Settle", tellTales(settleTales())},
		{"Leases", tellTales(leaseTales())},
		{"Extend", tellTales(extendTales())},
		{"Book", tellTales(bookTales())},
		{"Lines", tellTales(lineTales())},
		{"Calendars", tellTales(calendarTales())},
		{"Shared", tellTales(sharedTales())},
		{"HoldModel", randomHolds},
		{"HoldRefusals", holdRefusals},
		{"HoldRequests", holdRequests},
		{"HostileHolds", hostileHolds},
		{"HoldKeys", holdKeys},
		{"MoneyVolume", moneyVolume},
		{"Crowds", crowds},
		{"Linear", linear},
		{"Ledger", ledger},
	}
}

// realTimeParts lists the tests under the store's own clock.
func realTimeParts() []part {
	return []part{
		{"RetryAfter", retryAfter},
		{"Concurrent", concurrent},
		{"ConcurrentOnOneSubject", concurrentOnOne},
	}
}
