package engine

import (
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// rate is what a model costs at a moment.
type rate struct {
	price *budget.Price // nil if there is none, by its name or by default
	own   bool          // it is the model's own
	name  string        // that it is counted under: of the policy, never the caller's
}

// rateOf finds the price of a model at a moment, microseconds since the Unix epoch; if it has none, the default one where the
// policy wants that.
func (e *Engine) rateOf(snapshot *policy.Snapshot, model string, at int64) rate {
	seconds := at / time.Second.Microseconds()
	if price, name, ok := snapshot.Prices().Find(model, seconds); ok {
		return rate{price: price, own: true, name: countedAs(name)}
	}
	e.opt.Metrics.PriceMisses.Inc()
	if snapshot.Cost().OnUnknownPrice == policy.DefaultPriced {
		if price, ok := snapshot.Prices().Default(seconds); ok {
			return rate{price: price, name: telemetry.ModelDefault}
		}
	}
	return rate{name: telemetry.ModelUnknown}
}

// nameOf is the name of a model's own price at a moment, microseconds since the Unix epoch, for what is not priced by it.
func nameOf(snapshot *policy.Snapshot, model string, at int64) string {
	if _, name, ok := snapshot.Prices().Find(model, at/time.Second.Microseconds()); ok {
		return countedAs(name)
	}
	return telemetry.ModelUnknown
}

// countedAs is the name that the money of a price is counted under: its own in the policy, unless that one says in metrics that no
// price of this name was taken. Such a price is counted with what has no series of its own.
func countedAs(price string) string {
	switch price {
	case telemetry.ModelUnknown, telemetry.ModelDefault:
		return telemetry.ModelOther
	default: // one that is called telemetry.ModelOther stays what it is
		return price
	}
}

// allowed tells whether a call of a model may begin at this rate.
func (r rate) allowed(snapshot *policy.Snapshot) bool {
	return r.price != nil || snapshot.Cost().OnUnknownPrice == policy.AllowUnpriced
}

// demand is what a model call may come to.
type demand struct {
	ask  Ask
	rate rate
}

// warning tells what a caller should know of the price of a model; nil if that is its own, or if the caller names no model and says
// what to hold.
func (d *demand) warning(model string) []Warning {
	switch {
	case d.rate.own:
		return nil
	case d.rate.price != nil:
		return []Warning{{Code: WarnPriceUnknown, Text: "model " + quoted(model) + " has no price; the default price is taken"}}
	case d.ask.MaxCost > 0 && model == "":
		return nil
	case d.ask.MaxCost > 0:
		return []Warning{{Code: WarnPriceUnknown, Text: "model " + quoted(model) + " has no price; all that is held is charged, " +
			"unless the settlement says what the provider asked for it (provider_cost_usd)"}}
	default:
		return []Warning{{Code: WarnPriceUnknown, Text: "model " + quoted(model) + " has no price; its tokens are priced at nothing"}}
	}
}

// input is the tokens of the input, cached ones included.
func (d *demand) input() int64 { return d.ask.InputTokens + d.ask.CachedInputTokens }

// tokens is what the call holds of token limits with so many tokens of output.
func (d *demand) tokens(output int64) int64 {
	return min(d.input()+output, store.MaxAmount)
}

// usd is what the call holds of money with so many tokens of output, nano-USD: the most that they can cost. It never falls as the
// output grows, and is store.MaxAmount for whatever costs more than that.
func (d *demand) usd(output int64) int64 {
	most := d.ask.MaxCost
	if most > 0 && (d.rate.price == nil || output >= d.ask.MaxOutputTokens) {
		return most
	}
	if d.rate.price == nil {
		return 0
	}
	usd := dearest(d.rate.price, d.input(), output)
	if most > 0 {
		return min(usd, most)
	}
	return usd
}

// dearest is the most that tokens can cost: the input all read, cached or written to the cache, whichever is dearest, and the
// output with or without reasoning, likewise. A cost is a sum over the kinds, so that the dearest pair is the dearest mixture.
func dearest(price *budget.Price, input, output int64) int64 {
	worst := int64(0)
	for _, usage := range [...]budget.Usage{
		{Input: input, Output: output},
		{CacheRead: input, Output: output},
		{CacheWrite: input, Output: output},
		{Input: input, Reasoning: output},
		{CacheRead: input, Reasoning: output},
		{CacheWrite: input, Reasoning: output},
	} {
		worst = max(worst, costOf(price, usage).Total)
	}
	return worst
}

// costOf prices a usage. One that costs more than can be counted costs store.MaxAmount.
func costOf(price *budget.Price, usage budget.Usage) budget.Breakdown {
	cost, err := price.Cost(usage)
	if err != nil {
		return budget.Breakdown{Total: store.MaxAmount}
	}
	return cost
}

// expected is what the call is likely to cost: the cached input at the price of reading the cache. Without a price it is what the caller
// holds.
func (d *demand) expected(output int64) int64 {
	if d.rate.price == nil {
		return d.ask.MaxCost
	}
	return costOf(d.rate.price, budget.Usage{
		Input: d.ask.InputTokens, CacheRead: d.ask.CachedInputTokens, Output: output,
	}).Total
}

// fit is the largest output, at most so much, with which the call fits all enforced limits of tokens and money as the store has
// just told them; -1 if not even the input fits.
func (d *demand) fit(sc *scratch, most int64) int64 {
	for i := range sc.resolution.Admit {
		check := &sc.resolution.Admit[i]
		for j := range check.Named {
			limit := &check.Named[j]
			if limit.Shadow {
				continue
			}
			room := limit.Max - sc.answer.States[sc.firsts[i]+j].Used
			switch limit.Unit {
			case store.Tokens:
				most = min(most, room-d.input())
			case store.USD:
				most = d.affordable(room, most)
			case store.Requests, store.Concurrent:
			}
			if most < 0 {
				return -1
			}
		}
	}
	return most
}

// affordable is the largest output, at most so much, that can be had for an amount; -1 if not even the input can.
func (d *demand) affordable(nano, most int64) int64 {
	low, high := int64(-1), most+1 // the one can be had, if it is an output, and the other cannot, if it is at most so much
	for high-low > 1 {
		if middle := low + (high-low)/2; d.usd(middle) <= nano {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}
