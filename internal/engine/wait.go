package engine

import (
	"context"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Bounds of waiting for a slot. How many wait at once is bounded where the calls come in.
const (
	// A waiter asks again after waitStep for itself and each one before it in line, but at least every waitLongest: its place is
	// kept for store.WaiterLife.
	waitStep    = 10 * time.Millisecond
	waitLongest = time.Second
)

// line is a reservation's wait for a slot. Its place in the line is the store's; here is when to ask again.
type line struct {
	engine   *Engine
	until    time.Time
	standing bool
}

// wait pauses before the next try of a request that has a place in line, with so many before it. It reports false when the wait
// is over: its time has come, or ctx has ended.
func (l *line) wait(ctx context.Context, ahead int) bool {
	if !l.standing {
		l.standing = true
		l.engine.opt.Metrics.Waiters.Inc()
	}
	left := time.Until(l.until)
	if left <= 0 {
		return false
	}
	timer := time.NewTimer(min(pauseFor(ahead), left))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pauseFor is how long a waiter with so many before it pauses.
func pauseFor(ahead int) time.Duration {
	const steps = int(waitLongest / waitStep)
	return time.Duration(min(max(ahead, 0)+1, steps)) * waitStep
}

// leave gives the place in the line up, if there is one. It is called after the last try, whatever came of ctx: the place would
// hold up those behind it.
func (l *line) leave(ctx context.Context, sc *scratch) {
	if !l.standing {
		return
	}
	l.step()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.engine.opt.Timeout)
	defer cancel()
	var out store.Settled
	// It errs in any case, with ErrNoHold when the place is given up. If it cannot be, the place ends with store.WaiterLife.
	_ = l.engine.opt.Store.Settle(ctx, &store.Settlement{
		Parts: partsOf(sc.resolution.Admit), ID: sc.hold.ID, Fingerprint: releasePrint, Release: true, Waiting: true,
		Deadline: time.Now().Add(l.engine.opt.Timeout),
	}, &out)
}

// step takes the reservation off the count of those that wait.
func (l *line) step() {
	if l.standing {
		l.standing = false
		l.engine.opt.Metrics.Waiters.Dec()
	}
}
