package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// refusals shows that what is out of the contract's bounds is an error and changes nothing, and is never a panic.
func refusals(t *testing.T, f *Fixture) {
	t.Helper()
	c := newCaller(t, f)
	fine := lim(5, mins)
	many := make([]store.Limit, store.MaxLimits+1)
	for i := range many {
		many[i] = lim(5, mins+time.Duration(i)*sec)
	}
	c.admit(hit(alice, 1, many[:store.MaxLimits]...))
	for what, bad := range map[string]store.Check{
		"a negative amount":        hit(bob, -1, fine),
		"an amount too large":      spend(store.USD, bob, store.MaxAmount+1, fine),
		"the least integer":        hit(bob, -1<<63, fine),
		"the largest integer":      hit(bob, 1<<63-1, fine),
		"too many limits":          hit(bob, 1, many...),
		"a period of 0":            hit(bob, 1, lim(5, 0)),
		"a negative period":        hit(bob, 1, lim(5, -mins)),
		"a period too short":       hit(bob, 1, lim(5, store.MinPeriod-micro)),
		"a period too long":        hit(bob, 1, lim(5, store.MaxPeriod+micro)),
		"a negative limit":         hit(bob, 1, lim(-1, mins)),
		"a limit too large":        hit(bob, 1, lim(store.MaxAmount+1, mins)),
		"a unit without a window":  spend(store.Concurrent, bob, 1, fine),
		"a unit that is not there": spend(0, bob, 1, fine),
		"a unit of the future":     spend(200, bob, 1, fine),
	} {
		for _, checks := range [][]store.Check{call(hit(alice, 1, fine), bad), call(bad, hit(alice, 1, fine))} {
			req := &store.Request{Checks: checks}
			if err := f.Store.Admit(context.Background(), req, new(store.Answer)); err == nil || outage(err) {
				t.Errorf("%s: Admit(%s): error %v, want one that names it", what, describe(checks), err)
			}
			if _, err := f.Store.Refund(context.Background(), req, new(store.Answer)); err == nil || outage(err) {
				t.Errorf("%s: Refund(%s): error %v, want one that names it", what, describe(checks), err)
			}
		}
	}
	for _, at := range []int64{-1, store.MaxAmount + 1} {
		req := &store.Request{Checks: call(hit(alice, 1, fine)), At: at}
		if _, err := f.Store.Refund(context.Background(), req, new(store.Answer)); err == nil || outage(err) {
			t.Errorf("Refund of the hits of the moment %d: error %v, want one that names it", at, err)
		}
	}
	wantUsed(t, c.admit(hit(alice, 0, fine), hit(bob, 0, fine)), 1, 0)
	if ans := c.admit(); !ans.Admitted {
		t.Errorf("a request without checks was denied, want admitted: nothing speaks against it")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Store.Admit(ended, &store.Request{Checks: call(hit(alice, 1, fine))}, new(store.Answer)); err == nil {
		t.Errorf("Admit under an ended context: no error")
	}
	late := &store.Request{Checks: call(hit(alice, 1, fine)), Deadline: time.Now().Add(-sec)}
	if err := f.Store.Admit(context.Background(), late, new(store.Answer)); !errors.Is(err, store.ErrTimeout) {
		t.Errorf("Admit after its deadline: error %v, want ErrTimeout", err)
	}
	if _, err := f.Store.Refund(context.Background(), late, new(store.Answer)); !errors.Is(err, store.ErrTimeout) {
		t.Errorf("Refund after its deadline: error %v, want ErrTimeout", err)
	}
	wantUsed(t, c.admit(hit(alice, 0, fine)), 1)
}

// outage tells whether an error blames the store for what the caller did.
func outage(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrFull)
}

// closing shows that a closed store answers, with ErrUnavailable.
func closing(t *testing.T, f *Fixture) {
	t.Helper()
	ctx := context.Background()
	if err := f.Store.Ping(ctx); err != nil {
		t.Fatalf("Ping: %v", err)
	}
	if err := f.Store.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	check := &store.Request{Checks: call(hit(alice, 1, lim(1, mins)))}
	settlement := &store.Settlement{Parts: []store.Part{{Subject: alice, USD: day}}, ID: "a", Book: epoch}
	_, refundErr := f.Store.Refund(ctx, check, new(store.Answer))
	_, setErr := f.Store.SetOverride(ctx, alice, "plan: gold")
	_, _, readErr := f.Store.Override(ctx, alice)
	for what, err := range map[string]error{
		"Admit":       f.Store.Admit(ctx, check, new(store.Answer)),
		"Settle":      f.Store.Settle(ctx, settlement, new(store.Settled)),
		"Refund":      refundErr,
		"Reset":       f.Store.Reset(ctx, alice),
		"SetOverride": setErr,
		"Override":    readErr,
		"Ping":        f.Store.Ping(ctx),
	} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s after Close: %v, want ErrUnavailable", what, err)
		}
	}
}
