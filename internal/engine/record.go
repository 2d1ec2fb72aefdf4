package engine

import (
	"context"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Record books a model call that was made without a reservation, once for its key, at the time that it was made. It is never
// denied by a limit, and counts no request. A model without a price is refused, priced by default or booked at nothing, as the
// policy says; a price of the provider is always taken. It errs with a CostError or with ctx's error; a record that was not
// acknowledged may be repeated.
func (e *Engine) Record(ctx context.Context, r *Record) (*Receipt, error) {
	snapshot := e.opt.Policy()
	now := time.Now()
	occurred := r.Occurred
	if occurred.IsZero() || occurred.After(now) {
		occurred = now
	}
	report := &spent{
		model: r.Spender.Model, at: micros(occurred), usage: &r.Usage, cacheHit: r.CacheHit, provider: r.ProviderCost,
	}
	c := e.charge(snapshot, report, nil)
	if c.memo.flags&priceUnknown != 0 && snapshot.Cost().OnUnknownPrice != policy.AllowUnpriced {
		return nil, errUnpriced(r.Spender.Model)
	}
	parts, err := e.partsFor(snapshot, r.Spender.call(snapshot))
	if err != nil {
		return nil, e.translate(ctx, err, nil)
	}
	id := keyedID("record", r.Spender.subject(snapshot), r.Key)
	out, err := e.settle(ctx, &ending{model: c.model, Settlement: store.Settlement{
		Parts: parts, ID: string(id[:]), Fingerprint: r.fingerprint(), USD: c.usd, Tokens: c.tokens,
		Book: micros(occurred), Memo: c.memo.encode(),
	}})
	if err != nil {
		return nil, e.translate(ctx, err, &CostError{
			Reason: IdempotencyMismatch, Text: "the idempotency_key was used before for another record; use a new one",
		})
	}
	return receiptOf(out), nil
}

// fingerprint stands for all that is reported but the key.
func (r *Record) fingerprint() uint64 {
	d := newDigest("record")
	r.Spender.addTo(d)
	d.usage(&r.Usage)
	d.flag(r.Occurred.IsZero())
	d.number(r.Occurred.UnixMicro())
	d.flag(r.CacheHit)
	d.amount(r.ProviderCost)
	return d.fingerprint()
}

// partsFor are the subjects of a call without a hold, and where to book it.
func (e *Engine) partsFor(snapshot *policy.Snapshot, call policy.Call) ([]store.Part, error) {
	sc := e.take()
	defer e.give(sc)
	sc.call = call
	sc.call.Hold = &sc.wants
	known := func(s store.Subject) (int64, *policy.Override) { return e.overrides.known(snapshot, s) }
	if err := snapshot.Resolve(&sc.call, known, &sc.resolution); err != nil {
		return nil, badCall(err)
	}
	return partsOf(sc.resolution.Admit), nil
}
