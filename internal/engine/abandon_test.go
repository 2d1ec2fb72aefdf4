package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// leaving is a store whose caller goes while it decides.
type leaving struct {
	store.Store

	leave func() // nil for a caller that stays
	after bool   // the caller goes when the decision is made, not before
}

func (l *leaving) Admit(ctx context.Context, req *store.Request, ans *store.Answer) error {
	if l.leave == nil {
		return l.Store.Admit(ctx, req, ans)
	}
	err := l.Store.Admit(ctx, req, ans)
	l.leave()
	if !l.after {
		return ctx.Err() // as a store says that did not see what came of it
	}
	return err
}

// TestWhatACallerThatHasGoneHoldsIsReleased has callers by Envoy go before their answer: nobody will end their holds.
func TestWhatACallerThatHasGoneHoldsIsReleased(t *testing.T) {
	for name, after := range map[string]bool{"before the store has answered": false, "when the store has answered": true} {
		t.Run(name, func(t *testing.T) {
			away := &leaving{after: after}
			runCost(t, "", func(o *Options) { away.Store = o.Store; o.Store = away }, func(t *testing.T, b *bench) {
				ctx, cancel := context.WithCancel(t.Context())
				away.leave = cancel
				var dec Decision
				call := policy.Call{Domain: "assistant", Descriptors: []policy.Descriptor{holding("a")}}
				if err := b.Decide(ctx, &call, &dec); !errors.Is(err, context.Canceled) || dec.Hold != "" {
					t.Fatalf("got %v and the token %q, want the context's error and none", err, dec.Hold)
				}
				away.leave = nil
				if b.slots() != 1 {
					t.Fatalf("%d slots are in use, want the one that nobody will end", b.slots())
				}
				time.Sleep(firstRetry)
				synctest.Wait()
				b.wantMoney("a", 0, 0)
				if b.slots() != 0 {
					t.Errorf("%d slots are in use, want none", b.slots())
				}
			})
		})
	}
}

// late is a store whose decisions are made, but answered too late.
type late struct {
	store.Store

	late  bool
	leave func() // the caller goes meanwhile; nil for one that stays
}

func (l *late) Admit(ctx context.Context, req *store.Request, ans *store.Answer) error {
	err := l.Store.Admit(ctx, req, ans)
	if l.leave != nil {
		l.leave()
	}
	if l.late {
		return store.ErrTimeout
	}
	return err
}

// TestWhatIsHeldOfADeniedCallIsReleased has calls denied by on_store_failure though the store takes what they hold.
func TestWhatIsHeldOfADeniedCallIsReleased(t *testing.T) {
	for name, tc := range map[string]struct {
		ask  func(ctx context.Context, t *testing.T, b *bench, slow *late)
		left int64 // slots in use in the end
	}{
		"by Envoy": {ask: func(ctx context.Context, t *testing.T, b *bench, _ *late) {
			t.Helper()
			var dec Decision
			call := policy.Call{Domain: "assistant", Descriptors: []policy.Descriptor{holding("a", "org_id", "acme")}}
			if err := b.Decide(ctx, &call, &dec); err != nil || dec.Mode != FailedShut || dec.Hold != "" {
				t.Fatalf("got %+v, %v, want a denial without a token", dec, err)
			}
		}},
		"a reservation": {ask: func(ctx context.Context, t *testing.T, b *bench, _ *late) {
			t.Helper()
			_, err := b.Reserve(ctx, ofAcme("a"))
			wantReason(t, err, StoreUnavailable)
		}},
		"a reservation that its caller repeats by its key": {left: 1, ask: func(ctx context.Context, t *testing.T, b *bench, _ *late) {
			t.Helper()
			_, err := b.Reserve(ctx, ofAcme("a").keyed("k"))
			wantReason(t, err, StoreUnavailable)
		}},
		"a reservation whose caller has gone": {ask: func(ctx context.Context, t *testing.T, b *bench, slow *late) {
			t.Helper()
			gone, cancel := context.WithCancel(ctx)
			slow.leave = cancel
			if _, err := b.Reserve(gone, ofAcme("a")); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, want the context's error", err)
			}
			slow.leave = nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			slow := &late{}
			runCost(t, "", func(o *Options) { slow.Store = o.Store; o.Store = slow }, func(t *testing.T, b *bench) {
				slow.late = true
				tc.ask(t.Context(), t, b, slow)
				slow.late = false
				if b.slots() != 1 {
					t.Fatalf("%d slots are in use, want the one that the store has taken", b.slots())
				}
				time.Sleep(firstRetry)
				synctest.Wait()
				if _, held := b.money("a"); b.slots() != tc.left || held > 0 != (tc.left > 0) {
					t.Errorf("%d slots are in use and %d nano-USD held, want %d slots", b.slots(), held, tc.left)
				}
			})
		})
	}
}

// ofAcme is a reservation of an organisation that is denied while the store is away.
func ofAcme(id string) *Reservation {
	r := of(id, 100, 10)
	r.Spender.Subjects = map[string]string{"org_id": "acme"}
	return r
}

// TestReleasesCrowdOutNoSettlement fills the releases while the store is away.
func TestReleasesCrowdOutNoSettlement(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		end := StreamEnd{Hold: b.decide(holding("a")).Hold, Outcome: "success"}
		b.store.fail(store.ErrTimeout)
		for range maxReleases + 7 {
			_, err := b.Reserve(t.Context(), ofAcme("b"))
			wantReason(t, err, StoreUnavailable)
		}
		b.EndStream(t.Context(), &end)
		if r, s := b.ends.releases.Load(), b.ends.settlements.Load(); r != maxReleases || s != 1 {
			t.Fatalf("%d releases and %d settlements are tried again, want %d and 1", r, s, maxReleases)
		}
		b.store.fail(nil)
		b.ends.running.Wait()
		if lost := testutil.ToFloat64(b.opt.Metrics.LostEnds); lost != 0 || b.slots() != 0 {
			t.Errorf("%v settlements are lost and %d slots in use, want none", lost, b.slots())
		}
	})
}
