package storetest

import (
	"context"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// epoch is where the suite's clock begins, microseconds since the Unix epoch.
const epoch = 1_700_000_000_000_000

// failer is what of testing.T and rapid.T a caller needs.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// caller calls a store in turn through all its clients, and fails on what no answer may ever be.
type caller struct {
	t       failer
	f       *Fixture
	clients []store.Store
	calls   int
	start   int64 // the moment that durations count from, microseconds
	latest  int64 // that the store's clock has said, microseconds
	ans     store.Answer
}

// newCaller returns a caller whose clock stands at the suite's beginning.
func newCaller(t failer, f *Fixture) *caller {
	t.Helper()
	c := &caller{t: t, f: f, clients: []store.Store{f.Store, f.Another()}, start: epoch}
	if f.Set != nil {
		f.Set(epoch)
	}
	return c
}

// client is the client whose turn it is.
func (c *caller) client() store.Store {
	c.calls++
	return c.clients[c.calls%len(c.clients)]
}

// at sets the clock.
func (c *caller) at(d time.Duration) { c.f.Set(c.start + us(d)) }

// us is a duration in microseconds.
func us(d time.Duration) int64 { return int64(d / time.Microsecond) }

// admit asks for checks. Its answer is overwritten by the next call.
func (c *caller) admit(checks ...store.Check) *store.Answer {
	c.t.Helper()
	if err := c.client().Admit(context.Background(), &store.Request{Checks: checks}, &c.ans); err != nil {
		c.t.Fatalf("Admit(%s): %v", describe(checks), err)
	}
	c.sound(checks)
	return &c.ans
}

// refund gives the newest hits back. Its answer is overwritten by the next call.
func (c *caller) refund(checks ...store.Check) (int64, *store.Answer) {
	c.t.Helper()
	return c.refundAt(0, checks...)
}

// refundAt gives back the hits of a moment, microseconds since the Unix epoch; of 0, the newest.
func (c *caller) refundAt(at int64, checks ...store.Check) (int64, *store.Answer) {
	c.t.Helper()
	took, err := c.client().Refund(context.Background(), &store.Request{Checks: checks, At: at}, &c.ans)
	if err != nil {
		c.t.Fatalf("Refund(%s): %v", describe(checks), err)
	}
	if len(c.ans.Stale) > 0 && took != 0 {
		c.t.Fatalf("Refund(%s) took %d under a stale override, want 0", describe(checks), took)
	}
	c.sound(checks)
	return took, &c.ans
}

// reset forgets a subject's hits.
func (c *caller) reset(s store.Subject) {
	c.t.Helper()
	if err := c.client().Reset(context.Background(), s); err != nil {
		c.t.Fatalf("Reset(%s): %v", name(s), err)
	}
}

// override sets a subject's override.
func (c *caller) override(s store.Subject, value string) int64 {
	c.t.Helper()
	version, err := c.client().SetOverride(context.Background(), s, value)
	if err != nil {
		c.t.Fatalf("SetOverride(%s, %q): %v", name(s), value, err)
	}
	return version
}

// sound fails if the answer has not the form that the contract gives it, or a verdict that its states do not give.
func (c *caller) sound(checks []store.Check) {
	c.t.Helper()
	c.form(checks)
	if len(c.ans.Stale) == 0 {
		c.verdict(checks)
	}
}

// form fails if the answer has not the form that the contract gives it.
func (c *caller) form(checks []store.Check) {
	c.t.Helper()
	limits := 0
	for i := range checks {
		limits += len(checks[i].Limits)
	}
	if len(c.ans.Stale) > 0 {
		if c.ans.Admitted || len(c.ans.States) > 0 {
			c.t.Fatalf("%s: a stale answer is admitted=%v with %d states, want false and none",
				describe(checks), c.ans.Admitted, len(c.ans.States))
		}
		return
	}
	if len(c.ans.States) != limits || len(c.ans.Seqs) != len(checks) || len(c.ans.Held) != len(checks) {
		c.t.Fatalf("%s: answer has %d states, %d seqs and %d held, want %d, %d and %d", describe(checks),
			len(c.ans.States), len(c.ans.Seqs), len(c.ans.Held), limits, len(checks), len(checks))
	}
	if c.ans.Now <= 0 {
		c.t.Fatalf("%s: answer's Now is %d, want microseconds since the Unix epoch", describe(checks), c.ans.Now)
	}
}

// verdict fails if the verdict does not follow from the states.
func (c *caller) verdict(checks []store.Check) {
	c.t.Helper()
	c.latest = max(c.latest, c.ans.Now)
	ranBack := time.Duration(c.latest-c.ans.Now) * micro // a log may stand still as far ahead of the clock
	i, fits := 0, true
	for _, check := range checks {
		for _, l := range check.Limits {
			st := c.ans.States[i]
			fits = fits && (l.Shadow || st.Wait == 0)
			longest := l.Period + ranBack
			if check.Unit == store.Concurrent {
				longest = store.MaxLease
			}
			if st.Used < 0 || st.Wait < 0 || st.Reset < 0 || st.Reset > longest || (st.Wait > longest && st.Wait != store.Never) {
				c.t.Fatalf("%s: state %d is impossible for %s: %+v", describe(checks), i, describeLimit(l), st)
			}
			i++
		}
	}
	if c.ans.Admitted != fits {
		c.t.Fatalf("%s: admitted=%v, but the states say %v: %+v", describe(checks), c.ans.Admitted, fits, c.ans.States)
	}
}
