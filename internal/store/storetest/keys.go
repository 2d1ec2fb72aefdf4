package storetest

import (
	"fmt"
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// keys shows that only what is admitted or set takes room.
func keys(t *testing.T, f *Fixture) {
	t.Helper()
	c := newCaller(t, f)
	limit := lim(1, hour)
	c.admit(hit(global, 1, limit))
	before := f.Keys()
	for i := range 100 {
		s := store.Subject{Kind: "user", ID: fmt.Sprintf("stranger %d", i)}
		if ans := c.admit(hit(s, 1, limit), hit(global, 1, limit)); ans.Admitted {
			t.Fatalf("call %d was admitted over a full global limit", i)
		}
		c.admit(hit(s, 2, limit))
		c.admit(hit(s, 1, lim(0, hour)), spend(store.Tokens, s, 1, limit))
		c.admit(hit(s, 0, limit))
		c.refund(hit(s, 1, limit), hit(global, 0, limit))
		c.reset(s)
	}
	if after := f.Keys(); after != before {
		t.Fatalf("calls that took nothing made %d keys", after-before)
	}
	c.admit(hit(alice, 1, limit))
	if after := f.Keys(); after <= before {
		t.Fatalf("an admitted call left %d keys, want more than %d", after, before)
	}
	c.reset(alice)
	if after := f.Keys(); after != before {
		t.Fatalf("a reset left %d keys, want %d as before the subject came", after, before)
	}
}
