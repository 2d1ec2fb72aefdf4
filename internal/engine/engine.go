// Package engine is the one decision path: the policy says what to check, the store decides within the timeout, and the
// engine says what to answer when the store cannot.
package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// ErrBadCall says that a call cannot be asked; its text is for the caller.
var ErrBadCall = errors.New("bad call")

// Options are what an engine works with. All fields but Disabled are required.
type Options struct {
	Store   store.Store
	Policy  func() *policy.Snapshot // the policy in force; one atomic read
	Timeout time.Duration           // a decision's bound
	Metrics *telemetry.Metrics
	Log     *telemetry.Log
	// Disabled answers OK to everything without asking.
	Disabled bool
}

// Engine decides. It is safe for concurrent use.
type Engine struct {
	opt       Options
	denials   *denials
	overrides *overrides
	counters  *counters
	scratch   sync.Pool
}

// New returns an engine over a store, and becomes the receiver of the store's changes.
func New(opt Options) *Engine {
	e := &Engine{
		opt:       opt,
		denials:   newDenials(opt.Metrics.LocalDenials),
		overrides: newOverrides(),
		counters:  newCounters(opt.Metrics),
	}
	e.scratch.New = func() any { return new(scratch) }
	opt.Store.OnChange(e.denials.change)
	return e
}

// scratch is what one decision works with; it is used again by later ones.
type scratch struct {
	resolution policy.Resolution
	request    store.Request
	answer     store.Answer
	firsts     []int // index into answer.States of each check's first limit
	results    []result
	refund     store.Answer
}

// maxRestarts bounds how often a decision is asked anew because an override changed in between.
const maxRestarts = 4

// Decide answers a call into dec, within the timeout. It errs only with ErrBadCall or with ctx's error.
func (e *Engine) Decide(ctx context.Context, call *policy.Call, dec *Decision) error {
	dec.reset(len(call.Descriptors))
	if e.opt.Disabled {
		dec.Mode = Disabled
		e.counters.count(dec)
		return nil
	}
	sc, ok := e.scratch.Get().(*scratch)
	if !ok {
		sc = new(scratch)
	}
	defer e.scratch.Put(sc)
	began := time.Now()
	deadline := began.Add(e.opt.Timeout)
	for range maxRestarts {
		again, err := e.try(ctx, call, sc, began, deadline, dec)
		if err != nil {
			return err
		}
		if !again {
			e.counters.count(dec)
			return nil
		}
		dec.reset(len(call.Descriptors))
	}
	e.fail(sc, fmt.Errorf("%w: the subject's override changed %d times meanwhile", store.ErrUnavailable, maxRestarts), dec)
	e.counters.count(dec)
	return nil
}

// try decides once. It asks for another try when a subject's override turned out to be another than the one known.
func (e *Engine) try(
	ctx context.Context, call *policy.Call, sc *scratch, began, deadline time.Time, dec *Decision,
) (again bool, err error) {
	snapshot := e.opt.Policy()
	known := func(s store.Subject) (int64, *policy.Override) { return e.overrides.known(snapshot, s) }
	if err := snapshot.Resolve(call, known, &sc.resolution); err != nil {
		return false, fmt.Errorf("%w: %w", ErrBadCall, err)
	}
	res := &sc.resolution
	if len(res.Refund) > 0 {
		again, err := e.refund(ctx, snapshot, sc, deadline, dec)
		if again || err != nil {
			return again, err
		}
	}
	if len(res.Admit) == 0 {
		return false, nil
	}
	if e.denyLocally(sc, began, dec) {
		return false, nil
	}
	mark := e.denials.mark(res.Admit)
	sc.ask(res.Admit, deadline)
	err = e.opt.Store.Admit(ctx, &sc.request, &sc.answer)
	if err != nil {
		return false, e.failed(ctx, sc, err, dec)
	}
	if e.stale(snapshot, sc.answer.Stale, res.Admit) {
		return true, nil
	}
	e.decided(sc, &sc.answer, dec)
	if dec.Denied {
		e.denials.remember(sc, mark, began, time.Now())
	}
	return false, nil
}

// ask prepares the store's request for checks.
func (sc *scratch) ask(checks []policy.Check, deadline time.Time) {
	sc.request.Deadline = deadline
	sc.request.Checks = sc.request.Checks[:0]
	for i := range checks {
		sc.request.Checks = append(sc.request.Checks, checks[i].Check)
	}
}

// stale takes note of overrides that have changed and reports whether there were any.
func (e *Engine) stale(snapshot *policy.Snapshot, news []store.Stale, checks []policy.Check) bool {
	for i := range news {
		n := &news[i]
		if n.Check >= len(checks) {
			continue
		}
		err := e.overrides.learn(snapshot, checks[n.Check].Subject, n.Version, n.Value)
		if err != nil {
			e.opt.Log.BadOverride(err)
		}
	}
	return len(news) > 0
}

// refund gives back what the refunding descriptors of a call ask for, and answers them.
func (e *Engine) refund(
	ctx context.Context, snapshot *policy.Snapshot, sc *scratch, deadline time.Time, dec *Decision,
) (again bool, err error) {
	sc.ask(sc.resolution.Refund, deadline)
	_, err = e.opt.Store.Refund(ctx, &sc.request, &sc.refund)
	if err != nil {
		if ctx.Err() != nil {
			return false, fmt.Errorf("refunding: %w", context.Cause(ctx))
		}
		e.trouble(err)
		dec.Mode = FailedOpen // nothing was given back; a refund is never denied
		return false, nil
	}
	if e.stale(snapshot, sc.refund.Stale, sc.resolution.Refund) {
		return true, nil
	}
	dec.Mode = Stored
	sc.judge(sc.resolution.Refund, &sc.refund)
	for i, named := range sc.resolution.Of {
		if named.Refund == 0 {
			continue
		}
		sc.answerDescriptor(&dec.Statuses[i], sc.resolution.Refund, named.Refund)
		dec.Statuses[i].Denied, dec.Statuses[i].Wait = false, 0
		dec.decide(&dec.Statuses[i])
	}
	return false, nil
}

// failed answers a call that the store did not decide.
func (e *Engine) failed(ctx context.Context, sc *scratch, err error, dec *Decision) error {
	if ctx.Err() != nil {
		return fmt.Errorf("deciding: %w", context.Cause(ctx))
	}
	e.fail(sc, err, dec)
	return nil
}

// fail answers by the tiers' on_store_failure: the call is denied if any tier that it touches denies then.
func (e *Engine) fail(sc *scratch, err error, dec *Decision) {
	e.trouble(err)
	dec.Mode = FailedOpen
	shut := uint64(0)
	for i := range sc.resolution.Admit {
		check := &sc.resolution.Admit[i]
		if check.OnStoreFailure == policy.Deny {
			shut |= 1 << i
			e.opt.Log.FailedShut(check.Tier)
		}
	}
	if shut != 0 {
		dec.Mode, dec.Denied = FailedShut, true
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
		for i := range sc.resolution.Admit {
			tier := sc.resolution.Admit[i].Tier
			e.counters.failedOpen(tier)
			e.opt.Log.FailedOpen(tier)
		}
	}
}

// trouble counts and logs that the store gave no answer.
func (e *Engine) trouble(err error) {
	kind := kindOf(err)
	e.counters.storeError(kind)
	if kind == telemetry.KindUnavailable || kind == telemetry.KindTimeout {
		e.opt.Metrics.StoreUp.Set(0)
	}
	e.opt.Log.StoreTrouble(err, kind)
}

func kindOf(err error) string {
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

// StoreErr is nil while the store answers. It does not wait longer than a decision would.
func (e *Engine) StoreErr(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(e.opt.Timeout, pingTimeout))
	defer cancel()
	if err := e.opt.Store.Ping(ctx); err != nil {
		e.opt.Metrics.StoreUp.Set(0)
		return fmt.Errorf("asking the store: %w", err)
	}
	e.opt.Metrics.StoreUp.Set(1)
	return nil
}

// pingTimeout is what a health check gives the store; unlike a decision it may have to connect first.
const pingTimeout = 250 * time.Millisecond
