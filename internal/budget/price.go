package budget

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

var (
	// ErrTooLarge says that a cost is larger than MaxAmount.
	ErrTooLarge = errors.New("the cost is larger than 4503599.627370495 USD, the most that can be counted")
	// ErrUsage says that a usage has a negative count.
	ErrUsage = errors.New("a count of tokens is negative")
	// ErrPrice says that a price cannot be made of what was given.
	ErrPrice = errors.New("not a price")
)

// million is what rates are per: a rate times tokens is in millionths of a nano-USD.
const million = 1_000_000

// Tier are the rates of a usage with more than so many tokens on its input side.
type Tier struct {
	Above int64 // tokens of input, cache read and cache write together; more than 0
	Rates Rates // a kind that inherits has the rate of the tier below
}

// Price is what the tokens of one model cost from some moment on. It is immutable.
type Price struct {
	from  int64
	tiers []Tier // resolved: nothing inherits; the first is above -1
}

// NewPrice makes a price that holds from a moment on, unix seconds; math.MinInt64 for always. The rates of input and output
// must be given. A kind that has none in any tier falls back: the cache kinds to input, reasoning to output. Tiers may come in
// any order, each with another bound.
func NewPrice(from int64, rates Rates, tiers ...Tier) (*Price, error) {
	if rates.Input == Inherit || rates.Output == Inherit {
		return nil, fmt.Errorf("%w: it needs the rates of input and output", ErrPrice)
	}
	ordered := slices.Clone(tiers)
	slices.SortFunc(ordered, func(a, b Tier) int {
		if a.Above < b.Above {
			return -1
		}
		return 1
	})
	p := &Price{from: from, tiers: make([]Tier, 0, len(tiers)+1)}
	given, above := rates, int64(-1)
	if err := p.add(above, given); err != nil {
		return nil, err
	}
	for _, t := range ordered {
		if t.Above <= 0 || t.Above == above {
			return nil, fmt.Errorf("%w: the bounds of tiers must be more than 0, and each another", ErrPrice)
		}
		above, given = t.Above, t.Rates.or(given)
		if err := p.add(above, given); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// add appends a tier.
func (p *Price) add(above int64, given Rates) error {
	rates := given.or(Rates{
		CacheRead: given.Input, CacheWrite: given.Input, Reasoning: given.Output,
		Input: Inherit, Output: Inherit,
	})
	for _, rate := range []int64{rates.Input, rates.CacheRead, rates.CacheWrite, rates.Output, rates.Reasoning} {
		if rate < 0 || rate > MaxAmount {
			return fmt.Errorf("%w: the rate %d is out of bounds, 0 to %d", ErrPrice, rate, int64(MaxAmount))
		}
	}
	p.tiers = append(p.tiers, Tier{Above: above, Rates: rates})
	return nil
}

// or puts other rates in the place of those that inherit.
func (r Rates) or(other Rates) Rates {
	pick := func(a, b int64) int64 {
		if a == Inherit {
			return b
		}
		return a
	}
	return Rates{
		Input: pick(r.Input, other.Input), CacheRead: pick(r.CacheRead, other.CacheRead),
		CacheWrite: pick(r.CacheWrite, other.CacheWrite), Output: pick(r.Output, other.Output),
		Reasoning: pick(r.Reasoning, other.Reasoning),
	}
}

// EffectiveFrom is the moment from which the price holds, unix seconds; math.MinInt64 for always.
func (p *Price) EffectiveFrom() int64 { return p.from }

// Tiers returns what the price is made of, nothing in it inherits. The first tier is above -1: it holds for every usage. The slice
// is shared: do not write to it.
func (p *Price) Tiers() []Tier { return p.tiers }

// rates are those that hold for a usage: all of its tokens have the rates of the highest tier that its input side is above.
func (p *Price) rates(u Usage) Rates {
	side := Usage{Input: u.Input, CacheRead: u.CacheRead, CacheWrite: u.CacheWrite}.Total()
	last := len(p.tiers) - 1
	for last > 0 && side <= p.tiers[last].Above {
		last--
	}
	return p.tiers[last].Rates
}

// Cost returns what a usage costs. The sum over the kinds is exact and rounded up once, to whole nano-USD. The parts are rounded
// down, and the largest of them has what is missing to the total. It errs with ErrTooLarge or ErrUsage.
func (p *Price) Cost(u Usage) (Breakdown, error) {
	var (
		b     Breakdown
		rates = p.rates(u)
		sum   wide
		whole int64
		most  wide
		rest  = &b.Input
	)
	for _, kind := range []struct {
		tokens, rate int64
		part         *int64
	}{
		{u.Input, rates.Input, &b.Input},
		{u.CacheRead, rates.CacheRead, &b.CacheRead},
		{u.CacheWrite, rates.CacheWrite, &b.CacheWrite},
		{u.Output, rates.Output, &b.Output},
		{u.Reasoning, rates.Reasoning, &b.Reasoning},
	} {
		if kind.tokens < 0 {
			return Breakdown{}, ErrUsage
		}
		exact := product(kind.tokens, kind.rate)
		part, _ := exact.divide(million)
		if part > MaxAmount {
			return Breakdown{}, ErrTooLarge
		}
		*kind.part = part
		whole += part
		sum = sum.plus(exact)
		if most.less(exact) {
			most, rest = exact, kind.part
		}
	}
	total, over := sum.divide(million)
	if over {
		total++
	}
	if total > MaxAmount {
		return Breakdown{}, ErrTooLarge
	}
	*rest += total - whole
	b.Total = total
	return b, nil
}

// wide is an integer of 128 bits, from 0.
type wide struct{ high, low uint64 }

// product multiplies two integers from 0.
func product(a, b int64) wide {
	high, low := bits.Mul64(uint64(a), uint64(b))
	return wide{high, low}
}

// plus adds; what is added here stays far below 2^128.
func (w wide) plus(other wide) wide {
	low, carry := bits.Add64(w.low, other.low, 0)
	high, _ := bits.Add64(w.high, other.high, carry)
	return wide{high, low}
}

func (w wide) less(other wide) bool {
	return w.high < other.high || w.high == other.high && w.low < other.low
}

// divide returns the quotient by a number from 1, math.MaxInt64 for one that is larger, and whether there is a rest.
func (w wide) divide(by int64) (quotient int64, rest bool) {
	if w.high >= uint64(by) {
		return math.MaxInt64, true
	}
	result, remainder := bits.Div64(w.high, w.low, uint64(by))
	return int64(min(result, math.MaxInt64)), remainder > 0
}
