package engine

import (
	"cmp"
	"context"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Quote tells what a call would cost and whether it would be admitted now. It takes nothing. It errs with a CostError, also while
// the store is away, or with ctx's error. While rate limiting is switched off, everything would be admitted.
func (e *Engine) Quote(ctx context.Context, q *QuoteAsk) (*Quotation, error) {
	snapshot := e.opt.Policy()
	d := demand{ask: q.Ask, rate: e.rateOf(snapshot, q.Spender.Model, time.Now().UnixMicro())}
	if !d.rate.allowed(snapshot) && q.Ask.MaxCost == 0 && !e.opt.Disabled {
		return nil, errUnpriced(q.Spender.Model)
	}
	quotation := &Quotation{
		ExpectedUSD: d.expected(cmp.Or(q.ExpectedOutputTokens, q.Ask.MaxOutputTokens)),
		MaximumUSD:  d.usd(q.Ask.MaxOutputTokens),
		Admitted:    true, MaxOutputTokens: MaxTokens,
		Warnings: d.warning(q.Spender.Model),
	}
	if e.opt.Disabled {
		return quotation, nil
	}
	return quotation, e.look(ctx, snapshot, q, &d, quotation)
}

// look asks how the decision would come out.
func (e *Engine) look(ctx context.Context, snapshot *policy.Snapshot, q *QuoteAsk, d *demand, to *Quotation) error {
	sc := e.take()
	defer e.giveTimed(ctx, sc)
	sc.wants = policy.Hold{USD: to.MaximumUSD, Tokens: d.tokens(q.Ask.MaxOutputTokens), Slot: true}
	sc.call = q.Spender.call(snapshot)
	sc.call.Hold = &sc.wants
	sc.fresh, sc.look = true, true
	began := time.Now()
	from, err := e.consult(ctx, sc, began, began.Add(e.opt.Timeout))
	if err != nil {
		return e.translate(ctx, err, &CostError{Reason: IdempotencyMismatch, Text: "a quote has no id"})
	}
	if from != fromStore {
		return nil
	}
	to.Admitted = sc.answer.Admitted
	to.Limits = sc.states()
	to.Binding = sc.denial(sc.answered(from))
	to.MaxOutputTokens = max(0, d.fit(sc, MaxTokens))
	for i, r := range sc.results {
		if unit := sc.resolution.Admit[i].Unit; r.denied && (unit == store.Requests || unit == store.Concurrent) {
			to.MaxOutputTokens = 0 // no output is small enough
		}
	}
	return nil
}
