package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Bounds of the ends of streams that the store did not take at once.
const (
	maxEnds      = 1024            // that are tried again at once; more are lost
	endsTriedFor = 5 * time.Second // each
	firstRetry   = 50 * time.Millisecond
)

// ends are the ends of streams that are tried again: their caller does not ask twice. What is lost here is counted, and its hold
// ends by its lease.
type ends struct {
	pending atomic.Int64
	mu      sync.Mutex // guards closed, and that none is added after it
	closed  bool
	stop    chan struct{}
	running sync.WaitGroup
}

// later tries again in the background. cause is why the first try failed.
func (x *ends) later(e *Engine, st *store.Settlement, cause error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed || x.pending.Load() >= maxEnds {
		e.lost(cause)
		return
	}
	x.pending.Add(1)
	x.running.Go(func() {
		defer x.pending.Add(-1)
		if err := x.again(e, st); err != nil {
			e.lost(err)
		}
	})
}

// again tries until the store takes it, with pauses that double. When the engine is closed it tries once more. It errs when it
// gives up.
func (x *ends) again(e *Engine, st *store.Settlement) error {
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
		err := e.tryEnd(context.Background(), st)
		left := time.Until(until)
		if err == nil || last || left <= 0 {
			return err
		}
		timer.Reset(min(pause, left))
	}
}

func (e *Engine) lost(cause error) {
	e.opt.Metrics.LostEnds.Inc()
	e.opt.Log.LostEnd(cause)
}

// Close ends what the engine does in the background: each settlement that the store has not taken is tried once more. It is called
// before the store is closed; the engine may be asked after it, but nothing is tried again then. It errs when ctx ends first.
func (e *Engine) Close(ctx context.Context) error {
	e.ends.mu.Lock()
	if !e.ends.closed {
		e.ends.closed = true
		close(e.ends.stop)
	}
	e.ends.mu.Unlock()
	if e.ends.pending.Load() == 0 {
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
		return fmt.Errorf("%d settlements are left: %w", e.ends.pending.Load(), context.Cause(ctx))
	}
}
