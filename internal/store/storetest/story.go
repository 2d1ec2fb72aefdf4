package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// story is a tale of holds, told call by call. Its subjects are its own, but for the global one; its clock begins at 0.
type story struct {
	*caller
	user, other, org store.Subject
	parts            map[string][]store.Part // of each hold that was asked for, by id
}

// tale is one promise of holds.
type tale struct {
	name string
	tell func(s *story)
}

// tellTales tells tales one after the other, so far apart that nothing of one counts in the next.
func tellTales(tales []tale) func(t *testing.T, f *Fixture) {
	return func(t *testing.T, f *Fixture) {
		t.Helper()
		for i, ta := range tales {
			t.Run(ta.name, func(t *testing.T) { ta.tell(newStory(newCaller(t, f), i, ta.name)) })
		}
	}
}

// newStory begins the i-th story of a store.
func newStory(c *caller, i int, title string) *story {
	const apart = 1000 * time.Hour
	c.start += int64(i) * us(apart)
	c.at(0)
	c.reset(global)
	if c.f.Disturb != nil {
		c.f.Disturb()
	}
	id := fmt.Sprintf(" of %s %d", title, i)
	return &story{
		caller: c, parts: make(map[string][]store.Part),
		user: store.Subject{Kind: "user", ID: "alice" + id}, other: store.Subject{Kind: "user", ID: "bob" + id},
		org: store.Subject{Kind: "org_id", ID: "acme" + id},
	}
}

// begin sets the moment from which a story counts its times. It comes first.
func (s *story) begin(at int64) {
	s.start = at
	s.at(0)
}

// money, tokens and slot ask for the units of holds.
func money(s store.Subject, amount int64, limits ...store.Limit) store.Check {
	return spend(store.USD, s, amount, limits...)
}

func tokens(s store.Subject, amount int64, limits ...store.Limit) store.Check {
	return spend(store.Tokens, s, amount, limits...)
}

func slot(s store.Subject, most int64) store.Check {
	return spend(store.Concurrent, s, 1, store.Limit{Max: most})
}

// named only names a subject.
func named(s store.Subject) store.Check { return store.Check{Subject: s, Unit: store.Requests} }

// calendar is a limit of a calendar's windows.
func calendar(most int64, c *store.Calendar) store.Limit {
	return store.Limit{Max: most, Period: c.Longest(), Calendar: c}
}

// asking is a request on its way.
type asking struct {
	s   *story
	req *store.Request
}

// ask asks for checks under a hold of their amounts, by default of 30 s; with an empty id under none.
func (s *story) ask(id string, checks ...store.Check) *asking {
	a := &asking{s: s, req: &store.Request{Checks: checks}}
	if id == "" {
		return a
	}
	a.req.Hold = holdOf(id, checks)
	if s.parts[id] == nil {
		s.parts[id] = partsOf(checks)
	}
	return a
}

// look only looks.
func (s *story) look(checks ...store.Check) *asking {
	return &asking{s: s, req: &store.Request{Checks: checks, Look: true}}
}

// extend renews a hold's lease for 30 s, and asks for the amounts in all.
func (s *story) extend(id string, checks ...store.Check) *asking {
	a := s.ask(id, checks...)
	a.req.Hold.Extend, a.req.Hold.Slot = true, false
	return a
}

// holdOf is the hold of checks.
func holdOf(id string, checks []store.Check) *store.Hold {
	h := &store.Hold{ID: id, Fingerprint: 1, Lease: 30 * sec}
	for i := range checks {
		switch c := &checks[i]; c.Unit {
		case store.USD:
			h.USD = c.Amount
		case store.Tokens:
			h.Tokens = c.Amount
		case store.Concurrent:
			h.Slot = h.Slot || c.Amount > 0
		case store.Requests:
		}
	}
	return h
}

// partsOf is how a settlement names the subjects of checks.
func partsOf(checks []store.Check) []store.Part {
	var parts []store.Part
	for i := range checks {
		c := &checks[i]
		if len(parts) == 0 || parts[len(parts)-1].Subject != c.Subject {
			parts = append(parts, store.Part{Subject: c.Subject})
		}
		p := &parts[len(parts)-1]
		for _, l := range c.Limits {
			switch c.Unit {
			case store.USD:
				p.USD = max(p.USD, l.Period)
			case store.Tokens:
				p.Tokens = max(p.Tokens, l.Period)
			case store.Requests, store.Concurrent:
			}
		}
	}
	return parts
}

func (a *asking) lease(d time.Duration) *asking { a.req.Hold.Lease = d; return a }
func (a *asking) print(n uint64) *asking        { a.req.Hold.Fingerprint = n; return a }
func (a *asking) givesBack() *asking            { a.req.Hold.ReleaseOnExpiry = true; return a }
func (a *asking) inLine() *asking               { a.req.Hold.InLine = true; return a }

// String describes the request.
func (a *asking) String() string {
	what := describe(a.req.Checks)
	if a.req.Look {
		what += ", a look"
	}
	if h := a.req.Hold; h != nil {
		what += fmt.Sprintf(", hold %q %+v", h.ID, *h)
	}
	return what
}

// decide makes the call.
func (c *caller) decide(req *store.Request) error {
	c.t.Helper()
	if err := c.client().Admit(context.Background(), req, &c.ans); err != nil {
		return err
	}
	if c.ans.Hold.Repeat { // its states are a look's, and its verdict nobody's
		c.form(req.Checks)
		return nil
	}
	c.sound(req.Checks)
	return nil
}

// got makes the call, which must not err, and compares its states; no states are whatever they are.
func (a *asking) got(ok bool, want []store.State) *answer {
	a.s.t.Helper()
	if err := a.s.decide(a.req); err != nil {
		a.s.t.Fatalf("%s: %v", a, err)
	}
	ans := &a.s.ans
	if ans.Admitted != ok && !ans.Hold.Repeat {
		a.s.t.Fatalf("%s: admitted=%v, want %v; states %+v", a, ans.Admitted, ok, ans.States)
	}
	if want != nil && !slices.Equal(ans.States, want) {
		a.s.t.Fatalf("%s: states\n got %+v\nwant %+v", a, ans.States, want)
	}
	return &answer{asking: a, ans: ans}
}

func (a *asking) admitted(want ...store.State) *answer { a.s.t.Helper(); return a.got(true, want) }
func (a *asking) denied(want ...store.State) *answer   { a.s.t.Helper(); return a.got(false, want) }

// fails makes the call, which must err so.
func (a *asking) fails(want error) {
	a.s.t.Helper()
	if err := a.s.decide(a.req); !errors.Is(err, want) {
		a.s.t.Fatalf("%s: error %v, want %v", a, err, want)
	}
}

// repeats makes the call, which must be a repeat of a hold that has come to this.
func (a *asking) repeats(status store.HoldStatus) *answer {
	a.s.t.Helper()
	got := a.got(true, nil)
	if h := got.ans.Hold; !h.Repeat || h.Status != status {
		a.s.t.Fatalf("%s: hold %+v, want a repeat of status %d", a, h, status)
	}
	return got
}

// answer is an answer to compare.
type answer struct {
	*asking
	ans *store.Answer
}

// uses compares the uses, whatever the times are.
func (g *answer) uses(want ...int64) *answer {
	g.s.t.Helper()
	got := make([]int64, len(g.ans.States))
	for i := range got {
		got[i] = g.ans.States[i].Used
	}
	if !slices.Equal(got, want) {
		g.s.t.Fatalf("%s: uses %v, want %v", g, got, want)
	}
	return g
}

// held compares what open holds hold, by check.
func (g *answer) held(want ...int64) *answer {
	g.s.t.Helper()
	if !slices.Equal(g.ans.Held, want) {
		g.s.t.Fatalf("%s: held %v, want %v", g, g.ans.Held, want)
	}
	return g
}

// hold compares what the hold has come to; its times count from the story's beginning.
func (g *answer) hold(status store.HoldStatus, at, expires time.Duration, usd, tokens int64) *answer {
	g.s.t.Helper()
	got := g.ans.Hold
	want := store.HoldState{
		Status: status, Repeat: got.Repeat, At: g.s.start + us(at), Expires: g.s.start + us(expires), USD: usd, Tokens: tokens,
	}
	if got != want {
		g.s.t.Fatalf("%s: hold\n got %+v\nwant %+v", g, got, want)
	}
	return g
}

// queued fails unless the request has a place in line behind so many.
func (g *answer) queued(ahead int) *answer {
	g.s.t.Helper()
	if h := g.ans.Hold; h.Status != store.NoHold || !h.Queued || h.Ahead != ahead {
		g.s.t.Fatalf("%s: hold %+v, want a place in line with %d ahead", g, h, ahead)
	}
	return g
}

// unqueued fails if the request has a place in line or a hold.
func (g *answer) unqueued() *answer {
	g.s.t.Helper()
	if h := g.ans.Hold; h.Status != store.NoHold || h.Queued || h.Ahead != 0 {
		g.s.t.Fatalf("%s: hold %+v, want none and no place in line", g, h)
	}
	return g
}

// settling is a settlement on its way.
type settling struct {
	s  *story
	st *store.Settlement
}

// settle settles a hold of the story, or books for its subjects.
func (s *story) settle(id string, usd, tokens int64) *settling {
	return &settling{s: s, st: &store.Settlement{Parts: s.parts[id], ID: id, Fingerprint: 2, USD: usd, Tokens: tokens}}
}

// release ends a hold as if nothing had been used.
func (s *story) release(id string) *settling {
	end := s.settle(id, 0, 0)
	end.st.Release, end.st.Fingerprint = true, 3
	return end
}

// book books without a hold at a moment of the story.
func (s *story) book(id string, at time.Duration, usd, tokens int64, parts ...store.Part) *settling {
	end := s.settle(id, usd, tokens)
	end.st.Parts, end.st.Book = parts, s.start+us(at)
	return end
}

func (e *settling) print(n uint64) *settling   { e.st.Fingerprint = n; return e }
func (e *settling) keep() *settling            { e.st.Keep = true; return e }
func (e *settling) memo(text string) *settling { e.st.Memo = []byte(text); return e }

// ended is what a settlement has come to; its times count from the story's beginning.
type ended struct {
	was, status                      store.HoldStatus
	repeat                           bool
	at                               time.Duration
	heldUSD, heldTokens, usd, tokens int64
}

// gives makes the call and compares.
func (e *settling) gives(want ended) *settling {
	e.s.t.Helper()
	if want.status == store.NoHold {
		want.status = store.Closed
	}
	var got store.Settled
	if err := e.s.client().Settle(context.Background(), e.st, &got); err != nil {
		e.s.t.Fatalf("Settle(%+v): %v", *e.st, err)
	}
	came := ended{
		got.Was, got.Status, got.Repeat, time.Duration(got.At-e.s.start) * micro,
		got.HeldUSD, got.HeldTokens, got.USD, got.Tokens,
	}
	if came != want {
		e.s.t.Fatalf("Settle(%+v):\n got %+v\nwant %+v", *e.st, came, want)
	}
	return e
}

// recalls makes the call and compares the memo of the repeat.
func (e *settling) recalls(memo string) {
	e.s.t.Helper()
	got := store.Settled{Memo: []byte("of the call before, which is longer")}
	if err := e.s.client().Settle(context.Background(), e.st, &got); err != nil {
		e.s.t.Fatalf("Settle(%+v): %v", *e.st, err)
	}
	if !got.Repeat || string(got.Memo) != memo {
		e.s.t.Fatalf("Settle(%+v): repeat=%v, memo %q, want a repeat with %q", *e.st, got.Repeat, got.Memo, memo)
	}
}

// fails makes the call, which must err so.
func (e *settling) fails(want error) {
	e.s.t.Helper()
	var got store.Settled
	if err := e.s.client().Settle(context.Background(), e.st, &got); !errors.Is(err, want) {
		e.s.t.Fatalf("Settle(%+v): error %v, want %v", *e.st, err, want)
	}
}
