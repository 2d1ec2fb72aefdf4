package engine

import (
	"cmp"
	"context"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// releasePrint is the fingerprint of every release: all are alike.
const releasePrint = 1

// Settle puts what a model call has really used in the place of what its reservation holds, in one trip to the store. A
// reservation is settled once; the same settlement again has the first answer, another one is refused. It errs with a CostError
// or with ctx's error; a settlement that was not acknowledged may be repeated. While rate limiting is switched off, and for what
// was reserved then, the receipt says what the call costs and nothing is booked.
func (e *Engine) Settle(ctx context.Context, s *Settlement) (*Receipt, error) {
	tok, err := parseToken(s.ReservationID)
	if err != nil {
		return nil, errNotFound(err)
	}
	report := &spent{
		model: cmp.Or(s.Model, tok.model), at: tok.at, usage: s.Usage, outcome: s.Outcome,
		cacheHit: s.CacheHit, provider: s.ProviderCost,
	}
	receipt, err := e.settleToken(ctx, tok, report, s.fingerprint())
	if err != nil {
		return nil, e.translate(ctx, err, &CostError{
			Reason: IdempotencyMismatch, Text: "the reservation was settled otherwise before, or released; it is settled once",
		})
	}
	return receipt, nil
}

// fingerprint stands for all that is reported.
func (s *Settlement) fingerprint() uint64 {
	d := newDigest("settlement")
	d.usage(s.Usage)
	d.text(s.Model)
	d.text(s.Outcome)
	d.flag(s.CacheHit)
	d.amount(s.ProviderCost)
	return d.fingerprint()
}

// settleToken settles a reservation by a report.
func (e *Engine) settleToken(ctx context.Context, tok *token, report *spent, fingerprint uint64) (*Receipt, error) {
	st := e.settlementOf(tok, report, fingerprint)
	out, err := e.settle(ctx, st)
	if err != nil {
		return nil, err
	}
	return receiptOf(out), nil
}

// settlementOf is a report on a reservation as the store takes it.
func (e *Engine) settlementOf(tok *token, report *spent, fingerprint uint64) *ending {
	c := e.charge(e.opt.Policy(), report, tok)
	return &ending{model: c.model, Settlement: store.Settlement{
		Parts: tok.storeParts(), ID: string(tok.id[:]), Fingerprint: fingerprint,
		Keep: c.keep, USD: c.usd, Tokens: c.tokens, Book: tok.book(time.Now()), Memo: c.memo.encode(),
	}}
}

// ending is the end of a hold, or a booking without one, on its way to the store.
type ending struct {
	store.Settlement

	model string // of the price that its money is counted with
	// untold says that nobody was told of the hold, so that it was not counted when it was taken.
	untold bool
}

// settle is every end of a hold and every booking without one. It is one trip to the store, within the timeout, or none: while
// rate limiting is switched off, or for what was reserved then, nothing is booked.
func (e *Engine) settle(ctx context.Context, st *ending) (*store.Settled, error) {
	out := &store.Settled{Status: store.Closed, At: st.Book, USD: st.USD, Tokens: st.Tokens, Memo: st.Memo}
	if e.opt.Disabled || len(st.Parts) == 0 {
		return out, nil
	}
	sent := time.Now()
	st.Deadline = sent.Add(e.opt.Timeout)
	err := e.opt.Store.Settle(ctx, &st.Settlement, out)
	stopwatchOf(ctx).add(e.trip(sent))
	if err != nil {
		return nil, err
	}
	e.countEnd(st, out)
	e.toldEnd(ctx, out)
	return out, nil
}

// countEnd counts what a settlement came to, once for its first call.
func (e *Engine) countEnd(st *ending, out *store.Settled) {
	m := e.opt.Metrics
	if out.Repeat {
		m.DuplicateEnds.Inc()
		return
	}
	e.purses.ends[endOf(out)].Inc()
	if st.untold {
		e.purses.held(st.model, out.HeldUSD)
	}
	e.purses.ended(st.model, out)
	if out.Status == store.Closed && out.Was != store.NoHold {
		m.QueryTime.Observe(max(0, time.Duration(out.Now-out.At)*time.Microsecond).Seconds())
	}
}

// endOf is how a settlement ended its hold, as metrics and spans spell it.
func endOf(out *store.Settled) string {
	switch {
	case out.Status == store.Released:
		return telemetry.EndReleased
	case out.Was == store.Expired:
		return telemetry.EndLate
	case out.Was == store.NoHold:
		return telemetry.EndBooked
	default:
		return telemetry.EndSettled
	}
}

// receiptOf is what the store says to a settlement, as the caller reads it. What depends on prices comes from the memo, which is
// the first call's.
func receiptOf(out *store.Settled) *Receipt {
	m := parseMemo(out.Memo)
	r := &Receipt{
		CostUSD: out.USD, Breakdown: m.breakdown, SavedUSD: m.saved, Warnings: m.warnings(),
		ReleasedUSD: max(0, out.HeldUSD-out.USD),
		Duplicate:   out.Repeat, Late: out.Was == store.Expired, Status: out.Status,
	}
	r.Breakdown.Total = out.USD
	if out.Was != store.NoHold {
		r.OverageUSD = max(0, out.USD-out.HeldUSD)
	}
	return r
}

// Release ends a reservation whose call was not made: what it holds, and its slot, are free again. The request stays counted,
// unless the policy says otherwise. It errs with a CostError or with ctx's error.
func (e *Engine) Release(ctx context.Context, reservationID string) (*Receipt, error) {
	tok, err := parseToken(reservationID)
	if err != nil {
		return nil, errNotFound(err)
	}
	nothing := &Receipt{Status: store.Released}
	if e.opt.Disabled || len(tok.parts) == 0 {
		return nothing, nil
	}
	out, err := e.settle(ctx, &ending{model: nameOf(e.opt.Policy(), tok.model, tok.at), Settlement: store.Settlement{
		Parts: tok.storeParts(), ID: string(tok.id[:]), Fingerprint: releasePrint, Release: true,
	}})
	if err != nil {
		cost := e.translate(ctx, err, &CostError{
			Reason: ReservationNotActive, Text: "the reservation has been settled, and can no longer be released",
		})
		if tok.unheld && isReason(cost, ReservationNotFound) {
			return nothing, nil // as was said when it was given
		}
		return nil, cost
	}
	if !out.Repeat && e.opt.Policy().Cost().ReturnRequests {
		e.returnRequests(ctx, tok)
	}
	return receiptOf(out), nil
}

// returnRequests gives the request of a released reservation back: its own, and nothing in its place once that has left the
// windows, since newer requests have not been given back. If it cannot be done the request stays counted, which errs towards denying.
func (e *Engine) returnRequests(ctx context.Context, tok *token) {
	sc := e.take()
	defer e.give(sc)
	call := tok.call(e.opt.Policy())
	call.Descriptors[0].Refund = true
	storeErr, err := e.refund(ctx, &call, sc, tok.at, time.Now().Add(e.opt.Timeout))
	if storeErr != nil && err == nil {
		e.trouble(ctx, storeErr)
	}
}
