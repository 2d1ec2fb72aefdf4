package budget

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxAmount bounds what a usage may cost, nano-USD, and what a million tokens may: 2^52-1, as a store has it. That is 4.5
// million USD for a call, and 4.5 USD for a token.
const MaxAmount = 1<<52 - 1

// Inherit stands for the rate of a kind of token that has none of its own.
const Inherit = -1

// Rates are prices of tokens by their kinds, nano-USD per million tokens: 1 is 1e-15 USD a token. Each is 0 to MaxAmount, or
// Inherit.
type Rates struct {
	Input, CacheRead, CacheWrite, Output, Reasoning int64
}

// Unset are rates that all inherit.
func Unset() Rates {
	return Rates{Input: Inherit, CacheRead: Inherit, CacheWrite: Inherit, Output: Inherit, Reasoning: Inherit}
}

// ErrRate says that a text is not a price of tokens; what is wrong and what to write is in the error's text.
var ErrRate = errors.New("not a price in USD")

const (
	// rateDigits is how many digits after the point a price of one token may have.
	rateDigits = 15
	// longestRate and largestExponent bound what is read as a number.
	longestRate, largestExponent = 64, 99
)

// ParseRate reads a price in USD of so many tokens, 1, 1,000 or 1,000,000 of them, as "0.0000002" or "2e-07", and returns it in
// nano-USD per million tokens. It is exact: a price finer than 1e-15 USD a token is an error, as is a negative one and one
// above MaxAmount. Errors wrap ErrRate.
func ParseRate(text string, tokens int64) (int64, error) {
	digits, exponent, err := decimal(text)
	if err != nil {
		return 0, err
	}
	if digits == "" {
		return 0, nil
	}
	shift := exponent + rateDigits
	for n := tokens; n > 1; n /= 10 {
		shift--
	}
	if shift < 0 {
		return 0, wrongRate(text, "finer than 0.000000000000001 USD a token, the smallest price; round it")
	}
	const longest = 16 // digits of MaxAmount
	if len(digits)+shift > longest {
		return 0, wrongRate(text, "more than "+FormatRate(MaxAmount)+" USD a token, the largest price")
	}
	rate, err := strconv.ParseInt(digits+strings.Repeat("0", shift), 10, 64)
	if err != nil || rate > MaxAmount {
		return 0, wrongRate(text, "more than "+FormatRate(MaxAmount)+" USD a token, the largest price")
	}
	return rate, nil
}

// FormatRate writes a rate as a decimal number of USD a token, with all its digits and no trailing zeros: "0.0000002".
func FormatRate(rate int64) string {
	const unit = 1_000_000_000_000_000 // 10^rateDigits
	whole, fraction := rate/unit, rate%unit
	if fraction == 0 {
		return strconv.FormatInt(whole, 10)
	}
	return strconv.FormatInt(whole, 10) + "." + strings.TrimRight(fmt.Sprintf("%0*d", rateDigits, fraction), "0")
}

// decimal splits a number into its digits, without zeros before and behind them, and the power of ten that they count.
func decimal(text string) (digits string, exponent int, err error) {
	if len(text) > longestRate {
		return "", 0, wrongRate(text, "longer than 64 characters")
	}
	if strings.HasPrefix(text, "-") {
		return "", 0, wrongRate(text, "must not be negative")
	}
	const hint = "write a number of USD as 0.0000002 or 2e-07"
	body := text
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		body = text[:at]
		power := strings.TrimPrefix(text[at+1:], "+")
		if exponent, err = strconv.Atoi(power); err != nil || !isDigits(strings.TrimPrefix(power, "-")) ||
			exponent > largestExponent || exponent < -largestExponent {
			return "", 0, wrongRate(text, hint)
		}
	}
	whole, fraction, pointed := strings.Cut(body, ".")
	if !isDigits(whole) || pointed && !isDigits(fraction) {
		return "", 0, wrongRate(text, hint)
	}
	all := strings.TrimLeft(whole+fraction, "0")
	digits = strings.TrimRight(all, "0")
	return digits, exponent - len(fraction) + len(all) - len(digits), nil
}

// wrongRate is an ErrRate that says what is wrong with a text.
func wrongRate(text, what string) error {
	if len(text) > longestRate {
		text = text[:longestRate] + "..."
	}
	return fmt.Errorf("%q is %w: %s", text, ErrRate, what)
}
