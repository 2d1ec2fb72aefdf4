package budget

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// priced is a price of so many nano-USD a token, from a moment on.
func priced(t testing.TB, from, nano int64) *Price {
	t.Helper()
	p, err := NewPrice(from, Rates{Input: nano * million, Output: nano * million})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFind(t *testing.T) {
	t.Parallel()
	always := func(nano int64) []*Price { return []*Price{priced(t, math.MinInt64, nano)} }
	table, err := NewTable([]Model{
		{Name: "gpt-4o", Aliases: []string{"omni", "azure/gpt-4o*"}, Prices: always(1)},
		{Name: "gpt-4o-*", Prices: always(2)},
		{Name: "gpt-*", Prices: always(3)},
		{Name: "gpt-*-mini", Prices: always(4)},
		{Name: "*-embed", Prices: always(5)},
		{Name: "gpt-4o-dated", Prices: []*Price{priced(t, 100, 6), priced(t, 300, 8), priced(t, 200, 7)}},
		{Name: "new", Prices: []*Price{priced(t, 100, 9)}},
	}, []*Price{priced(t, math.MinInt64, 99)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		model string
		at    int64
		name  string
		nano  int64 // 0: none is found
	}{
		{"gpt-4o", 0, "gpt-4o", 1},
		{"omni", 0, "gpt-4o", 1},
		{"azure/gpt-4o-2024", 0, "gpt-4o", 1},
		{"azure/gpt-4o", 0, "gpt-4o", 1},
		{"gpt-4o-", 0, "gpt-4o-*", 2},
		{"gpt-4o-mini", 0, "gpt-4o-*", 2},
		{"gpt-5", 0, "gpt-*", 3},
		{"gpt-5-mini", 0, "gpt-*-mini", 4},
		{"gpt-mini", 0, "gpt-*", 3}, // nothing may count for both sides of the *
		{"gpt-embed", 0, "gpt-*", 3},
		{"my-embed", 0, "*-embed", 5},
		{"-embed", 0, "*-embed", 5},
		{"gpt-4o-dated", 99, "gpt-4o-*", 2},
		{"gpt-4o-dated", 100, "gpt-4o-dated", 6},
		{"gpt-4o-dated", 299, "gpt-4o-dated", 7},
		{"gpt-4o-dated", math.MaxInt64, "gpt-4o-dated", 8},
		{"new", 99, "", 0},
		{"new", 100, "new", 9},
		{"GPT-4o", 0, "", 0},
		{"unknown", 0, "", 0},
		{"", 0, "", 0},
	} {
		p, name, ok := table.Find(tc.model, tc.at)
		if ok != (tc.nano > 0) || name != tc.name {
			t.Errorf("Find(%q, %d) finds %q, %v; want %q", tc.model, tc.at, name, ok, tc.name)
			continue
		}
		if ok && p.Tiers()[0].Rates.Input != tc.nano*million {
			t.Errorf("Find(%q, %d) finds %d, want %d nano-USD a token", tc.model, tc.at, p.Tiers()[0].Rates.Input/million, tc.nano)
		}
	}
	if p, ok := table.Default(0); !ok || p.Tiers()[0].Rates.Input != 99*million {
		t.Errorf("the default price is %v, %v", p, ok)
	}
	if len(table.Models()) != 7 || table.Models()[0].Name != "gpt-4o" {
		t.Errorf("the models are %v, want them in their order", table.Models())
	}
}

func TestAnEmptyTableFindsNothing(t *testing.T) {
	t.Parallel()
	for _, table := range []*Table{nil, {}} {
		if _, _, ok := table.Find("x", 0); ok {
			t.Error("an empty table finds a price")
		}
		if _, ok := table.Default(0); ok || table.Models() != nil {
			t.Error("an empty table has a default price or models")
		}
	}
}

func TestNewTableRefuses(t *testing.T) {
	t.Parallel()
	one := []*Price{priced(t, 0, 1)}
	for _, tc := range []struct {
		says     string
		models   []Model
		fallback []*Price
	}{
		{"has no price", []Model{{Name: "a"}}, nil},
		{"is empty", []Model{{Name: "", Prices: one}}, nil},
		{"more than one *", []Model{{Name: "a*b*", Prices: one}}, nil},
		{"stands twice", []Model{{Name: "a", Prices: one}, {Name: "a", Prices: one}}, nil},
		{"stands twice", []Model{{Name: "a", Aliases: []string{"a"}, Prices: one}}, nil},
		{"stands twice", []Model{{Name: "a*", Prices: one}, {Name: "b", Aliases: []string{"a*"}, Prices: one}}, nil},
		{"one moment", []Model{{Name: "a", Prices: []*Price{priced(t, 5, 1), priced(t, 5, 2)}}}, nil},
		{"one moment", nil, []*Price{priced(t, 5, 1), priced(t, 5, 2)}},
	} {
		if _, err := NewTable(tc.models, tc.fallback); !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("the error is %v, want one that says %q", err, tc.says)
		}
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	table, err := NewTable([]Model{{Name: "gpt-*", Prices: []*Price{priced(t, 0, 1)}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = table.Find("gpt-4o-mini", 1) }); n != 0 {
		t.Errorf("Find allocates %v times, want none", n)
	}
}
