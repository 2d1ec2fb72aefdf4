package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// usageTimeout bounds a question about usage, which no request waits for.
const usageTimeout = time.Second

// TierUsage is all limits of one subject as they stand.
type TierUsage struct {
	Requests, Tokens, USD []LimitState
	Concurrent            *LimitState // nil if the tier bounds no concurrency
}

// Usage reads the usage of the user with this id and of the global tier. It changes nothing. It errs when the store cannot
// be asked.
func (e *Engine) Usage(ctx context.Context, userID string) (user, global TierUsage, err error) {
	snapshot := e.opt.Policy()
	subjects := []store.Subject{{Kind: snapshot.UserTier(), ID: userID}, {Kind: policy.GlobalTier}}
	sc := e.take()
	defer e.give(sc)
	if err := e.read(ctx, snapshot, sc, subjects); err != nil {
		return TierUsage{}, TierUsage{}, fmt.Errorf("reading usage: %w", err)
	}
	for _, state := range sc.states() {
		if state.Tier == policy.GlobalTier {
			global.add(state)
		} else {
			user.add(state)
		}
	}
	return user, global, nil
}

// add puts a limit in its place.
func (t *TierUsage) add(state LimitState) {
	switch state.Limit.Unit {
	case store.Requests:
		t.Requests = append(t.Requests, state)
	case store.Tokens:
		t.Tokens = append(t.Tokens, state)
	case store.USD:
		t.USD = append(t.USD, state)
	case store.Concurrent:
		t.Concurrent = &state
	}
}

// CostUsage reads how all limits of a user stand, those of the global tier for an empty id, in one trip to the store. It changes
// nothing. It errs with a CostError or with ctx's error.
func (e *Engine) CostUsage(ctx context.Context, userID string) ([]LimitState, error) {
	snapshot := e.opt.Policy()
	subject := store.Subject{Kind: policy.GlobalTier}
	if userID != "" {
		subject = store.Subject{Kind: snapshot.UserTier(), ID: userID}
	}
	sc := e.take()
	defer e.giveTimed(ctx, sc)
	if err := e.read(ctx, snapshot, sc, []store.Subject{subject}); err != nil {
		return nil, e.translate(ctx, err, nil)
	}
	return sc.states(), nil
}

// GlobalLimits reads how the enforced limits of the global tier stand, within the time that ctx gives it. It changes nothing, and
// counts no trouble: it is asked for the metrics. It errs when the store cannot be asked.
func (e *Engine) GlobalLimits(ctx context.Context) ([]LimitState, error) {
	sc := e.take()
	defer e.give(sc)
	if err := e.read(ctx, e.opt.Policy(), sc, []store.Subject{{Kind: policy.GlobalTier}}); err != nil {
		return nil, fmt.Errorf("reading the global tier's limits: %w", err)
	}
	return slices.DeleteFunc(sc.states(), func(l LimitState) bool { return l.Limit.Shadow }), nil
}

// read asks how all limits of the subjects stand, by one question of amount 0, anew while an override changes.
func (e *Engine) read(ctx context.Context, snapshot *policy.Snapshot, sc *scratch, subjects []store.Subject) error {
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline() // the caller's, if that is sooner
	for range maxRestarts {
		checks := sc.resolution.Admit[:0]
		for _, subject := range subjects {
			version, override := e.overrides.known(snapshot, subject)
			limits := snapshot.SubjectLimits(subject, "", override)
			checks = appendLimits(checks, subject, version, limits)
		}
		sc.resolution.Admit, sc.answer.States, sc.answer.Held = checks, sc.answer.States[:0], sc.answer.Held[:0]
		if len(checks) == 0 {
			return nil
		}
		sc.ask(checks, deadline)
		sc.request.Look = true
		sent := time.Now()
		err := e.opt.Store.Admit(ctx, &sc.request, &sc.answer)
		sc.inStore += e.trip(sent)
		if err != nil {
			return fmt.Errorf("asking the store: %w", err)
		}
		if !e.stale(ctx, snapshot, sc.answer.Stale, checks) {
			sc.judge(checks, &sc.answer)
			return nil
		}
	}
	return errRestarts
}

// appendLimits appends the checks that tell how all limits of a subject stand.
func appendLimits(checks []policy.Check, subject store.Subject, version int64, limits *policy.Limits) []policy.Check {
	for _, unit := range []store.Unit{store.Requests, store.Tokens, store.USD, store.Concurrent} {
		if check, ok := limits.LookAt(subject, unit, version); ok {
			checks = append(checks, check)
		}
	}
	return checks
}
