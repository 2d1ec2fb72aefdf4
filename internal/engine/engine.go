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
	opt        Options
	remembered *rememberedDenials
	overrides  *overrides
	counters   *counters
	purses     *purses
	scratch    sync.Pool
	ends       ends
}

// New returns an engine over a store, and becomes the receiver of the store's changes.
func New(opt Options) *Engine {
	e := &Engine{
		opt:        opt,
		remembered: newRemembered(opt.Metrics.LocalDenials),
		overrides:  newOverrides(),
		counters:   newCounters(opt.Metrics),
		purses:     newPurses(opt.Metrics),
	}
	e.ends.stop = make(chan struct{})
	e.scratch.New = func() any { return new(scratch) }
	opt.Store.OnChange(e.remembered.change)
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
		if !sc.fresh && e.remembered.cover(sc, began) {
			return fromMemory, nil
		}
		mark := e.remembered.mark(checks)
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
			e.remembered.keep(sc, mark, began, time.Now())
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
