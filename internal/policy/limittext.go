package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// What a limit looks like in a policy. The JSON Schema carries the same pattern.
const limitPattern = `^(?:` +
	`([0-9][0-9_]*) *(?:requests?)?(?: */ *| +per +)(` + periodPattern + `)` +
	`|([0-9][0-9_]*) *(?:tokens?)(?: */ *| +per +)(` + periodPattern + `)` +
	`|(\$[0-9][0-9_]*(?:\.[0-9]+)?|[0-9][0-9_]*(?:\.[0-9]+)? *(?:USD|usd))(?: */ *| +per +)(` + periodPattern + `)` +
	`|([0-9][0-9_]*) +concurrent(?: +requests?)?` +
	`)$`

var (
	limitShape  = regexp.MustCompile(limitPattern)
	limitNumber = regexp.MustCompile(`^\$?[0-9][0-9_]*(\.[0-9]+)?`)
)

const limitExamples = `10/minute, 5 USD/day, 1000000 tokens/day, 20/90s or 100 concurrent`

var (
	errLimitSyntax   = errors.New("is not a limit; write it as " + limitExamples)
	errLimitNegative = errors.New("must not be negative; 0/minute denies everything")
	errLimitFraction = errors.New("has a fraction, which only USD may have; write a whole number, as 15/10m in place of 1.5/minute")
	errLimitNoPeriod = errors.New("has no period")
	errLimitNoSlash  = errors.New("has no / before its period")
	errLimitTooLarge = errors.New("is too large")
)

// parseLimit reads a limit as people write it. Its name is that of its period, its ordinal -1.
func parseLimit(text string) (Limit, error) {
	match := limitShape.FindStringSubmatch(text)
	if match == nil {
		return Limit{}, diagnoseLimit(text)
	}
	switch {
	case match[1] != "":
		return windowLimit(text, store.Requests, match[1], match[2])
	case match[3] != "":
		return windowLimit(text, store.Tokens, match[3], match[4])
	case match[5] != "":
		return windowLimit(text, store.USD, match[5], match[6])
	default:
		amount, err := limitAmount(text, store.Concurrent, match[7])
		return Limit{Name: "concurrent", Unit: store.Concurrent, Max: amount, Ordinal: -1}, err
	}
}

// windowLimit makes a limit per period of the parts of its text.
func windowLimit(text string, unit store.Unit, amount, period string) (Limit, error) {
	most, err := limitAmount(text, unit, amount)
	if err != nil {
		return Limit{}, err
	}
	length, name, err := parsePeriod(period)
	if err != nil {
		return Limit{}, err
	}
	return Limit{Name: name, Unit: unit, Max: most, Period: length, Ordinal: -1}, nil
}

// limitAmount reads the amount of a limit and holds it to its bounds.
func limitAmount(text string, unit store.Unit, amount string) (int64, error) {
	if unit == store.USD {
		nano, err := budget.ParseMoney(amount)
		if err != nil {
			return 0, err
		}
		if nano > store.MaxAmount {
			return 0, tooLarge(text, unit)
		}
		return nano, nil
	}
	number, err := strconv.ParseInt(strings.ReplaceAll(amount, "_", ""), 10, 64)
	if err != nil || number > largest(unit) {
		return 0, tooLarge(text, unit) // the text is digits: it can only be an overflow
	}
	return number, nil
}

// largest returns the largest limit of a unit.
func largest(unit store.Unit) int64 {
	if unit == store.Requests || unit == store.Concurrent {
		return store.MaxRequests
	}
	return store.MaxAmount
}

// tooLarge says that a limit is out of bounds, and what the bound is.
func tooLarge(text string, unit store.Unit) error {
	most := strconv.FormatInt(largest(unit), 10)
	name := unit.String()
	switch unit {
	case store.USD:
		most, name = budget.FormatMoney(largest(unit)), "USD"
	case store.Concurrent:
		name = "concurrent requests"
	case store.Requests, store.Tokens:
	}
	return fmt.Errorf("%s %w: write at most %s %s, or leave the limit out", quoted(text), errLimitTooLarge, most, name)
}

// diagnoseLimit says why a text is not a limit.
func diagnoseLimit(text string) error {
	trimmed := strings.TrimSpace(text)
	number := limitNumber.FindString(trimmed)
	rest := strings.TrimSpace(strings.TrimPrefix(trimmed, number))
	amount, period, found := strings.Cut(rest, "/")
	if !found {
		amount, period, found = strings.Cut(" "+rest, " per ")
	}
	amount, period = strings.TrimSpace(amount), strings.TrimSpace(period)
	switch {
	case strings.HasPrefix(trimmed, "-") || strings.HasPrefix(trimmed, "$-"):
		return fmt.Errorf("%s %w", quoted(text), errLimitNegative)
	case number == "" || len(text) > shownText:
		return fmt.Errorf("%s %w", quoted(text), errLimitSyntax)
	case rest == "" || rest == "per":
		return fmt.Errorf("%s %w; write %s", quoted(text), errLimitNoPeriod, strconv.Quote(number+"/minute"))
	case !found && !strings.HasPrefix(rest, "concurrent"):
		return noPeriod(text, number, rest)
	case strings.Contains(number, ".") && !strings.HasPrefix(number, "$") && !strings.EqualFold(amount, "usd"):
		return fmt.Errorf("%s %w", quoted(text), errLimitFraction)
	}
	if _, _, err := parsePeriod(period); found && err != nil {
		return err
	}
	return fmt.Errorf("%s %w%s", quoted(text), errLimitSyntax, didYouMean(amount, limitUnits()))
}

// noPeriod says what is missing after an amount and a word.
func noPeriod(text, number, word string) error {
	for _, period := range []string{word, strings.TrimSuffix(word, "s")} {
		meant := number + "/" + period
		if _, err := parseLimit(meant); err == nil {
			return fmt.Errorf("%s %w; write %s", quoted(text), errLimitNoSlash, strconv.Quote(meant))
		}
	}
	if hint := didYouMean(word, limitUnits()); hint != "" && !isLimitUnit(word) {
		return fmt.Errorf("%s %w%s", quoted(text), errLimitSyntax, hint)
	}
	return fmt.Errorf("%s %w; write %s", quoted(text), errLimitNoPeriod, strconv.Quote(number+" "+word+"/day"))
}

// limitUnits are the words that may follow an amount.
func limitUnits() []string { return []string{"requests", "tokens", "USD", "concurrent"} }

// isLimitUnit tells whether a word may follow an amount as it is.
func isLimitUnit(word string) bool {
	switch word {
	case "request", "requests", "token", "tokens", "USD", "usd":
		return true
	default:
		return false
	}
}
