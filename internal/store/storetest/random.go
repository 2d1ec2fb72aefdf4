package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// walk is one random run against the model.
type walk struct {
	*caller
	rt       *rapid.T
	model    *model
	subjects []store.Subject
	offsets  map[logName]int64 // what the store's sequence is ahead of the model's
	told     []time.Duration   // times that the last answers told: interesting moments to go to
	policies [][]store.Limit   // limits that calls use again and again, in turn on the same logs
	bursts   int
}

// longest is the period that every random check asks for, so that store and model keep the same hits.
const longest = mins

// random compares a store with the model over random calls of limits small enough to be exact: every answer must be the
// model's. rapid prints its seed when a run fails.
func random(t *testing.T, f *Fixture) {
	t.Helper()
	c := newCaller(t, f)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		w := newWalk(rt, c, run)
		rt.Repeat(map[string]func(*rapid.T){
			"admit":    w.admits,
			"admit2":   w.admits, // twice as often as the others
			"refund":   w.refunds,
			"pass":     w.pass,
			"reset":    w.resets,
			"override": w.overrides,
			"burst":    w.burst,
		})
	})
	c.t = t
}

// newWalk begins a run with subjects and a time of its own; the global subject begins anew.
func newWalk(rt *rapid.T, c *caller, run int) *walk {
	c.t = rt
	w := &walk{caller: c, rt: rt, model: newModel(), offsets: make(map[logName]int64)}
	for i := range 3 {
		w.subjects = append(w.subjects, store.Subject{Kind: "user", ID: fmt.Sprintf("run %d {%d}", run, i)})
	}
	w.subjects = append(w.subjects, global)
	c.start += us(hour)
	w.goTo(c.start)
	c.reset(global)
	for range 3 {
		w.policies = append(w.policies, limits(rt))
	}
	if c.f.Disturb != nil && run%10 == 0 {
		c.f.Disturb()
	}
	return w
}

// goTo sets both clocks.
func (w *walk) goTo(now int64) {
	w.start, w.model.now = now, now
	w.f.Set(now)
}

// pass lets time pass, often to the very moment that an answer told, or a microsecond beside it.
func (w *walk) pass(rt *rapid.T) {
	d := time.Duration(rapid.Int64Range(0, us(longest)/3).Draw(rt, "pass")) * micro
	if len(w.told) > 0 && rapid.Bool().Draw(rt, "to a moment told") {
		d = rapid.SampledFrom(w.told).Draw(rt, "told") +
			time.Duration(rapid.Int64Range(-1, 1).Draw(rt, "beside"))*micro
	}
	w.goTo(w.start + max(0, us(d)))
	w.told = nil
}

// checks draws the checks of a call over distinct logs of some units, those of one subject side by side.
func (w *walk) checks(rt *rapid.T, units ...store.Unit) []store.Check {
	logs := rapid.SliceOfNDistinct(rapid.Custom(func(rt *rapid.T) logName {
		return logName{
			subject: rapid.SampledFrom(w.subjects).Draw(rt, "subject"),
			unit:    rapid.SampledFrom(units).Draw(rt, "unit"),
		}
	}), 1, 3, rapid.ID).Draw(rt, "logs")
	drawn := slices.Clone(logs)
	slices.SortStableFunc(logs, func(a, b logName) int {
		first := func(s store.Subject) int {
			return slices.IndexFunc(drawn, func(l logName) bool { return l.subject == s })
		}
		return first(a.subject) - first(b.subject)
	})
	checks := make([]store.Check, len(logs))
	for i, l := range logs {
		checks[i] = store.Check{
			Subject: l.subject, Unit: l.unit,
			Amount:   rapid.SampledFrom([]int64{1, 1, 1, 0, 2, 3, 7}).Draw(rt, "amount"),
			Limits:   w.limits(rt),
			Override: w.model.overrides[l.subject].Version,
		}
		if rapid.IntRange(0, 30).Draw(rt, "forget the override") == 30 {
			checks[i].Override = rapid.SampledFrom([]int64{0, 1, epoch}).Draw(rt, "version")
		}
	}
	return checks
}

// limits draws the windows of a check: those of a policy, maybe in another order, or windows of its own.
func (w *walk) limits(rt *rapid.T) []store.Limit {
	at := rapid.IntRange(-1, len(w.policies)-1).Draw(rt, "policy")
	switch {
	case at < 0:
		return limits(rt)
	case rapid.IntRange(0, 4).Draw(rt, "reorder") == 4:
		return rapid.Permutation(w.policies[at]).Draw(rt, "order")
	default:
		return w.policies[at]
	}
}

// periods are all that random checks ask for, but the longest: more than a log has room for at first, and than it keeps
// of other callers.
func periods() []time.Duration {
	const ms = time.Millisecond
	return []time.Duration{
		sec, 10 * sec, 7*sec + 1*micro, 30 * sec, // those that random times are about
		ms, 3*ms + 7*micro, 20 * ms, 20*ms + 1*micro, 50 * ms, 100 * ms, 250 * ms, 500*ms - 1*micro,
		2 * sec, 3 * sec, 5 * sec, 15 * sec, 20 * sec, 45 * sec, mins - 1*micro,
	}
}

// limits draws windows, few or many, the longest among them wherever it stands.
func limits(rt *rapid.T) []store.Limit {
	all, few := periods(), 4
	many := rapid.SampledFrom([]int{0, 1, 2, 3, 1, 2, 3, 4, 5, 8, store.MaxLimits - 1}).Draw(rt, "windows")
	if many < few && rapid.Bool().Draw(rt, "long") {
		all = all[:few]
	}
	drawn := rapid.SliceOfNDistinct(rapid.SampledFrom(all), many, many, rapid.ID).Draw(rt, "periods")
	drawn = slices.Insert(drawn, rapid.IntRange(0, len(drawn)).Draw(rt, "the longest's place"), longest)
	roomy := rapid.SampledFrom([]int64{12, 80, store.ExactHits}).Draw(rt, "room")
	out := make([]store.Limit, len(drawn))
	for i, p := range drawn {
		out[i] = store.Limit{
			Max:    rapid.SampledFrom([]int64{5, roomy, roomy, 12, roomy, 8, 3, 1, 0}).Draw(rt, "max"),
			Period: p,
			Shadow: rapid.IntRange(0, 5).Draw(rt, "shadow") == 5,
		}
		if len(drawn) > few { // else the smallest of so many decides always
			out[i].Max = max(out[i].Max, roomy)
		}
	}
	return out
}

// admits asks store and model.
func (w *walk) admits(rt *rapid.T) {
	w.ask(w.checks(rt, store.Requests, store.Requests, store.Tokens))
}

// ask asks store and model whether checks pass.
func (w *walk) ask(checks []store.Check) {
	w.learn(checks)
	want := w.model.admit(checks)
	got := w.admit(checks...)
	w.compare(checks, got, &want)
	for i := range got.States {
		if st := got.States[i]; st.Wait != store.Never {
			w.told = append(w.told, st.Wait, st.Reset)
		}
	}
}

// refunds gives back in store and model.
func (w *walk) refunds(rt *rapid.T) {
	checks := w.checks(rt, store.Requests)
	amount := rapid.Int64Range(0, 5).Draw(rt, "refund")
	if rapid.IntRange(0, 5).Draw(rt, "many") == 5 {
		amount = rapid.Int64Range(0, 400).Draw(rt, "refund")
	}
	if rapid.Bool().Draw(rt, "of a moment") {
		w.giveBackOf(rapid.Int64Range(0, us(2*mins)).Draw(rt, "ago"), checks, amount)
		return
	}
	w.giveBack(checks, amount)
}

// giveBackOf gives back an amount of each check of the hits of a moment so many microseconds ago, in store and model.
func (w *walk) giveBackOf(ago int64, checks []store.Check, amount int64) {
	w.t.Helper()
	for i := range checks {
		checks[i].Amount = amount
	}
	w.learn(checks)
	at := w.model.now - ago
	wantTook, want := w.model.refundAt(at, checks)
	took, got := w.refundAt(at, checks...)
	if took != wantTook {
		w.t.Fatalf("Refund(%s) of the hits of %d took %d, want %d", describe(checks), at, took, wantTook)
	}
	w.compare(checks, got, &want)
}

// giveBack gives back an amount of each check in store and model.
func (w *walk) giveBack(checks []store.Check, amount int64) {
	w.t.Helper()
	for i := range checks {
		checks[i].Amount = amount
	}
	w.learn(checks)
	wantTook, want := w.model.refund(checks)
	took, got := w.refund(checks...)
	if took != wantTook {
		w.t.Fatalf("Refund(%s) took %d, want %d", describe(checks), took, wantTook)
	}
	w.compare(checks, got, &want)
}

// resets forgets a subject in store and model.
func (w *walk) resets(rt *rapid.T) {
	if rapid.IntRange(0, 3).Draw(rt, "really") != 3 {
		return // a reset makes dull runs: not too often
	}
	s := rapid.SampledFrom(w.subjects).Draw(rt, "subject")
	w.reset(s)
	w.model.reset(s)
	for key := range w.offsets {
		if key.subject == s {
			delete(w.offsets, key)
		}
	}
}

// overrides sets or removes a user's override in store and model.
func (w *walk) overrides(rt *rapid.T) {
	s := rapid.SampledFrom(w.subjects[:3]).Draw(rt, "subject")
	value := rapid.SampledFrom([]string{"", "plan: gold", "plan: silver"}).Draw(rt, "value")
	version := w.override(s, value)
	if value == "" {
		delete(w.model.overrides, s)
		return
	}
	w.model.overrides[s] = store.Stale{Version: version, Value: value}
}

// learn forgets what a log's sequence was ahead of the model's, where the contract lets the store begin it anew.
func (w *walk) learn(checks []store.Check) {
	for i := range checks {
		log := w.model.log(&checks[i])
		if w.model.now >= log.time(0)+us(longest) {
			delete(w.offsets, logName{checks[i].Subject, checks[i].Unit})
		}
	}
}

// compare fails unless the answer is the model's.
func (w *walk) compare(checks []store.Check, got, want *store.Answer) {
	w.t.Helper()
	if !slices.Equal(got.Stale, want.Stale) {
		w.t.Fatalf("at %d: %s: stale\n got %+v\nwant %+v", w.model.now, describe(checks), got.Stale, want.Stale)
	}
	if got.Admitted != want.Admitted || !slices.Equal(got.States, want.States) {
		w.t.Fatalf("at %d: %s:\n got admitted=%v %+v\nwant admitted=%v %+v",
			w.model.now, describe(checks), got.Admitted, got.States, want.Admitted, want.States)
	}
	for i := range got.Seqs {
		key := logName{checks[i].Subject, checks[i].Unit}
		total := w.model.log(&checks[i]).total
		offset, known := w.offsets[key]
		if !known {
			w.offsets[key] = got.Seqs[i] - total
		} else if got.Seqs[i] != total+offset {
			w.t.Fatalf("at %d: %s: sequence %d of check %d, want %d", w.model.now, describe(checks), got.Seqs[i], i, total+offset)
		}
	}
}
