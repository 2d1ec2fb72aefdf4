package budget

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseRate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text   string
		tokens int64
		rate   int64
	}{
		{"0", 1, 0},
		{"0.0", 1, 0},
		{"0e-99", 1, 0},
		{"0.0000002", 1, 200_000_000},
		{"2e-07", 1, 200_000_000},
		{"2E-7", 1, 200_000_000},
		{"2.0e-7", 1, 200_000_000},
		{"20e-8", 1, 200_000_000},
		{"0.00002e-2", 1, 200_000_000},
		{"5.46875e-07", 1, 546_875_000},
		{"0.000000000000001", 1, 1},
		{"1e-15", 1, 1},
		{"10e-16", 1, 1},
		{"1", 1, 1_000_000_000_000_000},
		{"1e+0", 1, 1_000_000_000_000_000},
		{"4.503599627370495", 1, MaxAmount},
		{"0.2", 1_000_000, 200_000_000},
		{"15", 1_000_000, 15_000_000_000},
		{"0.000000001", 1_000_000, 1},
		{"0.0002", 1000, 200_000_000},
		{"000.20", 1_000_000, 200_000_000},
	} {
		got, err := ParseRate(tc.text, tc.tokens)
		if err != nil || got != tc.rate {
			t.Errorf("ParseRate(%q, %d) = %d, %v; want %d", tc.text, tc.tokens, got, err, tc.rate)
		}
	}
}

func TestParseRateRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text   string
		tokens int64
		says   string
	}{
		{"", 1, "write a number"},
		{"-1", 1, "must not be negative"},
		{"-0.1", 1, "must not be negative"},
		{"+1", 1, "write a number"},
		{".5", 1, "write a number"},
		{"5.", 1, "write a number"},
		{"1e", 1, "write a number"},
		{"1e-", 1, "write a number"},
		{"1e--7", 1, "write a number"},
		{"1e++7", 1, "write a number"},
		{"1e1.5", 1, "write a number"},
		{"1e-100", 1, "write a number"},
		{"1e99999999999999999999", 1, "write a number"},
		{"1_000", 1, "write a number"},
		{"0x10", 1, "write a number"},
		{"NaN", 1, "write a number"},
		{"$5", 1, "write a number"},
		{"1e-16", 1, "finer than"},
		{"1.5e-15", 1, "finer than"},
		{"1e-99", 1, "finer than"},
		{"0.0000000001", 1_000_000, "finer than"},
		{"4.503599627370496", 1, "the largest price"},
		{"1e99", 1, "the largest price"},
		{"99999999999999999999", 1_000_000, "the largest price"},
		{strings.Repeat("9", 1000), 1, "longer than"},
	} {
		got, err := ParseRate(tc.text, tc.tokens)
		if !errors.Is(err, ErrRate) || !strings.Contains(err.Error(), tc.says) || len(err.Error()) > 250 {
			t.Errorf("ParseRate(%.40q, %d) = %d, %v; want an error that says %q", tc.text, tc.tokens, got, err, tc.says)
		}
	}
}

func TestRateComesBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(0, MaxAmount).Draw(t, "rate")
		text := FormatRate(rate)
		if got, err := ParseRate(text, 1); err != nil || got != rate {
			t.Fatalf("%d is written %q and read as %d, %v", rate, text, got, err)
		}
	})
}

// TestParseRateIsExact compares with math/big: what is read is the number itself, or an error says why it cannot be.
func TestParseRateIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.SampledFrom([]int64{1, 1000, 1_000_000}).Draw(t, "tokens")
		text := fmt.Sprintf("%d.%de%d", rapid.Int64Range(0, 1e6).Draw(t, "whole"), rapid.Uint64Max(1e9).Draw(t, "fraction"),
			rapid.IntRange(-25, 12).Draw(t, "exponent"))
		want, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q is no number to math/big", text)
		}
		want.Mul(want, new(big.Rat).SetFrac64(1_000_000_000_000_000, tokens))
		holds := want.IsInt() && want.Cmp(new(big.Rat).SetInt64(MaxAmount)) <= 0
		got, err := ParseRate(text, tokens)
		if holds != (err == nil) || holds && new(big.Rat).SetInt64(got).Cmp(want) != 0 {
			t.Fatalf("ParseRate(%q, %d) = %d, %v; want %s", text, tokens, got, err, want.RatString())
		}
	})
}

func FuzzParseRate(f *testing.F) {
	for _, text := range []string{"2e-07", "0.0000002", "1e99", "-1", "1e-", "00.00e00", "9999999999999999"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, tokens := range []int64{1, 1000, 1_000_000} {
			rate, err := ParseRate(text, tokens)
			if err == nil && (rate < 0 || rate > MaxAmount) {
				t.Errorf("ParseRate(%q, %d) = %d, out of bounds", text, tokens, rate)
			}
		}
	})
}
