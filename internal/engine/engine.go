// Package engine is the one decision path: the policy says what to check, the store decides within the timeout, and the
// engine says what to answer when the store cannot.
package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// ErrBadCall says that a call cannot be asked; its text is for the caller.
var ErrBadCall = errors.New("bad call")

// Options are what an engine works with. All fields up to Log are required.
type Options struct {
	Store   store.Store
	Policy  func() *policy.Snapshot // the policy in force; one atomic read
	Timeout time.Duration           // a decision's bound
	Metrics *telemetry.Metrics
	Log     *telemetry.Log
	// Trips is told how long each trip to the store took, in seconds; nil where the store itself tells of its trips.
	Trips prometheus.Observer
	// Disabled answers OK to everything without asking.
	Disabled bool
	// Traced says that calls may be in a span: a decision is then told to it.
	Traced bool
	// Decisions is told of each decision; nil for nobody.
	Decisions *telemetry.DecisionLog
}

// Engine decides. It is safe for concurrent use.
type Engine struct {
	opt       Options
	denials   *denials
	overrides *overrides
	counters  *counters
	purses    *purses
	scratch   sync.Pool
	ends      ends
}

// New returns an engine over a store, and becomes the receiver of the store's changes.
func New(opt Options) *Engine {
	e := &Engine{
		opt:       opt,
		denials:   newDenials(opt.Metrics.LocalDenials),
		overrides: newOverrides(),
		counters:  newCounters(opt.Metrics),
		purses:    newPurses(opt.Metrics),
	}
	e.ends.stop = make(chan struct{})
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
	denied     uint64   // the checks that a remembered denial covers, bit by bit
	refunds    []Status // per descriptor that gives back

	// How the checks are asked.
	call  policy.Call // the call with what it is to hold
	wants policy.Hold
	hold  store.Hold
	look  bool   // takes nothing
	fresh bool   // is not answered from a remembered denial: a repeat has its first answer
	raise *token // the reservation that is extended; nil for none

	model   string        // of the price that the hold is counted with
	inStore time.Duration // spent in trips to the store
}

// take returns a scratch in which nothing is asked yet.
func (e *Engine) take() *scratch {
	if sc, ok := e.scratch.Get().(*scratch); ok {
		return sc
	}
	return new(scratch)
}

// give keeps a scratch for a later decision, without what this one was about.
func (e *Engine) give(sc *scratch) {
	sc.call, sc.hold, sc.wants = policy.Call{}, store.Hold{}, policy.Hold{}
	sc.look, sc.fresh, sc.raise = false, false, nil
	sc.model, sc.inStore = "", 0
	sc.answer.Hold = store.HoldState{}
	e.scratch.Put(sc)
}

// maxRestarts bounds how often a decision is asked anew because an override changed in between.
const maxRestarts = 4

// Decide answers a call into dec, within the timeout. A call with an entry request_id takes a hold; dec.Hold is then its token.
// It errs only with ErrBadCall or with ctx's error.
func (e *Engine) Decide(ctx context.Context, call *policy.Call, dec *Decision) error {
	dec.reset(len(call.Descriptors))
	if e.opt.Disabled {
		dec.Mode = Disabled
		e.told(ctx, call, nil, dec, time.Now())
		return nil
	}
	sc := e.take()
	defer e.give(sc)
	began := time.Now()
	deadline := began.Add(e.opt.Timeout)
	sc.call = *call
	holds := e.holdByRule(sc)
	refundErr, err := e.refund(ctx, call, sc, 0, deadline)
	if err != nil {
		return err
	}
	err = e.admit(ctx, sc, began, deadline, dec)
	if holds != nil && dec.Mode == FailedShut {
		e.releaseLater(sc)
	}
	if ctx.Err() != nil && holds != nil && !dec.Denied {
		return e.abandon(ctx, sc, holds)
	}
	if err != nil {
		return err
	}
	if holds != nil {
		dec.Hold = e.tokenByRule(sc, holds, dec)
	}
	dec.InStore = sc.inStore
	e.addRefunds(ctx, sc, refundErr, dec)
	e.told(ctx, &sc.call, sc.resolution.Admit, dec, began)
	return nil
}

// resolve asks the policy which checks the call makes.
func (e *Engine) resolve(call *policy.Call, sc *scratch) (*policy.Snapshot, error) {
	snapshot := e.opt.Policy()
	known := func(s store.Subject) (int64, *policy.Override) { return e.overrides.known(snapshot, s) }
	if err := snapshot.Resolve(call, known, &sc.resolution); err != nil {
		return nil, badCall(err)
	}
	return snapshot, nil
}

func badCall(err error) error { return fmt.Errorf("%w: %w", ErrBadCall, err) }

// errRestarts says that a subject's override changed with every try.
var errRestarts = fmt.Errorf("%w: the subject's override changed %d times meanwhile", store.ErrUnavailable, maxRestarts)

// heard is where the answer to a call is from.
type heard uint8

const (
	fromNobody heard = iota // the call makes no checks
	fromMemory              // a remembered denial, which sc.denied and sc.results tell
	fromStore               // sc.answer, reduced to sc.results
)

// admit decides the checks that take or only look.
func (e *Engine) admit(ctx context.Context, sc *scratch, began, deadline time.Time, dec *Decision) error {
	from, err := e.consult(ctx, sc, began, deadline)
	switch {
	case errors.Is(err, ErrBadCall), errors.Is(err, store.ErrMismatch), errors.Is(err, store.ErrNoHold):
		return err
	case err != nil:
		return e.failed(ctx, sc, err, dec)
	case from == fromMemory:
		sc.denyLocally(dec)
	case from == fromStore:
		sc.decided(dec)
	}
	return nil
}

// consult puts sc.call to the store, anew while an override changes. Every admission, look and extension comes this way. It errs
// with ErrBadCall, and with what the store errs with.
func (e *Engine) consult(ctx context.Context, sc *scratch, began, deadline time.Time) (heard, error) {
	for range maxRestarts {
		snapshot, err := e.resolve(&sc.call, sc)
		if err != nil {
			return fromNobody, err
		}
		if sc.raise != nil {
			sc.resolution.Admit = e.raised(snapshot, sc)
		}
		checks := sc.resolution.Admit
		if len(checks) == 0 {
			return fromNobody, nil
		}
		if !sc.fresh && e.denials.cover(sc, began) {
			return fromMemory, nil
		}
		mark := e.denials.mark(checks)
		sc.ask(checks, deadline)
		sc.request.Look = sc.look
		if sc.call.Hold != nil && !sc.look {
			sc.request.Hold = &sc.hold
		}
		sent := time.Now()
		err = e.opt.Store.Admit(ctx, &sc.request, &sc.answer)
		sc.inStore += e.trip(sent)
		if err != nil {
			return fromNobody, fmt.Errorf("asking the store: %w", err)
		}
		if e.stale(ctx, snapshot, sc.answer.Stale, checks) {
			continue
		}
		sc.judge(checks, &sc.answer)
		if !sc.answer.Admitted && !sc.look && sc.raise == nil {
			e.denials.remember(sc, mark, began, time.Now())
		}
		return fromStore, nil
	}
	return fromNobody, errRestarts
}

// ask prepares the store's request for checks.
func (sc *scratch) ask(checks []policy.Check, deadline time.Time) {
	sc.request.Deadline, sc.request.Hold, sc.request.Look, sc.request.At = deadline, nil, false, 0
	sc.request.Checks = sc.request.Checks[:0]
	for i := range checks {
		sc.request.Checks = append(sc.request.Checks, checks[i].Check)
	}
}

// stale takes note of overrides that have changed and reports whether there were any.
func (e *Engine) stale(ctx context.Context, snapshot *policy.Snapshot, news []store.Stale, checks []policy.Check) bool {
	for i := range news {
		n := &news[i]
		if n.Check >= len(checks) {
			continue
		}
		err := e.overrides.learn(snapshot, checks[n.Check].Subject, n.Version, n.Value)
		if err != nil {
			e.opt.Log.BadOverride(ctx, err)
		}
	}
	return len(news) > 0
}

// refund gives back, once, what the refunding descriptors of a call ask for, before anything is taken: the hits of the moment at,
// microseconds since the Unix epoch, or for 0 the newest. The descriptors' answers are kept for addRefunds. What the store could
// not do is storeErr; err is the caller's own.
func (e *Engine) refund(
	ctx context.Context, call *policy.Call, sc *scratch, at int64, deadline time.Time,
) (storeErr, err error) {
	sc.refunds = sc.refunds[:0]
	if !call.Refunds() {
		return nil, nil
	}
	for range maxRestarts {
		snapshot, err := e.resolve(call, sc)
		if err != nil {
			return nil, err
		}
		checks := sc.resolution.Refund
		if len(checks) == 0 {
			return nil, nil
		}
		sc.ask(checks, deadline)
		sc.request.At = at
		sent := time.Now()
		_, err = e.opt.Store.Refund(ctx, &sc.request, &sc.answer)
		sc.inStore += e.trip(sent)
		if err != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("refunding: %w", context.Cause(ctx))
			}
			return err, nil
		}
		if e.stale(ctx, snapshot, sc.answer.Stale, checks) { // then nothing was given back
			continue
		}
		sc.judge(checks, &sc.answer)
		for _, named := range sc.resolution.Of {
			var st Status
			if named.Refund != 0 {
				sc.answerDescriptor(&st, checks, named.Refund)
				st.Denied, st.Wait = false, 0 // to give back is never denied
			}
			sc.refunds = append(sc.refunds, st)
		}
		return nil, nil
	}
	return errRestarts, nil
}

// addRefunds puts the answers of the descriptors that gave back beside those of the others. If the store could not do it the
// call fails open for them: they were let through and nothing was counted.
func (e *Engine) addRefunds(ctx context.Context, sc *scratch, storeErr error, dec *Decision) {
	if storeErr != nil {
		e.trouble(ctx, storeErr)
		for i, named := range sc.resolution.Of {
			if named.Refund != 0 {
				dec.Statuses[i] = Status{Matched: true, Tier: sc.resolution.Refund[0].Tier}
				dec.decide(&dec.Statuses[i])
			}
		}
		if !dec.Denied {
			dec.Mode = FailedOpen
		}
		e.openFor(ctx, sc.resolution.Refund)
		return
	}
	for i := range sc.refunds {
		if st := &sc.refunds[i]; st.Matched {
			dec.Statuses[i] = *st
			dec.decide(st)
			if dec.Mode == Unmatched {
				dec.Mode = Stored
			}
		}
	}
}

// openFor counts and logs that a call was let through for these tiers.
func (e *Engine) openFor(ctx context.Context, checks []policy.Check) {
	for i := range checks {
		e.counters.failedOpen(checks[i].Tier)
		e.opt.Log.FailedOpen(ctx, checks[i].Tier)
	}
}

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
			e.opt.Log.FailedShut(ctx, check.Tier)
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
		e.openFor(ctx, sc.resolution.Admit)
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
