package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// partialRounds bounds how often a smaller output is asked for: others may take what was free in between.
const partialRounds = 4

// reserving is one reservation on its way.
type reserving struct {
	*scratch

	engine *Engine
	asked  *Reservation
	demand demand
	output int64 // tokens of output to be granted
	ttl    time.Duration
	rounds int // of smaller outputs
	began  time.Time
	dec    Decision
}

// Reserve holds a request, tokens, a slot and money for a model call, in one atomic decision. It errs with a CostError or with
// ctx's error; then nothing is held. While the store is away the tiers' on_store_failure decides: the grant may then be of
// nothing, with a warning, and its settlement is booked. So it is, without being booked, while rate limiting is switched off.
func (e *Engine) Reserve(ctx context.Context, r *Reservation) (*Grant, error) {
	rv := &reserving{scratch: e.take(), engine: e, asked: r, output: r.Ask.MaxOutputTokens, ttl: lease(r.TTL)}
	defer e.giveTimed(ctx, rv.scratch)
	if err := rv.prepare(); err != nil {
		return nil, err
	}
	if e.opt.Disabled {
		rv.dec.Mode = Disabled
		e.told(ctx, &rv.call, nil, &rv.dec, time.Now())
		return rv.unheld(Warning{Code: WarnDisabled, Text: "nothing is held: rate limiting is switched off"}), nil
	}
	return rv.run(ctx)
}

// fingerprint stands for all that is asked but the wait: who repeats a call may have less patience left.
func (r *Reservation) fingerprint(ttl time.Duration) uint64 {
	d := newDigest("reservation")
	r.Spender.addTo(d)
	for _, n := range []int64{
		r.Ask.InputTokens, r.Ask.CachedInputTokens, r.Ask.MaxOutputTokens, r.Ask.MaxCost, int64(ttl),
	} {
		d.number(n)
	}
	d.flag(r.NoSlot)
	d.flag(r.Partial)
	return d.fingerprint()
}

// prepare makes the call and its hold.
func (rv *reserving) prepare() error {
	snapshot := rv.engine.opt.Policy()
	r := rv.asked
	rv.demand = demand{ask: r.Ask, rate: rv.engine.rateOf(snapshot, r.Spender.Model, time.Now().UnixMicro())}
	if !rv.demand.rate.allowed(snapshot) && r.Ask.MaxCost == 0 && !rv.engine.opt.Disabled {
		return errUnpriced(r.Spender.Model)
	}
	rv.model = rv.demand.rate.name
	id := randomID()
	if r.Key != "" {
		id = keyedID("reserve", r.Spender.subject(snapshot), r.Key)
	}
	rv.call = r.Spender.call(snapshot)
	rv.call.Hold = &rv.wants
	rv.hold = store.Hold{
		ID: string(id[:]), Fingerprint: r.fingerprint(rv.ttl), Lease: rv.ttl, Slot: !r.NoSlot, InLine: r.Wait > 0 && !r.NoSlot,
		ReleaseOnExpiry: snapshot.Cost().ReleaseOnExpiry,
	}
	rv.fresh = r.Key != ""
	return nil
}

// run asks until the call is admitted or denied for good.
func (rv *reserving) run(ctx context.Context) (*Grant, error) {
	rv.began = time.Now()
	line := line{engine: rv.engine, until: rv.began.Add(rv.asked.Wait)}
	defer line.step()
	for {
		err := rv.try(ctx)
		switch {
		case err != nil:
			line.leave(ctx, rv.scratch)
			if ctx.Err() != nil {
				rv.forget()
			}
			return nil, rv.engine.translate(ctx, err, &CostError{
				Reason: IdempotencyMismatch, Text: "the idempotency_key was used before for another reservation; use a new one",
			})
		case rv.answer.Hold.Repeat && rv.dec.Mode == Stored:
			return rv.held(), nil
		case rv.dec.Mode == Unmatched:
			return nil, &CostError{Reason: StoreUnavailable, Text: "the policy has changed meanwhile; repeat the call"}
		case !rv.dec.Denied:
			rv.told(ctx)
			return rv.admitted(), nil
		case rv.dec.Mode == FailedShut:
			rv.told(ctx)
			line.leave(ctx, rv.scratch)
			rv.forget()
			return nil, errStore(nil)
		case rv.dec.Mode == Stored && rv.answer.Hold.Queued && line.wait(ctx, rv.answer.Hold.Ahead):
		case rv.dec.Mode == Stored && rv.shrink():
		default:
			return nil, rv.refuse(ctx, &line)
		}
	}
}

// try asks once, for what is to be granted now.
func (rv *reserving) try(ctx context.Context) error {
	rv.wants = policy.Hold{USD: rv.demand.usd(rv.output), Tokens: rv.demand.tokens(rv.output), Slot: rv.hold.Slot}
	rv.hold.USD, rv.hold.Tokens = rv.wants.USD, rv.wants.Tokens
	rv.answer.Hold = store.HoldState{}
	rv.dec.reset(len(rv.call.Descriptors))
	began := time.Now()
	return rv.engine.admit(ctx, rv.scratch, began, began.Add(rv.engine.opt.Timeout), &rv.dec)
}

// forget has released what the store may have taken of a reservation that its caller is told nothing of. With an idempotency key
// the caller may repeat it, and finds what was taken.
func (rv *reserving) forget() {
	if rv.asked.Key == "" {
		rv.engine.releaseLater(rv.scratch)
	}
}

// shrink has a smaller output asked for, if one is wanted and would fit: what denies are tokens or money, and at most slots that
// are waited for. It reports whether to ask again.
func (rv *reserving) shrink() bool {
	if !rv.asked.Partial || rv.rounds == partialRounds {
		return false
	}
	tooLarge := false
	for i, r := range rv.results {
		unit := rv.resolution.Admit[i].Unit
		if r.denied && (unit == store.Requests || unit == store.Concurrent && !rv.hold.InLine) {
			return false
		}
		tooLarge = tooLarge || r.denied && unit != store.Concurrent
	}
	if !tooLarge {
		return false
	}
	output := rv.demand.fit(rv.scratch, rv.output-1)
	if output < 1 {
		return false
	}
	rv.rounds++
	rv.output = output
	return true
}

// told reports the decision.
func (rv *reserving) told(ctx context.Context) {
	rv.engine.told(ctx, &rv.call, rv.resolution.Admit, &rv.dec, rv.began)
}

// refuse is the answer to a reservation that is denied for good.
func (rv *reserving) refuse(ctx context.Context, line *line) error {
	line.leave(ctx, rv.scratch)
	if rv.asked.Wait > 0 && ctx.Err() != nil { // the wait was given up, not denied
		return fmt.Errorf("waiting for a slot: %w", context.Cause(ctx))
	}
	rv.told(ctx)
	from := fromStore
	if rv.dec.Mode == Local {
		from = fromMemory
	}
	return rv.denial(rv.answered(from)).failure()
}

// admitted is the answer to a reservation that was let through.
func (rv *reserving) admitted() *Grant {
	if rv.dec.Mode != Stored {
		return rv.unheld(Warning{
			Code: WarnStoreUnavailable, Text: "nothing is held: the store of usage cannot be asked, and the policy lets calls through then",
		})
	}
	rv.engine.purses.held(rv.model, rv.answer.Hold.USD)
	return rv.held()
}

// held is the grant of what the store holds.
func (rv *reserving) held() *Grant {
	state := rv.answer.Hold
	granted := max(0, state.Tokens-rv.demand.input())
	grant := rv.grant(granted, time.UnixMicro(state.Expires))
	grant.ReservationID = rv.token(state.At, false)
	grant.HeldUSD, grant.Repeat, grant.Status = state.USD, state.Repeat, state.Status
	grant.Limits = rv.states()
	if granted < rv.asked.Ask.MaxOutputTokens {
		grant.Warnings = append(grant.Warnings, Warning{
			Code: WarnPartial, Text: fmt.Sprintf("%d of %d output tokens fit into the limits", granted, rv.asked.Ask.MaxOutputTokens),
		})
	}
	return grant
}

// unheld is the grant of nothing.
func (rv *reserving) unheld(why ...Warning) *Grant {
	now := time.Now()
	grant := rv.grant(rv.output, now.Add(rv.ttl))
	grant.ReservationID = rv.token(now.UnixMicro(), true)
	grant.Status = store.NoHold
	grant.Warnings = append(grant.Warnings, why...)
	return grant
}

func (rv *reserving) grant(output int64, expires time.Time) *Grant {
	return &Grant{
		GrantedOutputTokens: output, ExpiresAt: expires, Heartbeat: rv.ttl / heartbeats,
		Warnings: append(rv.demand.warning(rv.asked.Spender.Model), shadowWarnings(rv.dec.Shadowed)...),
	}
}

// heartbeats is how many extensions a lease is to see: one may be lost, and one be late.
const heartbeats = 3

// token is the id of the reservation.
func (rv *reserving) token(at int64, unheld bool) string {
	t := token{
		at: at, unheld: unheld, model: rv.asked.Spender.Model,
		input: rv.asked.Ask.InputTokens, cached: rv.asked.Ask.CachedInputTokens,
	}
	copy(t.id[:], rv.hold.ID)
	if unheld {
		t.usd, t.tokens = rv.wants.USD, rv.wants.Tokens
	}
	if !rv.engine.opt.Disabled {
		t.addParts(rv.engine.opt.Policy(), rv.scratch)
	}
	return t.encode()
}

// lease is a ttl as a hold takes it.
func lease(ttl time.Duration) time.Duration {
	if ttl == 0 {
		return DefaultTTL
	}
	return ttl.Round(time.Microsecond)
}
