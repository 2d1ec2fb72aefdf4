package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// dueStore notes when its answers are due.
type dueStore struct {
	store.Store
	due time.Time
}

func (d *dueStore) Admit(ctx context.Context, req *store.Request, ans *store.Answer) error {
	d.due = req.Deadline
	return d.Store.Admit(ctx, req, ans)
}

func TestTheGlobalLimitsAreReadWithinTheCallersTime(t *testing.T) {
	due := &dueStore{}
	runCost(t, "", func(o *Options) { due.Store, o.Store = o.Store, due }, func(t *testing.T, b *bench) {
		b.policy.Store(parse(t, replaceOnce(costPolicy,
			"global: {limits: [10 USD/day, 3 concurrent]", "global: {limits: [10 USD/day, {limit: 1 USD/hour, shadow: true}, 3 concurrent]")))
		b.reserve(of("a", 100, 0))
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		limits, err := b.GlobalLimits(ctx)
		if err != nil || due.due != time.Now().Add(250*time.Millisecond) {
			t.Errorf("the answer is due in %s (%v), want 250ms", time.Until(due.due), err)
		}
		if len(limits) != 2 {
			t.Fatalf("got %+v, want the two limits that are enforced", limits)
		}
		if usd, slots := limits[0], limits[1]; usd.Used != 150_000 || usd.Held != 150_000 || slots.Used != 1 {
			t.Errorf("got %+v, want 150000 nano-USD, all held, and one slot", limits)
		}
		b.store.fail(store.ErrTimeout)
		if _, err := b.GlobalLimits(ctx); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("of a store that is away: got %v", err)
		}
		if got := counted(t, b.opt.Metrics.StoreErrors, "kind"); len(got) > 0 {
			t.Errorf("a scrape counts trouble: %v", got)
		}
	})
}
