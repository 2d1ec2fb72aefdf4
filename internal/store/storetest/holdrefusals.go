package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// holdRefusals shows that holds and settlements that are out of the contract's bounds are errors and change nothing.
func holdRefusals(t *testing.T, f *Fixture) {
	t.Helper()
	c := newCaller(t, f)
	ten := lim(10, day)
	refuseHolds(t, c, ten)
	refuseSettlements(t, c, ten)
	for _, unit := range []store.Unit{store.Tokens, store.USD, store.Concurrent} {
		check := spend(unit, alice, 1, ten)
		if unit == store.Concurrent {
			check.Limits = []store.Limit{{Max: 10}}
		}
		_, err := f.Store.Refund(context.Background(), &store.Request{Checks: call(check)}, new(store.Answer))
		if err == nil || outage(err) {
			t.Errorf("Refund of %s: error %v, want one that names the unit", unit, err)
		}
	}
	wantUsed(t, c.admit(money(alice, 0, ten), tokens(alice, 0, ten)), 0, 0)
	late := &store.Settlement{
		Parts: []store.Part{{Subject: alice, USD: day}}, ID: "late", Book: epoch, USD: 1, Deadline: time.Now().Add(-sec),
	}
	if err := f.Store.Settle(context.Background(), late, new(store.Settled)); !errors.Is(err, store.ErrTimeout) {
		t.Errorf("Settle after its deadline: error %v, want ErrTimeout", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	late.Deadline = time.Time{}
	if err := f.Store.Settle(ended, late, new(store.Settled)); err == nil {
		t.Errorf("Settle under an ended context: no error")
	}
}

// refuseHolds asks for holds that no policy makes.
func refuseHolds(t *testing.T, c *caller, ten store.Limit) {
	t.Helper()
	for what, bad := range map[string]func(*store.Request){
		"an empty id":           func(r *store.Request) { r.Hold.ID = "" },
		"an id too long":        func(r *store.Request) { r.Hold.ID = strings.Repeat("x", store.MaxHoldID+1) },
		"a lease of 0":          func(r *store.Request) { r.Hold.Lease = 0 },
		"a lease too short":     func(r *store.Request) { r.Hold.Lease = store.MinLease - micro },
		"a lease too long":      func(r *store.Request) { r.Hold.Lease = store.MaxLease + micro },
		"a negative lease":      func(r *store.Request) { r.Hold.Lease = -sec },
		"negative money":        func(r *store.Request) { r.Hold.USD, r.Checks[0].Amount = -1, -1 },
		"the least money":       func(r *store.Request) { r.Hold.USD, r.Checks[0].Amount = -1<<63, -1<<63 },
		"too much money":        func(r *store.Request) { r.Hold.USD, r.Checks[0].Amount = store.MaxAmount+1, store.MaxAmount+1 },
		"too many tokens":       func(r *store.Request) { r.Hold.Tokens = 1<<63 - 1 },
		"negative tokens":       func(r *store.Request) { r.Hold.Tokens = -1 },
		"two slots":             func(r *store.Request) { r.Checks[1].Amount = 2 },
		"slots of a period":     func(r *store.Request) { r.Checks[1].Limits = []store.Limit{lim(5, mins)} },
		"two limits of slots":   func(r *store.Request) { r.Checks[1].Limits = []store.Limit{{Max: 1}, {Max: 2}} },
		"money of no period":    func(r *store.Request) { r.Checks[0].Limits = []store.Limit{{Max: 1}} },
		"too large a limit":     func(r *store.Request) { r.Checks[0].Limits = []store.Limit{lim(store.MaxAmount+1, day)} },
		"a hold without checks": func(r *store.Request) { r.Checks = nil },
	} {
		checks := call(money(alice, 1, ten), slot(alice, 5))
		req := &store.Request{Checks: checks, Hold: holdOf("bad", checks)}
		bad(req)
		if err := c.client().Admit(context.Background(), req, new(store.Answer)); err == nil || outage(err) {
			t.Errorf("%s: Admit(%s, %+v): error %v, want one that names it", what, describe(req.Checks), *req.Hold, err)
		}
	}
	wantUsed(t, c.admit(money(alice, 0, ten), spend(store.Concurrent, alice, 0, store.Limit{Max: 5})), 0, 0)
}

// refuseSettlements settles as no engine does.
func refuseSettlements(t *testing.T, c *caller, ten store.Limit) {
	t.Helper()
	part := store.Part{Subject: alice, USD: day}
	for what, bad := range map[string]func(*store.Settlement){
		"an empty id":      func(s *store.Settlement) { s.ID = "" },
		"an id too long":   func(s *store.Settlement) { s.ID = strings.Repeat("x", store.MaxHoldID+1) },
		"negative money":   func(s *store.Settlement) { s.USD = -1 },
		"too much money":   func(s *store.Settlement) { s.USD = store.MaxAmount + 1 },
		"negative tokens":  func(s *store.Settlement) { s.Tokens = -1 << 63 },
		"too many tokens":  func(s *store.Settlement) { s.Tokens = 1<<63 - 1 },
		"a memo too long":  func(s *store.Settlement) { s.Memo = make([]byte, store.MaxMemo+1) },
		"no subject":       func(s *store.Settlement) { s.Parts = nil },
		"a subject twice":  func(s *store.Settlement) { s.Parts = []store.Part{part, part} },
		"before the epoch": func(s *store.Settlement) { s.Book = -1 },
		"a negative period": func(s *store.Settlement) {
			s.Parts = []store.Part{{Subject: alice, USD: -day}}
		},
		"a period too long": func(s *store.Settlement) {
			s.Parts = []store.Part{{Subject: alice, USD: store.MaxPeriod + micro}}
		},
	} {
		st := &store.Settlement{Parts: []store.Part{part}, ID: "bad", Fingerprint: 1, USD: 1, Book: epoch}
		bad(st)
		if err := c.client().Settle(context.Background(), st, new(store.Settled)); err == nil || outage(err) || errors.Is(err, store.ErrNoHold) {
			t.Errorf("%s: Settle(%+v): error %v, want one that names it", what, *st, err)
		}
	}
	wantUsed(t, c.admit(money(alice, 0, ten)), 0)
}

// hostileHolds shows that holds of no two subjects meet, whatever their bytes.
func hostileHolds(t *testing.T, f *Fixture) {
	t.Helper()
	c := newCaller(t, f)
	subjects := hostileSubjects()
	for i, s := range subjects {
		checks := call(tokens(s, 3, lim(9, day)), money(s, int64(i)+1, lim(1000, day)), slot(s, 2))
		if err := c.decide(&store.Request{Checks: checks, Hold: holdOf("one", checks)}); err != nil || !c.ans.Admitted || c.ans.Hold.Repeat {
			t.Fatalf("subject %d %s: %+v, %v, want a hold of its own", i, name(s), c.ans, err)
		}
	}
	slices.Reverse(subjects)
	for n, s := range subjects {
		i := int64(len(subjects) - 1 - n)
		checks := call(tokens(s, 0, lim(9, day)), money(s, 0, lim(1000, day)), spend(store.Concurrent, s, 0, store.Limit{Max: 2}))
		wantUsed(t, c.admit(checks...), 3, i+1, 1)
		var out store.Settled
		st := &store.Settlement{Parts: partsOf(checks), ID: "one", Fingerprint: 2, USD: i + 500, Tokens: 1}
		if err := c.client().Settle(context.Background(), st, &out); err != nil || out.HeldUSD != i+1 || out.Repeat {
			t.Fatalf("subject %d %s: Settle: %+v, %v, want the first of a hold of %d", i, name(s), out, err, i+1)
		}
		wantUsed(t, c.admit(checks...), 1, i+500, 0)
	}
	if ans := c.admit(money(global, 0, lim(1000, day))); ans.States[0].Used != 0 {
		t.Fatalf("the global subject has used %d, want 0: some id passes for it", ans.States[0].Used)
	}
}

// holdKeys shows that only what is admitted or booked takes room.
func holdKeys(t *testing.T, f *Fixture) {
	t.Helper()
	s := newStory(newCaller(t, f), 0, "keys")
	s.ask("full", money(global, 10, lim(10, day)), slot(global, 1)).admitted()
	before := f.Keys()
	for i := range 50 {
		stranger := store.Subject{Kind: "user", ID: fmt.Sprintf("stranger %d", i)}
		id := fmt.Sprintf("of stranger %d", i)
		s.ask(id, tokens(stranger, 1, lim(9, day)), slot(stranger, 2), money(global, 1, lim(10, day))).denied()
		s.ask(id, money(stranger, 10, lim(9, day)), slot(stranger, 2)).denied()
		s.look(money(stranger, 1, lim(9, day)), slot(stranger, 2)).admitted()
		s.settle(id, 1, 1).fails(store.ErrNoHold)
		s.release(id).fails(store.ErrNoHold)
		s.extend(id, money(stranger, 1, lim(9, day))).fails(store.ErrNoHold)
	}
	if after := f.Keys(); after != before {
		t.Fatalf("calls that took nothing made %d keys", after-before)
	}
	s.ask("a", money(s.user, 1, lim(9, day))).admitted()
	if after := f.Keys(); after <= before {
		t.Fatalf("an admitted call left %d keys, want more than %d", after, before)
	}
}
