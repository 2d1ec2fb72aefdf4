// Package budget computes with money, exactly: integers of nano-USD inside, decimal strings at the edges, never a float.
package budget

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// NanoPerUSD is how many nano-USD make one USD.
const NanoPerUSD = 1_000_000_000

// fractionDigits is how many digits after the point an amount may have: one nano-USD is the smallest amount.
const fractionDigits = 9

// ErrMoney says that a text is not an amount of money; what is wrong and what to write is in the error's text.
var ErrMoney = errors.New("not an amount of USD")

// ParseMoney reads an amount of USD as people write it, "5", "5.00", "$5", "5 USD" or "1_000.50", and returns it in
// nano-USD. It is exact: an amount finer than 0.000000001 USD is an error, as is a negative one and one above
// 9223372036.854775807 USD. Errors wrap ErrMoney.
func ParseMoney(text string) (int64, error) {
	body, err := bareAmount(text)
	if err != nil {
		return 0, err
	}
	whole, fraction, pointed := strings.Cut(body, ".")
	if pointed && fraction == "" {
		return 0, wrong(text, "digits must follow the point; write an amount as 5.50")
	}
	whole = strings.ReplaceAll(whole, "_", "")
	if !isDigits(whole) || (pointed && !isDigits(fraction)) {
		return 0, wrong(text, "write digits with at most one point, as 5 or 5.50")
	}
	if trimmed := strings.TrimRight(fraction, "0"); len(trimmed) > fractionDigits {
		return 0, wrong(text, "finer than 0.000000001 USD; write at most 9 digits after the point")
	} else if pointed {
		fraction = trimmed
	}
	// Both parse errors below can only be overflows: the texts are digits.
	dollars, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || dollars > math.MaxInt64/NanoPerUSD {
		return 0, wrong(text, "too large; the most is 9223372036.854775807")
	}
	nano, err := strconv.ParseInt(fraction+strings.Repeat("0", fractionDigits-len(fraction)), 10, 64)
	if err != nil || nano > math.MaxInt64-dollars*NanoPerUSD {
		return 0, wrong(text, "too large; the most is 9223372036.854775807")
	}
	return dollars*NanoPerUSD + nano, nil
}

// FormatMoney writes nano-USD as a decimal number of USD with all its digits and no trailing zeros: "5", "0.0002606".
// It is a valid JSON number.
func FormatMoney(nano int64) string {
	sign, rest := "", uint64(nano)
	if nano < 0 {
		sign, rest = "-", -rest // right for the smallest int64 too
	}
	whole := sign + strconv.FormatUint(rest/NanoPerUSD, 10)
	fraction := rest % NanoPerUSD
	if fraction == 0 {
		return whole
	}
	return whole + "." + strings.TrimRight(fmt.Sprintf("%0*d", fractionDigits, fraction), "0")
}

// bareAmount strips what people write around the number.
func bareAmount(text string) (string, error) {
	body := strings.TrimSpace(text)
	dollar := strings.HasPrefix(body, "$")
	body = strings.TrimPrefix(body, "$")
	for _, unit := range []string{"USD", "usd"} {
		if cut, found := strings.CutSuffix(body, unit); found {
			if dollar {
				return "", wrong(text, "write either $5 or 5 USD")
			}
			body = strings.TrimRight(cut, " ")
			break
		}
	}
	switch {
	case body == "":
		return "", wrong(text, "write an amount as 5 or 5.50")
	case strings.HasPrefix(body, "-"):
		return "", wrong(text, "must not be negative")
	case strings.HasPrefix(body, "_"):
		return "", wrong(text, "write digits with at most one point, as 5 or 5.50")
	}
	return body, nil
}

// isDigits tells whether a text is one digit or more, and nothing else.
func isDigits(text string) bool {
	for _, char := range []byte(text) {
		if char < '0' || char > '9' {
			return false
		}
	}
	return text != ""
}

// wrong is an ErrMoney that says what is wrong with a text. A long text is cut: it may come from anywhere.
func wrong(text, what string) error {
	const shown = 40
	if len(text) > shown {
		text = text[:shown] + "..."
	}
	return fmt.Errorf("%q is %w: %s", text, ErrMoney, what)
}
