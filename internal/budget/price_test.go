package budget

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// llama is the price of Llama-3.2-3B: 0.0000002 USD of an input token, 0.0000006 of an output token.
func llama(t testing.TB) *Price {
	t.Helper()
	rates := Unset()
	rates.Input, rates.Output = 200_000_000, 600_000_000
	return newPrice(t, rates)
}

func newPrice(t testing.TB, rates Rates, tiers ...Tier) *Price {
	t.Helper()
	p, err := NewPrice(math.MinInt64, rates, tiers...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestACallOfLlamaCostsExactlyItsTokens(t *testing.T) {
	t.Parallel()
	got, err := llama(t).Cost(Usage{Input: 12 + 856, Output: 145})
	want := Breakdown{Input: 173_600, Output: 87_000, Total: 260_600}
	if err != nil || got != want {
		t.Errorf("868 tokens in and 145 out cost %+v, %v; want %+v", got, err, want)
	}
	if text := FormatMoney(got.Total); text != "0.0002606" {
		t.Errorf("that is %s USD, want 0.0002606", text)
	}
}

func TestCost(t *testing.T) {
	t.Parallel()
	const micro = 1_000_000 // a rate of 1 nano-USD a token
	all := Rates{Input: 10 * micro, CacheRead: micro, CacheWrite: 12 * micro, Output: 40 * micro, Reasoning: 50 * micro}
	few := Rates{Input: 10 * micro, CacheRead: Inherit, CacheWrite: Inherit, Output: 40 * micro, Reasoning: Inherit}
	tiers := []Tier{
		{Above: 1000, Rates: Rates{Input: 30 * micro, CacheRead: Inherit, CacheWrite: Inherit, Output: 90 * micro, Reasoning: Inherit}},
		{Above: 200, Rates: Rates{Input: 20 * micro, CacheRead: 2 * micro, CacheWrite: Inherit, Output: Inherit, Reasoning: Inherit}},
	}
	for _, tc := range []struct {
		name  string
		price *Price
		usage Usage
		want  Breakdown
	}{
		{"nothing", newPrice(t, all), Usage{}, Breakdown{}},
		{
			"each kind at its own price", newPrice(t, all),
			Usage{Input: 1, CacheRead: 2, CacheWrite: 3, Output: 4, Reasoning: 5},
			Breakdown{Input: 10, CacheRead: 2, CacheWrite: 36, Output: 160, Reasoning: 250, Total: 458},
		},
		{
			"missing kinds at those of input and output", newPrice(t, few),
			Usage{Input: 1, CacheRead: 2, CacheWrite: 3, Output: 4, Reasoning: 5},
			Breakdown{Input: 10, CacheRead: 20, CacheWrite: 30, Output: 160, Reasoning: 200, Total: 420},
		},
		{
			"one token finer than a nano-USD, rounded up", newPrice(t, Rates{Input: 1, Output: 1}),
			Usage{Output: 1},
			Breakdown{Output: 1, Total: 1},
		},
		{
			"five halves, rounded up once, the rest at the largest part", newPrice(t, Rates{
				Input: micro / 2, CacheRead: micro / 2, CacheWrite: micro / 2, Output: micro/2 + 1, Reasoning: micro / 2,
			}),
			Usage{Input: 1, CacheRead: 1, CacheWrite: 1, Output: 1, Reasoning: 1},
			Breakdown{Output: 3, Total: 3},
		},
		{"a free model", newPrice(t, Rates{}), Usage{Input: math.MaxInt64, Output: 7}, Breakdown{}},
		{"at the bound of a tier", newPrice(t, all, tiers...), Usage{Input: 200, Output: 1}, Breakdown{Input: 2000, Output: 40, Total: 2040}},
		{
			"above it, all tokens at its prices", newPrice(t, all, tiers...),
			Usage{Input: 201, Output: 1},
			Breakdown{Input: 4020, Output: 40, Total: 4060},
		},
		{
			"cached tokens count towards the bound", newPrice(t, all, tiers...),
			Usage{Input: 1, CacheRead: 100, CacheWrite: 100},
			Breakdown{Input: 20, CacheRead: 200, CacheWrite: 1200, Total: 1420},
		},
		{
			"output does not", newPrice(t, all, tiers...),
			Usage{Input: 1, Output: 1000, Reasoning: 1000},
			Breakdown{Input: 10, Output: 40_000, Reasoning: 50_000, Total: 90_010},
		},
		{
			"a kind that a tier leaves out keeps the price below", newPrice(t, all, tiers...),
			Usage{Input: 1000, CacheRead: 1, Output: 1},
			Breakdown{Input: 30_000, CacheRead: 2, Output: 90, Total: 30_092},
		},
		{
			"a kind that no tier has falls back to the tier's input and output", newPrice(t, few, tiers[0]),
			Usage{Input: 1000, CacheWrite: 1, Reasoning: 1},
			Breakdown{Input: 30_000, CacheWrite: 30, Reasoning: 90, Total: 30_120},
		},
		{
			"an input side beyond int64 is above every tier", newPrice(t, all, Tier{Above: 1_000_000, Rates: Rates{}}),
			Usage{Input: math.MaxInt64, CacheRead: math.MaxInt64, CacheWrite: math.MaxInt64},
			Breakdown{},
		},
		{
			"the most that can be counted", newPrice(t, Rates{Input: micro}),
			Usage{Input: MaxAmount},
			Breakdown{Input: MaxAmount, Total: MaxAmount},
		},
	} {
		got, err := tc.price.Cost(tc.usage)
		if err != nil || got != tc.want {
			t.Errorf("%s: %+v costs %+v, %v; want %+v", tc.name, tc.usage, got, err, tc.want)
		}
	}
}

func TestCostRefuses(t *testing.T) {
	t.Parallel()
	dear := newPrice(t, Rates{Input: MaxAmount, CacheRead: MaxAmount, CacheWrite: MaxAmount, Output: MaxAmount, Reasoning: MaxAmount})
	one := newPrice(t, Rates{Input: 1_000_000, Output: 1})
	for _, tc := range []struct {
		name  string
		price *Price
		usage Usage
		want  error
	}{
		{"a negative input", one, Usage{Input: -1}, ErrUsage},
		{"a negative rest", one, Usage{Input: 1, Reasoning: math.MinInt64}, ErrUsage},
		{"one part too large", dear, Usage{Output: math.MaxInt64}, ErrTooLarge},
		{"every part too large", dear, Usage{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64}, ErrTooLarge},
		{"a sum too large by its rounding", one, Usage{Input: MaxAmount, Output: 1}, ErrTooLarge},
		{"a sum too large", one, Usage{Input: MaxAmount, CacheRead: 0, Output: 1_000_001}, ErrTooLarge},
	} {
		if got, err := tc.price.Cost(tc.usage); !errors.Is(err, tc.want) || got != (Breakdown{}) {
			t.Errorf("%s: it costs %+v, %v; want %v", tc.name, got, err, tc.want)
		}
	}
}

func TestNewPriceRefuses(t *testing.T) {
	t.Parallel()
	good := Rates{Input: 1, Output: 1}
	for name, made := range map[string]func() (*Price, error){
		"no input":             func() (*Price, error) { return NewPrice(0, Rates{Input: Inherit, Output: 1}) },
		"no output":            func() (*Price, error) { return NewPrice(0, Rates{Input: 1, Output: Inherit}) },
		"a negative rate":      func() (*Price, error) { return NewPrice(0, Rates{Input: 1, Output: 1, CacheRead: -2}) },
		"a rate too large":     func() (*Price, error) { return NewPrice(0, Rates{Input: MaxAmount + 1, Output: 1}) },
		"a tier above nothing": func() (*Price, error) { return NewPrice(0, good, Tier{Above: 0, Rates: Unset()}) },
		"two tiers of one bound": func() (*Price, error) {
			return NewPrice(0, good, Tier{Above: 5, Rates: Unset()}, Tier{Above: 5, Rates: Unset()})
		},
		"a wrong rate in a tier": func() (*Price, error) { return NewPrice(0, good, Tier{Above: 5, Rates: Rates{Input: -7}}) },
	} {
		if _, err := made(); !errors.Is(err, ErrPrice) {
			t.Errorf("%s: the error is %v, want ErrPrice", name, err)
		}
	}
}

// drawPrice draws a price whose rates may be tiny or huge.
func drawPrice(t *rapid.T) *Price {
	rate := func(name string, least int64) int64 {
		return rapid.OneOf(rapid.Int64Range(least, 10), rapid.Int64Range(0, 10_000_000_000), rapid.Int64Range(0, MaxAmount)).Draw(t, name)
	}
	rates := func(least int64) Rates {
		return Rates{
			Input: rate("input", least), Output: rate("output", least), CacheRead: rate("cache read", Inherit),
			CacheWrite: rate("cache write", Inherit), Reasoning: rate("reasoning", Inherit),
		}
	}
	var tiers []Tier
	for _, above := range rapid.SliceOfNDistinct(rapid.Int64Range(1, 1000), 0, 3, rapid.ID).Draw(t, "tiers") {
		tiers = append(tiers, Tier{Above: above, Rates: rates(Inherit)})
	}
	p, err := NewPrice(0, rates(0), tiers...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func drawUsage(t *rapid.T) Usage {
	count := func(name string) int64 {
		return rapid.OneOf(rapid.Int64Range(0, 1000), rapid.Int64Range(0, 1e12), rapid.Int64Range(0, math.MaxInt64)).Draw(t, name)
	}
	return Usage{
		Input: count("input"), CacheRead: count("cache read"), CacheWrite: count("cache write"), Output: count("output"),
		Reasoning: count("reasoning"),
	}
}

// exactCost is what a usage costs, by math/big: the whole nano-USD, rounded up.
func exactCost(p *Price, u Usage) *big.Int {
	side := new(big.Int).Add(big.NewInt(u.Input), new(big.Int).Add(big.NewInt(u.CacheRead), big.NewInt(u.CacheWrite)))
	rates := p.Tiers()[0].Rates
	for _, tier := range p.Tiers() {
		if side.Cmp(big.NewInt(tier.Above)) > 0 {
			rates = tier.Rates
		}
	}
	sum := new(big.Int)
	for _, part := range [][2]int64{
		{u.Input, rates.Input},
		{u.CacheRead, rates.CacheRead},
		{u.CacheWrite, rates.CacheWrite},
		{u.Output, rates.Output},
		{u.Reasoning, rates.Reasoning},
	} {
		sum.Add(sum, new(big.Int).Mul(big.NewInt(part[0]), big.NewInt(part[1])))
	}
	sum.Add(sum, big.NewInt(million-1))
	return sum.Div(sum, big.NewInt(million))
}

func TestCostIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, u := drawPrice(t), drawUsage(t)
		want := exactCost(p, u)
		got, err := p.Cost(u)
		if want.Cmp(big.NewInt(MaxAmount)) > 0 {
			if !errors.Is(err, ErrTooLarge) {
				t.Fatalf("%+v costs %+v, %v; want ErrTooLarge: it is %s", u, got, err, want)
			}
			return
		}
		if err != nil || want.Cmp(big.NewInt(got.Total)) != 0 {
			t.Fatalf("%+v costs %+v, %v; want %s", u, got, err, want)
		}
		if sum := got.Input + got.CacheRead + got.CacheWrite + got.Output + got.Reasoning; sum != got.Total {
			t.Fatalf("the parts of %+v sum up to %d", got, sum)
		}
		if min(got.Input, got.CacheRead, got.CacheWrite, got.Output, got.Reasoning) < 0 {
			t.Fatalf("a part of %+v is negative", got)
		}
	})
}

func TestTotalIsBounded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		usage Usage
		want  int64
	}{
		{Usage{}, 0},
		{Usage{1, 2, 3, 4, 5}, 15},
		{Usage{Input: MaxAmount, Output: 1}, MaxAmount},
		{Usage{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64}, MaxAmount},
		{Usage{Input: -5, Output: 3}, 3},
	} {
		if got := tc.usage.Total(); got != tc.want {
			t.Errorf("the total of %+v is %d, want %d", tc.usage, got, tc.want)
		}
	}
}
