package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// StreamEnd is what is reported at the end of one request's stream.
type StreamEnd struct {
	Hold    string // the token of what the request holds; empty if it was given none
	Domain  string
	Entries []policy.Entry // for whom the request was; read where no hold is known
	Usage   *budget.Usage  // nil: no usage was reported
	Cost    *int64         // what the provider says it costs, nano-USD; nil if it says nothing
	// CacheHit says that the assistant's own cache answered: it costs nothing.
	CacheHit bool
	Outcome  string // as of a Settlement; it may be any text
	Model    string // that really ran; empty for the one of the hold
	// InStore is the answer to it: how long the call waited for the store.
	InStore time.Duration
}

// EndStream settles what a request holds. It is asked once and has nobody to answer to: what the store does not take is asked again
// in the background for a while. Without a hold, what was reported is booked for whom the request was; so it is with a text
// that is no token. While rate limiting is switched off nothing is booked.
func (e *Engine) EndStream(ctx context.Context, end *StreamEnd) {
	if e.opt.Disabled {
		return
	}
	st := e.endOf(ctx, end)
	if st == nil {
		return
	}
	// The stream is over whether or not the caller waits for the answer.
	ctx, watch := WithStopwatch(context.WithoutCancel(ctx))
	err := e.tryEnd(ctx, st)
	end.InStore = watch.InStore()
	if err != nil {
		e.ends.settle(ctx, e, st, err)
	}
}

// endOf is the end of a stream as the store takes it; nil if there is nothing to book.
func (e *Engine) endOf(ctx context.Context, end *StreamEnd) *ending {
	end.bound()
	report := &spent{
		model: end.Model, usage: end.Usage, outcome: end.Outcome, cacheHit: end.CacheHit, provider: end.Cost,
	}
	if end.Hold != "" {
		tok, err := parseToken(end.Hold)
		if err == nil {
			report.at = tok.at
			if report.model == "" {
				report.model = tok.model
			}
			return e.settlementOf(tok, report, end.fingerprint())
		}
		e.opt.Log.BadEnd(ctx, err)
	}
	if end.Usage == nil && end.Cost == nil {
		return nil // nothing was reported, and nothing is held
	}
	return e.bookingOf(end, report)
}

// bookingOf is a report without a hold as the store takes it; nil if it is for nobody that the policy knows.
func (e *Engine) bookingOf(end *StreamEnd, report *spent) *ending {
	snapshot := e.opt.Policy()
	now := time.Now()
	report.at = micros(now)
	if rule := &snapshot.Cost().Hold; rule.Model != "" {
		if _, _, ok := snapshot.Prices().Find(report.model, now.Unix()); !ok {
			report.model = rule.Model // as a hold would have been priced: what was used is not free
		}
	}
	parts, err := e.partsFor(snapshot, policy.Call{
		Domain: end.Domain, Descriptors: []policy.Descriptor{{Entries: end.Entries, Amount: 1}},
	})
	if err != nil || len(parts) == 0 {
		return nil
	}
	id := randomID()
	c := e.charge(snapshot, report, nil)
	return &ending{model: c.model, Settlement: store.Settlement{
		Parts: parts, ID: string(id[:]), Fingerprint: end.fingerprint(), USD: c.usd, Tokens: c.tokens,
		Book: report.at, Memo: c.memo.encode(),
	}}
}

// bound keeps a report within what a settlement may be: its texts may come from a response.
func (end *StreamEnd) bound() {
	if len(end.Model) > MaxModel {
		end.Model = ""
	}
	if end.Cost != nil {
		*end.Cost = min(max(*end.Cost, 0), store.MaxAmount)
	}
	if u := end.Usage; u != nil {
		for _, n := range []*int64{&u.Input, &u.CacheRead, &u.CacheWrite, &u.Output, &u.Reasoning} {
			*n = min(max(*n, 0), MaxTokens)
		}
	}
}

// fingerprint stands for all that is reported.
func (end *StreamEnd) fingerprint() uint64 {
	d := newDigest("stream")
	d.usage(end.Usage)
	d.amount(end.Cost)
	d.flag(end.CacheHit)
	d.text(end.Outcome)
	d.text(end.Model)
	return d.fingerprint()
}

// tryEnd has the store take the end of a stream. It errs if it is worth another try.
func (e *Engine) tryEnd(ctx context.Context, st *ending) error {
	ctx, cancel := context.WithTimeout(ctx, e.opt.Timeout)
	defer cancel()
	_, err := e.settle(ctx, st)
	switch {
	case err == nil:
		return nil
	case st.Release && errors.Is(err, store.ErrNoHold):
		return nil // nothing was held
	case errors.Is(err, store.ErrNoHold), errors.Is(err, store.ErrMismatch):
		e.opt.Log.BadEnd(ctx, err) // of a stream longer than a day; or ended otherwise before
		return nil
	default:
		e.trouble(ctx, err)
		return err
	}
}

// Merge adds what another descriptor of the same call reports of the same request. One call is one request: of what is reported
// twice, the larger counts.
func (end *StreamEnd) Merge(other *StreamEnd) {
	if other.Usage != nil {
		if end.Usage == nil {
			end.Usage = new(budget.Usage)
		}
		u, o := end.Usage, other.Usage
		u.Input, u.CacheRead, u.CacheWrite = max(u.Input, o.Input), max(u.CacheRead, o.CacheRead), max(u.CacheWrite, o.CacheWrite)
		u.Output, u.Reasoning = max(u.Output, o.Output), max(u.Reasoning, o.Reasoning)
	}
	if other.Cost != nil && (end.Cost == nil || *end.Cost < *other.Cost) {
		end.Cost = other.Cost
	}
	end.CacheHit = end.CacheHit || other.CacheHit
	if end.Outcome == "" {
		end.Outcome = other.Outcome
	}
	if end.Model == "" {
		end.Model = other.Model
	}
	for _, entry := range other.Entries {
		if !slices.Contains(end.Entries, entry) {
			end.Entries = append(end.Entries, entry)
		}
	}
}
