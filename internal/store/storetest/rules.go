package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// rule is one promise as a story of calls, each with the answer that it must have.
type rule struct {
	name  string
	steps []step
}

// action is what a step does.
type action uint8

const (
	admit action = iota
	refund
	refundOfMoment
	reset
)

// step is one call and its answer.
type step struct {
	at     time.Duration // the clock, since the story's beginning
	do     action
	checks []store.Check // for reset, of the subject of the first
	ok     bool          // admitted
	took   int64         // by a refund
	of     time.Duration // the moment whose hits are given back, since the story's beginning
	states []store.State // nil: whatever they are
}

// The subjects of the stories.
var (
	global = store.Subject{Kind: "global"}
	alice  = store.Subject{Kind: "user", ID: "alice"}
	bob    = store.Subject{Kind: "user", ID: "bob"}
)

// lim is an enforced limit.
func lim(most int64, period time.Duration) store.Limit { return store.Limit{Max: most, Period: period} }

// shadow is a limit that is only watched.
func shadow(most int64, period time.Duration) store.Limit {
	return store.Limit{Max: most, Period: period, Shadow: true}
}

// hit asks for requests.
func hit(s store.Subject, amount int64, limits ...store.Limit) store.Check {
	return store.Check{Subject: s, Unit: store.Requests, Amount: amount, Limits: limits}
}

// spend asks for another unit.
func spend(u store.Unit, s store.Subject, amount int64, limits ...store.Limit) store.Check {
	return store.Check{Subject: s, Unit: u, Amount: amount, Limits: limits}
}

// call is the checks of one call.
func call(checks ...store.Check) []store.Check { return checks }

// st is the state of one limit.
func st(used int64, resets, wait time.Duration) store.State {
	return store.State{Used: used, Reset: resets, Wait: wait}
}

// states is the states of one call.
func states(s ...store.State) []store.State { return s }

// tell runs stories, each with users of its own.
func tell(rules []rule) func(t *testing.T, f *Fixture) {
	return func(t *testing.T, f *Fixture) {
		t.Helper()
		const apart = 1000 * time.Hour
		for i, r := range rules {
			t.Run(r.name, func(t *testing.T) {
				c := newCaller(t, f)
				c.start += int64(i) * us(apart)
				c.at(0)
				c.reset(global)
				if f.Disturb != nil {
					f.Disturb()
				}
				for n, s := range r.steps {
					s.run(c, fmt.Sprintf("step %d, at %s", n, s.at), fmt.Sprintf("%s %d", r.name, i))
				}
			})
		}
	}
}

// run makes the call with the story's own users and compares the answer.
func (s *step) run(c *caller, where, story string) {
	checks := slices.Clone(s.checks)
	for i := range checks {
		if checks[i].Subject != global {
			checks[i].Subject.ID += " of " + story
		}
	}
	c.at(s.at)
	var ans *store.Answer
	switch s.do {
	case admit:
		ans = c.admit(checks...)
	case refund, refundOfMoment:
		at := int64(0)
		if s.do == refundOfMoment {
			at = c.start + us(s.of)
		}
		var took int64
		if took, ans = c.refundAt(at, checks...); took != s.took {
			c.t.Fatalf("%s: Refund(%s) took %d, want %d", where, describe(checks), took, s.took)
		}
	case reset:
		c.reset(checks[0].Subject)
		return
	}
	if ans.Admitted != s.ok {
		c.t.Fatalf("%s: %s: admitted=%v, want %v; states %+v", where, describe(checks), ans.Admitted, s.ok, ans.States)
	}
	if s.states != nil && !slices.Equal(ans.States, s.states) {
		c.t.Fatalf("%s: %s: states\n got %+v\nwant %+v", where, describe(checks), ans.States, s.states)
	}
}
