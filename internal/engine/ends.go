package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// Bounds of what the engine ends in the background.
const (
	maxEnds      = 1024            // ends of streams that are tried again at once; more are lost
	maxReleases  = 1024            // holds that nobody knows of and are released at once; more end by their leases
	endsTriedFor = 5 * time.Second // each
	firstRetry   = 50 * time.Millisecond
)

// ends are what is ended in the background: the ends of streams that the store did not take at once, whose caller does not ask
// twice, and the holds that no caller knows of. Each kind has a bound of its own, since releases come in crowds when the store is
// slow and are mostly of nothing, and a settlement is real money. A settlement that is lost is counted; the hold of either then
// ends by its lease.
type ends struct {
	settlements, releases atomic.Int64
	mu                    sync.Mutex // guards closed, and that none is added after it
	closed                bool
	stop                  chan struct{}
	running               sync.WaitGroup
}

// settle tries an end of a stream again, in the trace of its call. cause is why the first try failed.
func (x *ends) settle(ctx context.Context, e *Engine, st *ending, cause error) {
	ctx = telemetry.OnlyTrace(ctx)
	if !x.later(ctx, e, st, &x.settlements, maxEnds, e.lost) {
		e.lost(ctx, cause)
	}
}

// release releases a hold that no caller knows of, if there is one.
func (x *ends) release(e *Engine, st *ending) {
	x.later(context.Background(), e, st, &x.releases, maxReleases, func(context.Context, error) {})
}

// later tries in the background, and hands what it gives up with to lost. It reports false when so many of the kind are pending that
// it does not try.
func (x *ends) later(
	ctx context.Context, e *Engine, st *ending, pending *atomic.Int64, most int64, lost func(context.Context, error),
) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed || pending.Load() >= most {
		return false
	}
	pending.Add(1)
	x.running.Go(func() {
		defer pending.Add(-1)
		if err := x.again(ctx, e, st); err != nil {
			lost(ctx, err)
		}
	})
	return true
}

// pending is how many are not done yet.
func (x *ends) pending() int64 { return x.settlements.Load() + x.releases.Load() }

// again tries until the store takes it, with pauses that double. When the engine is closed it tries once more. It errs when it
// gives up.
func (x *ends) again(ctx context.Context, e *Engine, st *ending) error {
	until := time.Now().Add(endsTriedFor)
	timer := time.NewTimer(firstRetry)
	defer timer.Stop()
	for pause := 2 * firstRetry; ; pause *= 2 {
		last := false
		select {
		case <-timer.C:
		case <-x.stop:
			last = true
		}
		err := e.tryEnd(ctx, st)
		left := time.Until(until)
		if err == nil || last || left <= 0 {
			return err
		}
		timer.Reset(min(pause, left))
	}
}

func (e *Engine) lost(ctx context.Context, cause error) {
	e.opt.Metrics.LostEnds.Inc()
	e.opt.Log.LostEnd(ctx, cause)
}

// Close ends what the engine does in the background: each settlement and release that the store has not taken is tried
// once more. It is called
// before the store is closed; the engine may be asked after it, but nothing is tried again then. It errs when ctx ends first.
func (e *Engine) Close(ctx context.Context) error {
	e.ends.mu.Lock()
	if !e.ends.closed {
		e.ends.closed = true
		close(e.ends.stop)
	}
	e.ends.mu.Unlock()
	if e.ends.pending() == 0 {
		return nil
	}
	done := make(chan struct{})
	go func() {
		e.ends.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d settlements are left: %w", e.ends.pending(), context.Cause(ctx))
	}
}
