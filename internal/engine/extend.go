package engine

import (
	"context"
	"errors"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Extend renews a reservation's lease, and asks for more tokens and money if the call is to use more than it has. If that cannot
// be had, the lease is renewed all the same, and the answer says that the stream must end within what is held. It errs with a
// CostError or with ctx's error. A reservation that holds nothing, as when it was made while the store was away, is
// told to go on.
func (e *Engine) Extend(ctx context.Context, x *Extension) (*Extended, error) {
	ttl := lease(x.TTL)
	tok, err := parseToken(x.ReservationID)
	if err != nil {
		return nil, errNotFound(err)
	}
	unheld := &Extended{ExpiresAt: time.Now().Add(ttl), Heartbeat: ttl / heartbeats}
	if e.opt.Disabled || len(tok.parts) == 0 {
		return unheld, nil
	}
	sc := e.take()
	defer e.giveTimed(ctx, sc)
	if err := e.prepareExtension(sc, tok, x, ttl); err != nil {
		return nil, err
	}
	began := time.Now()
	from, err := e.consult(ctx, sc, began, began.Add(e.opt.Timeout))
	if err != nil {
		cost := e.translate(ctx, err, &CostError{
			Reason: ReservationNotFound, Text: "the reservation is not the one that the id was given for",
		})
		if tok.unheld && errors.Is(err, store.ErrNoHold) {
			return unheld, nil
		}
		return nil, cost
	}
	return e.extended(sc, from, ttl)
}

// prepareExtension makes the call that asks for what the reservation is to hold in all.
func (e *Engine) prepareExtension(sc *scratch, tok *token, x *Extension, ttl time.Duration) error {
	snapshot := e.opt.Policy()
	if x.MaxOutputTokens > 0 || x.MaxCost > 0 {
		d := demand{
			ask: Ask{
				InputTokens: tok.input, CachedInputTokens: tok.cached, MaxOutputTokens: x.MaxOutputTokens, MaxCost: x.MaxCost,
			},
			rate: e.rateOf(snapshot, tok.model, tok.at),
		}
		if !d.rate.allowed(snapshot) && x.MaxCost == 0 {
			return errUnpriced(tok.model)
		}
		sc.wants = policy.Hold{USD: d.usd(x.MaxOutputTokens), Tokens: d.tokens(x.MaxOutputTokens)}
	}
	sc.call = tok.call(snapshot)
	sc.call.Hold = &sc.wants
	sc.hold = store.Hold{ID: string(tok.id[:]), Lease: ttl, Extend: true, USD: sc.wants.USD, Tokens: sc.wants.Tokens}
	sc.fresh, sc.raise = true, tok
	return nil
}

// raised are the checks of an extension: for each subject of the reservation, in its order, those of tokens and money if more of
// them is asked for, else one without limits, since the store looks for the hold by its subjects.
func (e *Engine) raised(snapshot *policy.Snapshot, sc *scratch) []policy.Check {
	checks := make([]policy.Check, 0, len(sc.raise.parts))
	for _, p := range sc.raise.parts {
		before := len(checks)
		for i := range sc.resolution.Admit {
			check := &sc.resolution.Admit[i]
			money := check.Unit == store.USD || check.Unit == store.Tokens
			if check.Subject == p.subject && money && check.Amount > 0 {
				checks = append(checks, *check)
			}
		}
		if len(checks) == before {
			version, _ := e.overrides.known(snapshot, p.subject)
			checks = append(checks, policy.Check{
				Check: store.Check{Subject: p.subject, Unit: store.USD, Override: version}, Tier: p.subject.Kind, Limits: &policy.Limits{},
			})
		}
	}
	return checks
}

// extended is what the store says to an extension.
func (e *Engine) extended(sc *scratch, from heard, ttl time.Duration) (*Extended, error) {
	state := sc.answer.Hold
	if state.Status != store.Active {
		return nil, &CostError{
			Reason: ReservationNotActive,
			Text:   "the reservation has been settled or released, or its lease is over; settle what was used, and reserve anew",
		}
	}
	answer := &Extended{ExpiresAt: time.UnixMicro(state.Expires), HeldUSD: state.USD, Heartbeat: ttl / heartbeats}
	if !sc.answer.Admitted {
		answer.MustStop = true
		answer.Denial = sc.denial(sc.answered(from))
	}
	return answer, nil
}
