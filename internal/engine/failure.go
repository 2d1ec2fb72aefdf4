package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// failed answers a call that the store did not decide.
func (e *Engine) failed(ctx context.Context, sc *scratch, err error, dec *Decision) error {
	if ctx.Err() != nil {
		return fmt.Errorf("deciding: %w", context.Cause(ctx))
	}
	e.fail(ctx, sc, err, dec)
	return nil
}

// fail answers by the tiers' on_store_failure: the call is denied if any tier that it touches denies then.
func (e *Engine) fail(ctx context.Context, sc *scratch, err error, dec *Decision) {
	e.trouble(ctx, err)
	dec.Mode = FailedOpen
	shut := uint64(0)
	for i := range sc.resolution.Admit {
		check := &sc.resolution.Admit[i]
		if check.OnStoreFailure == policy.Deny {
			shut |= 1 << i
		}
	}
	if shut != 0 {
		dec.Mode, dec.Denied = FailedShut, true
		for _, tier := range tiersOf(sc.resolution.Admit, shut) {
			e.opt.Log.FailedShut(ctx, tier)
		}
	}
	for i, named := range sc.resolution.Of {
		if named.Admit == 0 {
			continue
		}
		st := &dec.Statuses[i]
		*st = Status{Matched: true, Denied: named.Admit&shut != 0}
		for c := range sc.resolution.Admit {
			bit := uint64(1) << c
			if named.Admit&bit != 0 && (!st.Denied || shut&bit != 0) {
				st.Tier = sc.resolution.Admit[c].Tier
				break
			}
		}
		dec.decide(st)
	}
	if dec.Mode == FailedOpen {
		e.openFor(ctx, tiersOf(sc.resolution.Admit, allChecks))
	}
}

// openFor counts and logs that a call was let through for these tiers.
func (e *Engine) openFor(ctx context.Context, tiers []string) {
	for _, tier := range tiers {
		e.counters.failedOpen(tier)
		e.opt.Log.FailedOpen(ctx, tier)
	}
}

// trouble counts and logs that the store gave no answer.
func (e *Engine) trouble(ctx context.Context, err error) {
	kind := KindOf(err)
	e.counters.storeError(kind)
	e.opt.Log.StoreTrouble(ctx, err, kind)
}

// KindOf says why the store gave no answer, as metrics spell it.
func KindOf(err error) string {
	switch {
	case errors.Is(err, store.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return telemetry.KindTimeout
	case errors.Is(err, store.ErrUnavailable):
		return telemetry.KindUnavailable
	case errors.Is(err, store.ErrCorrupt):
		return telemetry.KindCorrupt
	case errors.Is(err, store.ErrFull):
		return telemetry.KindFull
	default:
		return telemetry.KindOther
	}
}

// StoreErr is nil while the store answers, and says so in the metric: a decision that comes too late is no lost store. It does not
// wait longer than a decision would.
func (e *Engine) StoreErr(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, max(e.opt.Timeout, pingTimeout))
	defer cancel()
	err := e.opt.Store.Ping(bounded)
	switch {
	case err == nil:
		e.opt.Metrics.StoreUp.Set(1)
		return nil
	case ctx.Err() == nil: // else who asked has gone, and nothing is known
		e.opt.Metrics.StoreUp.Set(0)
	}
	return fmt.Errorf("asking the store: %w", err)
}

// pingTimeout is what a health check gives the store; unlike a decision it may have to connect first.
const pingTimeout = 250 * time.Millisecond
