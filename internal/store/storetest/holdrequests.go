package storetest

import (
	"context"
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// holdRequests shows that the request of a hold is given back by the moment that the hold was told to have: in the log of each of
// its subjects that one, while newer ones stay.
func holdRequests(t *testing.T, f *Fixture) {
	t.Helper()
	c := newCaller(t, f)
	five, nine := lim(5, mins), lim(9, mins)
	checks := call(hit(alice, 1, five), slot(alice, 9), hit(global, 1, nine), slot(global, 9))
	c.at(sec)
	req := &store.Request{Checks: checks, Hold: &store.Hold{ID: "a", Lease: mins, Slot: true}}
	var held store.Answer
	if err := f.Store.Admit(context.Background(), req, &held); err != nil || !held.Admitted {
		t.Fatalf("Admit: %+v, %v, want it admitted", held, err)
	}
	c.at(31 * sec)
	c.admit(hit(alice, 4, five), hit(global, 4, nine))
	back := call(hit(alice, 1, five), hit(global, 1, nine))
	if took, ans := c.refundAt(held.Hold.At, back...); took != 1 || ans.States[0] != st(4, mins, 0) || ans.States[1] != st(4, mins, 0) {
		t.Errorf("Refund took %d and left %+v, want 1 and the newer requests", took, ans.States)
	}
	c.at(61 * sec) // the hold's own would have left by now
	wantUsed(t, c.admit(hit(alice, 0, five), hit(global, 0, nine)), 4, 4)
}
