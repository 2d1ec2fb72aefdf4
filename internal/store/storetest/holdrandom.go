package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// holdWalk is one random run of holds against the model.
type holdWalk struct {
	*caller
	rt       *rapid.T
	model    *holdModel
	subjects []store.Subject
	limits   map[logName][][]store.Limit // of two policies
	calls    []*store.Request            // that were asked with a hold, admitted or not
	ends     []*store.Settlement
	told     []int64          // moments at which something ends
	waiting  []*store.Request // that had a place in line
	named    int              // ids given
}

// randomHolds compares a store with the model over random calls with holds: every answer must be the model's. rapid
// prints its seed when a run fails.
func randomHolds(t *testing.T, f *Fixture) {
	t.Helper()
	const rounds = 4 // of a hundred walks each, by default
	c := newCaller(t, f)
	for range rounds {
		walkHolds(t, c)
	}
}

// walkHolds makes the random runs.
func walkHolds(t rapid.TB, c *caller) {
	t.Helper()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		w := newHoldWalk(rt, c, run)
		rt.Repeat(map[string]func(*rapid.T){
			"reserve": w.reserves, "reserve2": w.reserves, "spend": w.spends, "again": w.again, "extend": w.extends,
			"settle": w.settles, "settle2": w.settles, "repeat": w.repeats, "book": w.books,
			"pass": w.pass, "pass2": w.pass, "pass3": w.pass, "reset": w.resets, "look": w.looks,
			"wait": w.waits, "wait2": w.waits, "queue": w.queues,
		})
	})
}

// newHoldWalk begins a run with a time and users of its own; the global subject begins anew.
func newHoldWalk(rt *rapid.T, c *caller, run int) *holdWalk {
	c.t = rt
	w := &holdWalk{caller: c, rt: rt, model: newHoldModel(), limits: make(map[logName][][]store.Limit)}
	w.subjects = []store.Subject{
		{Kind: "user", ID: fmt.Sprintf("holder %d {a}", run)},
		{Kind: "user", ID: fmt.Sprintf("holder %d {b}", run)},
		{Kind: "org_id", ID: fmt.Sprintf("acme %d", run)},
		global,
	}
	const apart = 90 * time.Hour // all leases and short windows of the run before have ended
	w.goTo(max(c.start, w.latest) + us(apart))
	c.reset(global)
	w.model.reset(global)
	w.goTo(c.start + 1)
	for _, s := range w.subjects {
		for _, unit := range []store.Unit{store.Requests, store.Tokens, store.USD, store.Concurrent} {
			if rapid.IntRange(0, 4).Draw(rt, "none") == 4 {
				continue
			}
			for range 2 {
				w.limits[logName{s, unit}] = append(w.limits[logName{s, unit}], drawLimits(rt, unit))
			}
		}
	}
	if c.f.Disturb != nil && run%10 == 0 {
		c.f.Disturb()
	}
	return w
}

// utcDay is a calendar for random limits.
func utcDay() *store.Calendar { return store.NewCalendar(store.CalendarDay, time.UTC) }

// drawLimits draws the limits of a policy on a unit; the longest window is always there.
func drawLimits(rt *rapid.T, unit store.Unit) []store.Limit {
	most := func(of ...int64) int64 { return rapid.SampledFrom(of).Draw(rt, "max") }
	shadow := func() bool { return rapid.IntRange(0, 6).Draw(rt, "shadow") == 6 }
	if unit == store.Concurrent {
		return []store.Limit{{Max: most(1, 2, 3, 5), Shadow: shadow()}}
	}
	out := []store.Limit{{Max: most(40, 100, 1000), Period: 2 * day, Shadow: shadow()}}
	if rapid.Bool().Draw(rt, "minute") {
		out = append(out, store.Limit{Max: most(10, 30, 60), Period: mins, Shadow: shadow()})
	}
	if rapid.IntRange(0, 3).Draw(rt, "hour") == 3 {
		out = append(out, store.Limit{Max: most(20, 50), Period: hour})
	}
	if unit != store.Requests && rapid.Bool().Draw(rt, "calendar") {
		out = append(out, store.Limit{Max: most(30, 60), Period: utcDay().Longest(), Calendar: utcDay(), Shadow: shadow()})
	}
	return rapid.Permutation(out).Draw(rt, "order")
}

// goTo sets both clocks.
func (w *holdWalk) goTo(now int64) {
	w.start, w.model.now = now, now
	w.f.Set(now)
}

// pass lets time pass, often to the very moment at which something ends, or a microsecond beside it; sometimes over
// midnight, or over a day.
func (w *holdWalk) pass(rt *rapid.T) {
	w.told = slices.DeleteFunc(w.told, func(at int64) bool { return at < w.start })
	at := w.start
	switch kind := rapid.IntRange(0, 19).Draw(rt, "pass"); {
	case kind == 0:
		at += us(store.KeepAnswers + 2*hour)
	case kind == 1:
		_, end := utcDay().Window(at)
		at = end + rapid.Int64Range(-1, 1).Draw(rt, "beside")
	case kind <= 4:
		at += rapid.Int64Range(0, us(6*hour)).Draw(rt, "hours")
	case kind <= 12 && len(w.told) > 0:
		at = rapid.SampledFrom(w.told).Draw(rt, "to") + rapid.Int64Range(-1, 1).Draw(rt, "beside")
	default:
		at += rapid.Int64Range(0, us(5*sec)).Draw(rt, "seconds")
	}
	w.goTo(max(at, w.start))
}

// checks draws the checks of a hold of some units over one to three subjects.
func (w *holdWalk) checks(rt *rapid.T) []store.Check {
	subjects := rapid.SliceOfNDistinct(rapid.SampledFrom(w.subjects), 1, 3, rapid.ID).Draw(rt, "subjects")
	amounts := map[store.Unit]int64{
		store.Requests:   1,
		store.Tokens:     rapid.SampledFrom([]int64{1, 5, 12, 0, 40}).Draw(rt, "tokens"),
		store.USD:        rapid.SampledFrom([]int64{3, 10, 25, 0, 70}).Draw(rt, "usd"),
		store.Concurrent: 1,
	}
	for _, unit := range []store.Unit{store.Requests, store.Tokens, store.USD, store.Concurrent} {
		if rapid.IntRange(0, 3).Draw(rt, "without") == 3 {
			delete(amounts, unit)
		}
	}
	var checks []store.Check
	for _, s := range subjects {
		checks = append(checks, w.of(rt, s, amounts)...)
	}
	return checks
}

// of is the checks of one subject; one without any is only named.
func (w *holdWalk) of(rt *rapid.T, s store.Subject, amounts map[store.Unit]int64) []store.Check {
	var checks []store.Check
	for _, unit := range []store.Unit{store.Requests, store.Tokens, store.USD, store.Concurrent} {
		amount, asked := amounts[unit]
		if policies := w.limits[logName{s, unit}]; asked && len(policies) > 0 {
			limits := rapid.SampledFrom(policies).Draw(rt, "policy")
			checks = append(checks, store.Check{Subject: s, Unit: unit, Amount: amount, Limits: limits})
		}
	}
	if len(checks) == 0 {
		checks = append(checks, named(s))
	}
	return checks
}

// without are the checks without slots.
func without(checks []store.Check) []store.Check {
	var out []store.Check
	for _, c := range checks {
		switch {
		case c.Unit != store.Concurrent:
			out = append(out, c)
		case len(out) == 0 || out[len(out)-1].Subject != c.Subject:
			out = append(out, named(c.Subject))
		}
	}
	return out
}

// reserves asks for a hold of a new id.
func (w *holdWalk) reserves(rt *rapid.T) {
	w.named++
	req := &store.Request{Checks: w.checks(rt)}
	req.Hold = holdOf(fmt.Sprintf("id %d", w.named), req.Checks)
	req.Hold.Lease = rapid.SampledFrom([]time.Duration{sec, 30 * sec, 5 * mins, hour}).Draw(rt, "lease")
	req.Hold.ReleaseOnExpiry = rapid.Bool().Draw(rt, "gives back")
	req.Hold.Fingerprint = uint64(w.named)
	w.calls = append(w.calls, req)
	w.ask(req)
}

// queues asks for a slot in line, and for nothing else: what becomes of a place while more is missing is nobody's promise.
func (w *holdWalk) queues(rt *rapid.T) {
	s := rapid.SampledFrom(w.subjects).Draw(rt, "subject")
	for range rapid.IntRange(1, 3).Draw(rt, "waiters") {
		w.named++
		req := &store.Request{Checks: w.of(rt, s, map[store.Unit]int64{store.Concurrent: 1})}
		req.Hold = holdOf(fmt.Sprintf("id %d", w.named), req.Checks)
		req.Hold.InLine = true
		w.calls = append(w.calls, req)
		w.ask(req)
	}
}

// waits asks again for what has a place in line, or had one, or gives the place up.
func (w *holdWalk) waits(rt *rapid.T) {
	if len(w.waiting) == 0 {
		return
	}
	req := rapid.SampledFrom(w.waiting[max(0, len(w.waiting)-6):]).Draw(rt, "waiter")
	switch rapid.IntRange(0, 4).Draw(rt, "leaves") {
	case 3:
		w.end(&store.Settlement{Parts: partsOf(req.Checks), ID: req.Hold.ID, Fingerprint: 3, Release: true})
	case 4:
		w.end(&store.Settlement{Parts: partsOf(req.Checks), ID: req.Hold.ID, Fingerprint: 3, Release: true, Waiting: true})
	default:
		w.ask(req)
	}
}

// again asks again for what was asked for, maybe with another fingerprint.
func (w *holdWalk) again(rt *rapid.T) {
	if len(w.calls) == 0 {
		return
	}
	req := *rapid.SampledFrom(w.calls[max(0, len(w.calls)-12):]).Draw(rt, "again")
	own := *req.Hold
	req.Hold = &own
	if rapid.IntRange(0, 5).Draw(rt, "other") == 5 {
		own.Fingerprint += 1000
	}
	w.ask(&req)
}

// extends extends something that was asked for.
func (w *holdWalk) extends(rt *rapid.T) {
	if len(w.calls) == 0 {
		return
	}
	of := rapid.SampledFrom(w.calls).Draw(rt, "extend")
	if h := w.model.holds[holdName{of.Checks[0].Subject, of.Hold.ID}]; h != nil && (h.cut || h.booked) {
		return // what is added after a reset is nobody's promise
	}
	own := *of.Hold
	own.Extend, own.Slot = true, false
	own.Lease = store.MaxLease // never less than it had
	own.USD = rapid.SampledFrom([]int64{own.USD, own.USD + 5, own.USD + 30, own.USD / 2}).Draw(rt, "usd")
	own.Tokens = rapid.SampledFrom([]int64{own.Tokens, own.Tokens + 4, own.Tokens / 2}).Draw(rt, "tokens")
	req := &store.Request{Checks: without(of.Checks), Hold: &own}
	hasUSD, hasTokens := false, false
	for i := range req.Checks {
		switch c := &req.Checks[i]; c.Unit {
		case store.USD:
			c.Amount, hasUSD = own.USD, true
		case store.Tokens:
			c.Amount, hasTokens = own.Tokens, true
		case store.Requests, store.Concurrent:
			*c = named(c.Subject)
		}
	}
	if !hasUSD {
		own.USD = 0
	}
	if !hasTokens {
		own.Tokens = 0
	}
	w.ask(req)
}

// spends asks without a hold.
func (w *holdWalk) spends(rt *rapid.T) { w.ask(&store.Request{Checks: without(w.checks(rt))}) }

// looks only looks.
func (w *holdWalk) looks(rt *rapid.T) { w.ask(&store.Request{Checks: w.checks(rt), Look: true}) }

// ask asks store and model.
func (w *holdWalk) ask(req *store.Request) {
	w.t.Helper()
	if req.Hold != nil {
		if h := w.model.holds[holdName{req.Checks[0].Subject, req.Hold.ID}]; h != nil && w.maybeForgotten(h) {
			return
		}
	}
	want := w.model.admit(req)
	a := &asking{req: req}
	if err := w.decide(req); want.err != nil || err != nil {
		if want.err == nil || !errors.Is(err, want.err) {
			w.t.Fatalf("at %d: %s: error %v, want %v", w.model.now, a, err, want.err)
		}
		return
	}
	w.compare(a, want)
	if want.Hold.Status == store.Active {
		w.told = append(w.told, want.Hold.Expires)
	}
	for _, st := range want.States {
		if st.Wait != store.Never {
			w.told = append(w.told, w.start+us(st.Wait), w.start+us(st.Reset))
		}
	}
	if want.Hold.Queued {
		w.waiting = append(w.waiting, req)
		w.told = append(w.told, w.start+us(store.WaiterLife))
	}
}

// maybeForgotten tells whether a store may have forgotten a hold, or not: nothing is promised then.
func (w *holdWalk) maybeForgotten(h *modelHold) bool {
	return w.model.now >= h.forgotten() && w.model.now < h.forgotten()+us(hour)
}

// compare fails unless the answer is the model's.
func (w *holdWalk) compare(a *asking, want *verdict) {
	w.t.Helper()
	got := &w.ans
	repeat := want.Hold.Repeat || got.Hold.Repeat
	same := repeat || got.Admitted == want.Admitted
	for i := range want.States {
		g, x := got.States[i], want.States[i]
		same = same && g.Used == x.Used && g.Reset == x.Reset
		switch {
		case repeat:
		case want.lines:
			same = same && (g.Wait == 0) == (x.Wait == 0)
		default:
			same = same && g.Wait >= want.soonest[i] && g.Wait <= x.Wait
		}
	}
	if !same || !slices.Equal(got.Held, want.Held) {
		w.t.Fatalf("at %d: %s:\n got admitted=%v %+v, held %v\nwant admitted=%v %+v, held %v (least waits %v)",
			w.model.now, a, got.Admitted, got.States, got.Held, want.Admitted, want.States, want.Held, want.soonest)
	}
	if repeat && want.Hold.At == 0 {
		want.Hold = got.Hold
	}
	if h := &want.Hold; h.Status == store.Closed || h.Status == store.Released {
		h.Expires = got.Hold.Expires // nobody's promise once it is settled
	}
	if got.Hold != want.Hold {
		w.t.Fatalf("at %d: %s: hold\n got %+v\nwant %+v", w.model.now, a, got.Hold, want.Hold)
	}
}

// settles ends something that was asked for.
func (w *holdWalk) settles(rt *rapid.T) {
	if len(w.calls) == 0 {
		return
	}
	of := rapid.SampledFrom(w.calls).Draw(rt, "settle")
	parts := partsOf(of.Checks)
	st := &store.Settlement{Parts: parts, ID: of.Hold.ID, Fingerprint: rapid.Uint64Range(1, 2).Draw(rt, "fingerprint")}
	switch rapid.IntRange(0, 5).Draw(rt, "how") {
	case 0:
		st.Release, st.Fingerprint = true, 3
	case 1:
		st.Keep, st.Fingerprint = true, 4
	default:
		if of.Hold.USD > 0 || hasUnit(of.Checks, store.USD) {
			st.USD = rapid.SampledFrom([]int64{of.Hold.USD, 0, of.Hold.USD / 2, of.Hold.USD + 9, 200}).Draw(rt, "usd")
		}
		if of.Hold.Tokens > 0 || hasUnit(of.Checks, store.Tokens) {
			st.Tokens = rapid.SampledFrom([]int64{of.Hold.Tokens, 0, of.Hold.Tokens / 2, of.Hold.Tokens + 3}).Draw(rt, "tokens")
		}
	}
	if rapid.IntRange(0, 3).Draw(rt, "booked if need be") == 3 {
		st.Book = w.past(rt)
	}
	w.end(st)
}

// hasUnit tells whether a unit is asked for.
func hasUnit(checks []store.Check, u store.Unit) bool {
	return slices.ContainsFunc(checks, func(c store.Check) bool { return c.Unit == u })
}

// past draws a moment to book at: mostly of the last minutes, sometimes of days ago or of the future. None is so old
// that a reset or the run before could be younger.
func (w *holdWalk) past(rt *rapid.T) int64 {
	return w.start - rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, us(2*mins)), rapid.Int64Range(-us(hour), us(50*hour))).Draw(rt, "ago")
}

// books books for an id of its own.
func (w *holdWalk) books(rt *rapid.T) {
	w.named++
	checks := w.checks(rt)
	st := &store.Settlement{
		Parts: partsOf(checks), ID: fmt.Sprintf("booked %d", w.named), Fingerprint: 1, Book: w.past(rt),
		USD: rapid.SampledFrom([]int64{7, 0, 30}).Draw(rt, "usd"), Tokens: rapid.SampledFrom([]int64{2, 0, 20}).Draw(rt, "tokens"),
	}
	w.end(st)
}

// repeats settles again what was settled, maybe with another fingerprint.
func (w *holdWalk) repeats(rt *rapid.T) {
	if len(w.ends) == 0 {
		return
	}
	st := *rapid.SampledFrom(w.ends).Draw(rt, "repeat")
	if rapid.IntRange(0, 5).Draw(rt, "other") == 5 {
		st.Fingerprint += 1000
	}
	w.end(&st)
}

// end settles in store and model.
func (w *holdWalk) end(st *store.Settlement) {
	w.t.Helper()
	if h := w.model.holds[holdName{st.Parts[0].Subject, st.ID}]; h != nil && w.maybeForgotten(h) {
		return
	}
	if st.Book != 0 && w.resetSince(st) {
		return
	}
	st.Memo = []byte(fmt.Sprintf("memo %d", w.start))
	w.ends = append(w.ends, st)
	want, wantErr := w.model.settle(st)
	var got store.Settled
	err := w.client().Settle(context.Background(), st, &got)
	if wantErr != nil || err != nil {
		if wantErr == nil || !errors.Is(err, wantErr) {
			w.t.Fatalf("at %d: Settle(%+v): error %v, want %v", w.model.now, *st, err, wantErr)
		}
		return
	}
	if want.Repeat && !bytes.Equal(got.Memo, want.Memo) {
		w.t.Fatalf("at %d: Settle(%+v): memo %q, want %q", w.model.now, *st, got.Memo, want.Memo)
	}
	now := want.Now
	got.Memo, want.Memo, got.Now, want.Now = nil, nil, 0, 0
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Fatalf("at %d: Settle(%+v):\n got %+v\nwant %+v (settled at %d)", w.model.now, *st, got, want, now)
	}
}

// resetSince tells whether a subject was reset after the moment to book at, or about then: nothing is promised then.
func (w *holdWalk) resetSince(st *store.Settlement) bool {
	return slices.ContainsFunc(st.Parts, func(p store.Part) bool {
		at, reset := w.model.resets[p.Subject]
		return reset && at >= st.Book
	})
}

// resets forgets a subject in store and model.
func (w *holdWalk) resets(rt *rapid.T) {
	if rapid.IntRange(0, 4).Draw(rt, "really") != 4 {
		return // a reset makes dull runs: not too often
	}
	s := rapid.SampledFrom(w.subjects).Draw(rt, "subject")
	w.reset(s)
	w.model.reset(s)
	w.goTo(w.start + 1) // what is taken at the moment of a reset is before or after it, who knows
}
