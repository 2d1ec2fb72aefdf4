package engine

import (
	"context"
	"sync/atomic"
	"time"
)

// Stopwatch adds up how long one call waits for the store. Its methods may be called on nil, which adds nothing up.
type Stopwatch struct {
	took atomic.Int64 // nanoseconds
}

type stopwatchKey struct{}

// WithStopwatch returns a context whose calls of the cost API are timed. Decide tells its time in the decision.
func WithStopwatch(ctx context.Context) (context.Context, *Stopwatch) {
	w := new(Stopwatch)
	return context.WithValue(ctx, stopwatchKey{}, w), w
}

// InStore is how long the calls have waited for the store until now.
func (w *Stopwatch) InStore() time.Duration {
	if w == nil {
		return 0
	}
	return time.Duration(w.took.Load())
}

func (w *Stopwatch) add(took time.Duration) {
	if w != nil {
		w.took.Add(int64(took))
	}
}

// stopwatchOf is the context's stopwatch; nil if it has none.
func stopwatchOf(ctx context.Context) *Stopwatch {
	w, _ := ctx.Value(stopwatchKey{}).(*Stopwatch)
	return w
}

// trip is how long a trip to the store took that was sent then.
func (e *Engine) trip(sent time.Time) time.Duration {
	took := time.Since(sent)
	if e.opt.Trips != nil {
		e.opt.Trips.Observe(took.Seconds())
	}
	return took
}

// giveTimed is give for a call of the cost API, which is timed by its context.
func (e *Engine) giveTimed(ctx context.Context, sc *scratch) {
	stopwatchOf(ctx).add(sc.inStore)
	e.give(sc)
}
