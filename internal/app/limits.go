package app

import (
	"context"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// Bounds of asking the store for the metrics: scrapes must not load it, nor wait for it.
const (
	limitsTimeout = 250 * time.Millisecond
	// limitsAge is how old an answer may be that a scrape is given, none included.
	limitsAge = time.Second
)

// limitsReader reads how the global tier's limits stand, for scrapes: one question at a time, and at most one a second. It is safe
// for concurrent use.
type limitsReader struct {
	ask func(context.Context) ([]engine.LimitState, error)

	turn  chan struct{} // holds one while the store is asked: whoever else scrapes waits for that answer
	asked time.Time     // what follows is of whose turn it is
	last  []telemetry.LimitReading
}

func newLimitsReader(ask func(context.Context) ([]engine.LimitState, error)) *limitsReader {
	return &limitsReader{ask: ask, turn: make(chan struct{}, 1)}
}

// read returns the limits as they stand; none while the store cannot be asked.
func (r *limitsReader) read() []telemetry.LimitReading {
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	if !r.asked.IsZero() && time.Since(r.asked) < limitsAge {
		return r.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), limitsTimeout)
	defer cancel()
	limits, err := r.ask(ctx)
	r.asked = time.Now()
	r.last = nil // an answer of before would look like one of now
	if err != nil {
		return nil
	}
	for i := range limits {
		r.last = append(r.last, readingOf(&limits[i], r.asked))
	}
	return r.last
}

// readingOf is a limit as the metrics show it.
func readingOf(state *engine.LimitState, now time.Time) telemetry.LimitReading {
	limit := &state.Limit
	amount := func(n int64) float64 {
		if limit.Unit == store.USD {
			return float64(n) / budget.NanoPerUSD // a metric is a float: the exact amount is the store's
		}
		return float64(n)
	}
	reading := telemetry.LimitReading{
		Tier: state.Tier, Limit: limit.Name, Unit: limit.Unit.String(), Window: telemetry.WindowSliding,
		Max: amount(limit.Max), Used: amount(state.Used), Held: amount(state.Held), Period: limit.Period.Seconds(),
	}
	if !state.Resets.IsZero() {
		reading.Resets = seconds(state.Resets.UnixMicro())
	}
	switch {
	case limit.Unit == store.Concurrent:
		reading.Window, reading.Resets = telemetry.WindowNone, 0
	case limit.Calendar != nil:
		start, end := limit.Calendar.Window(now.UnixMicro())
		reading.Window, reading.Period, reading.Resets = telemetry.WindowCalendar, seconds(end-start), seconds(end)
	}
	return reading
}

// seconds are microseconds as a metric takes them.
func seconds(micros int64) float64 { return float64(micros) / 1e6 }
