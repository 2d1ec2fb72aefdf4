package budget

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseMoney(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		nano int64
	}{
		{"0", 0},
		{"5", 5_000_000_000},
		{"5.0", 5_000_000_000},
		{"$5", 5_000_000_000},
		{"5 USD", 5_000_000_000},
		{"5USD", 5_000_000_000},
		{" 5.50 usd ", 5_500_000_000},
		{"0.00026060", 260_600},
		{"0.000000001", 1},
		{"0.0000000010000", 1},
		{"1_000.5", 1_000_500_000_000},
		{"9223372036.854775807", math.MaxInt64},
	} {
		got, err := ParseMoney(tc.text)
		if err != nil || got != tc.nano {
			t.Errorf("ParseMoney(%q) = %d, %v; want %d", tc.text, got, err, tc.nano)
		}
	}
}

func TestParseMoneyRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ text, says string }{
		{"", "write an amount"},
		{"$", "write an amount"},
		{"USD", "write an amount"},
		{"-5", "negative"},
		{"$-5", "negative"},
		{"5.", "digits must follow the point"},
		{".5", "write digits"},
		{"_5", "write digits"},
		{"5,50", "write digits"},
		{"1.2.3", "write digits"},
		{"1e3", "write digits"},
		{"+5", "write digits"},
		{"NaN", "write digits"},
		{"$5 USD", "either $5 or 5 USD"},
		{"0.0000000001", "at most 9 digits"},
		{"9223372036.854775808", "too large"},
		{"9223372037", "too large"},
		{"99999999999999999999", "too large"},
		{strings.Repeat("9", 100_000), "too large"},
	} {
		got, err := ParseMoney(tc.text)
		if !errors.Is(err, ErrMoney) || !strings.Contains(err.Error(), tc.says) || len(err.Error()) > 200 {
			t.Errorf("ParseMoney(%.40q) = %d, %v; want an error that says %q", tc.text, got, err, tc.says)
		}
	}
}

func TestFormatMoney(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		nano int64
		text string
	}{
		{0, "0"},
		{5_000_000_000, "5"},
		{260_600, "0.0002606"},
		{1, "0.000000001"},
		{4_480_000_000, "4.48"},
		{-500_000_000, "-0.5"},
		{math.MaxInt64, "9223372036.854775807"},
		{math.MinInt64, "-9223372036.854775808"},
	} {
		if got := FormatMoney(tc.nano); got != tc.text {
			t.Errorf("FormatMoney(%d) = %q; want %q", tc.nano, got, tc.text)
		}
	}
}

func TestMoneyComesBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		nano := rapid.Int64Range(0, math.MaxInt64).Draw(t, "nano")
		if got, err := ParseMoney(FormatMoney(nano)); err != nil || got != nano {
			t.Fatalf("%d nano-USD is written %q and read as %d, %v", nano, FormatMoney(nano), got, err)
		}
	})
}
