package storetest

import (
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// changes shows that what makes past answers untrue is heard of, also when another client did it.
func changes(t *testing.T, f *Fixture) {
	t.Helper()
	heard := make(chan store.Change, 1024)
	f.Store.OnChange(func(c store.Change) {
		if !c.Lost && !c.Restored {
			heard <- c
		}
	})
	c := newCaller(t, f)
	limit := lim(9, hour)
	for client := range c.clients {
		c.clients = []store.Store{c.clients[client], c.clients[client]}
		c.admit(hit(alice, 2, limit), hit(global, 2, limit))
		c.refund(hit(alice, 1, limit), hit(global, 1, limit))
		wantHeard(t, heard, "a refund", alice, global)
		c.reset(alice)
		wantHeard(t, heard, "a reset", alice)
		c.override(alice, "plan: gold")
		wantHeard(t, heard, "an override", alice)
		c.override(alice, "")
		wantHeard(t, heard, "an override's removal", alice)
		c.override(global, "plan: gold")
		wantHeard(t, heard, "the global subject's override", global)
		c.override(global, "")
		wantHeard(t, heard, "the removal of the global subject's override", global)
		c.clients = []store.Store{f.Store, f.Another()}
	}
}

// wantHeard waits until a change was heard of each of the subjects.
func wantHeard(t *testing.T, heard <-chan store.Change, what string, subjects ...store.Subject) {
	t.Helper()
	missing := make(map[store.Subject]bool)
	for _, s := range subjects {
		missing[s] = true
	}
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	for len(missing) > 0 {
		select {
		case change := <-heard:
			delete(missing, change.Subject)
		case <-deadline.C:
			t.Fatalf("%s: not heard of within 5 s: %v", what, missing)
		}
	}
}
