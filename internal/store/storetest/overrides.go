package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// overrides shows the life of an override: set, seen by all, obeyed, replaced, removed.
func overrides(t *testing.T, f *Fixture) {
	t.Helper()
	c := newCaller(t, f)
	limit := lim(5, hour)
	wantOverride(t, c, alice, 0, "")

	c.admit(hit(alice, 2, limit))
	first := c.override(alice, "plan: gold")
	if first < epoch {
		t.Fatalf("the first version is %d, want the store's time of at least %d", first, int64(epoch))
	}
	wantOverride(t, c, alice, first, "plan: gold")
	wantOverride(t, c, bob, 0, "")

	t.Run("a check made without it is stale and changes nothing", func(t *testing.T) {
		c.t = t
		wantStale(t, c.admit(hit(alice, 1, limit)), store.Stale{Check: 0, Version: first, Value: "plan: gold"})
		wantStale(t, c.admit(hit(bob, 1, limit), hit(alice, 1, limit)), store.Stale{Check: 1, Version: first, Value: "plan: gold"})
		_, ans := c.refund(hit(alice, 1, limit))
		wantStale(t, ans, store.Stale{Check: 0, Version: first, Value: "plan: gold"})
		wantUsed(t, c.admit(hit(bob, 0, limit)), 0)
		wantUsed(t, c.admit(under(first, hit(alice, 0, limit))), 2)
	})
	t.Run("a check made with it is decided", func(t *testing.T) {
		c.t = t
		wantUsed(t, c.admit(under(first, hit(alice, 1, limit)), hit(bob, 1, limit)), 3, 1)
		if took, ans := c.refund(under(first, hit(alice, 1, limit))); took != 1 || ans.States[0].Used != 2 {
			t.Fatalf("Refund took %d and left %+v, want 1 and a use of 2", took, ans.States)
		}
	})
	t.Run("all stale checks are listed, and all units see it", func(t *testing.T) {
		c.t = t
		wantStale(t, c.admit(hit(alice, 1, limit), spend(store.Tokens, alice, 1, limit), under(7, hit(bob, 1, limit))),
			store.Stale{Check: 0, Version: first, Value: "plan: gold"},
			store.Stale{Check: 1, Version: first, Value: "plan: gold"}, store.Stale{Check: 2})
	})
	t.Run("a new one has a larger version, also while the clock stands still or runs back", func(t *testing.T) {
		c.t = t
		last := first
		for _, now := range []int64{epoch, epoch, epoch - 1000, epoch + 1000} {
			f.Set(now)
			version := c.override(alice, "plan: silver")
			if version <= last {
				t.Fatalf("version %d follows %d, want a larger one", version, last)
			}
			last = version
		}
		wantOverride(t, c, alice, last, "plan: silver")
		wantStale(t, c.admit(under(first, hit(alice, 1, limit))), store.Stale{Check: 0, Version: last, Value: "plan: silver"})
	})
	t.Run("a reset leaves it", func(t *testing.T) {
		c.t = t
		c.reset(alice)
		version, value, err := f.Store.Override(context.Background(), alice)
		if err != nil || value != "plan: silver" {
			t.Fatalf("Override after a reset = %d, %q, %v, want plan: silver", version, value, err)
		}
		wantUsed(t, c.admit(under(version, hit(alice, 1, limit))), 1)
	})
	t.Run("removed, it is gone, and the hits stay", func(t *testing.T) {
		c.t = t
		version, _, err := f.Store.Override(context.Background(), alice)
		if err != nil {
			t.Fatalf("Override: %v", err)
		}
		c.override(alice, "")
		wantOverride(t, c, alice, 0, "")
		wantStale(t, c.admit(under(version, hit(alice, 1, limit))), store.Stale{Check: 0})
		wantUsed(t, c.admit(hit(alice, 1, limit)), 2)
		c.override(alice, "")
		wantOverride(t, c, alice, 0, "")
	})
	t.Run("any bytes are kept", func(t *testing.T) {
		c.t = t
		for _, value := range []string{"\x00", "\xff\xfe", "{}: |\n", " "} {
			wantOverride(t, c, bob, c.override(bob, value), value)
		}
	})
}

// under is a check made from an override.
func under(version int64, c store.Check) store.Check {
	c.Override = version
	return c
}

// wantOverride fails unless both clients read this override.
func wantOverride(t *testing.T, c *caller, s store.Subject, version int64, value string) {
	t.Helper()
	for i, client := range c.clients {
		gotVersion, got, err := client.Override(context.Background(), s)
		if err != nil || gotVersion != version || got != value {
			t.Fatalf("client %d: Override(%s) = %d, %q, %v, want %d, %q", i, name(s), gotVersion, got, err, version, value)
		}
	}
}

// wantStale fails unless the answer lists exactly these.
func wantStale(t *testing.T, ans *store.Answer, want ...store.Stale) {
	t.Helper()
	if !slices.Equal(ans.Stale, want) {
		t.Fatalf("stale\n got %+v\nwant %+v", ans.Stale, want)
	}
}

// wantUsed fails unless the answer's states have these uses and nothing was stale.
func wantUsed(t *testing.T, ans *store.Answer, want ...int64) {
	t.Helper()
	if len(ans.Stale) > 0 || len(ans.States) != len(want) {
		t.Fatalf("answer %+v, want uses %v", ans, want)
	}
	for i := range want {
		if ans.States[i].Used != want[i] {
			t.Fatalf("uses of %+v, want %v", ans.States, want)
		}
	}
}
