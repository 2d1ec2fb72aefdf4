package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

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
