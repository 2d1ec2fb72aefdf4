package engine

import (
	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
)

// spent is what was reported of a model call.
type spent struct {
	model    string // that really ran
	at       int64  // whose prices count, microseconds since the Unix epoch
	usage    *budget.Usage
	outcome  string
	cacheHit bool
	provider *int64 // nano-USD; nil if it is not known
}

// charge is what a report comes to.
type charge struct {
	usd, tokens int64
	keep        bool // what is held is charged; usd and tokens stand where no hold is known
	memo        memo
	model       string // of the price that it is counted with
}

// charge prices a report. The price of the provider wins over the table's; a hit in the assistant's own cache costs nothing; what
// is not known is charged by the policy. tok is the report's reservation, nil if there is none.
func (e *Engine) charge(snapshot *policy.Snapshot, s *spent, tok *token) charge {
	switch {
	case s.cacheHit:
		return charge{memo: memo{saved: e.saved(snapshot, s)}, model: nameOf(snapshot, s.model, s.at)}
	case s.provider != nil:
		return charge{usd: *s.provider, tokens: tokensOf(s, tok), model: nameOf(snapshot, s.model, s.at)}
	case s.usage == nil:
		return e.chargeUnknown(snapshot, s, tok)
	default:
		return e.chargeUsage(snapshot, s, tok)
	}
}

// saved is what a hit in the assistant's own cache would have cost, as far as that is known.
func (e *Engine) saved(snapshot *policy.Snapshot, s *spent) int64 {
	switch {
	case s.provider != nil:
		return *s.provider
	case s.usage == nil:
		return 0
	}
	if rate := e.rateOf(snapshot, s.model, s.at); rate.price != nil {
		return costOf(rate.price, *s.usage).Total
	}
	return 0
}

// tokensOf is how many tokens were used. Where only a cost was reported, the input has been read all the same.
func tokensOf(s *spent, tok *token) int64 {
	switch {
	case s.usage != nil:
		return s.usage.Total()
	case tok != nil:
		return tok.input + tok.cached
	default:
		return 0
	}
}

// chargeUsage prices tokens. A model without a price is charged what is held: to settle never loses money.
func (e *Engine) chargeUsage(snapshot *policy.Snapshot, s *spent, tok *token) charge {
	rate := e.rateOf(snapshot, s.model, s.at)
	if rate.price == nil {
		c := charge{keep: tok != nil, tokens: s.usage.Total(), memo: memo{flags: priceUnknown}, model: rate.name}
		if tok != nil {
			c.usd = e.fallback(snapshot, tok)
		}
		return c
	}
	cost := costOf(rate.price, *s.usage)
	c := charge{usd: cost.Total, tokens: s.usage.Total(), memo: memo{breakdown: cost}, model: rate.name}
	if !rate.own {
		c.memo.flags = priceByDefault
	}
	return c
}

// chargeUnknown charges a call that ended without a word on its usage, as the policy says for its outcome.
func (e *Engine) chargeUnknown(snapshot *policy.Snapshot, s *spent, tok *token) charge {
	c := charge{memo: memo{flags: usageUnknown}, model: nameOf(snapshot, s.model, s.at)}
	if tok == nil {
		return c
	}
	switch snapshot.Cost().UnknownUsage(s.outcome) {
	case policy.ReleaseHold:
	case policy.ChargeInput:
		c.tokens = tok.input + tok.cached
		if rate := e.rateOf(snapshot, tok.model, tok.at); rate.price != nil {
			c.memo.breakdown = costOf(rate.price, tok.usage())
			c.usd = c.memo.breakdown.Total
		} else {
			c.keep = true
			c.memo.flags |= priceUnknown
		}
	case policy.ChargeHold:
		c.keep = true
		c.usd, c.tokens = e.fallback(snapshot, tok), max(tok.tokens, tok.input+tok.cached)
	}
	return c
}

// usage is the input of a reservation.
func (t *token) usage() budget.Usage { return budget.Usage{Input: t.input, CacheRead: t.cached} }

// fallback stands for what is held where no hold is known: what would have been held, if the token says it, else the price of
// its input.
func (e *Engine) fallback(snapshot *policy.Snapshot, tok *token) int64 {
	if tok.unheld {
		return tok.usd
	}
	if price, _, ok := snapshot.Prices().Find(tok.model, tok.at/1e6); ok {
		return costOf(price, tok.usage()).Total
	}
	return 0
}
