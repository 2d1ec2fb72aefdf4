package policy

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

const day = 24 * time.Hour

// Periods as policies write them: a word, or numbers with units from the largest to the smallest.
const (
	periodWords   = `second|minute|hour|day|week|month|year`
	periodPattern = `(?:` + periodWords + `|(?:[0-9]+(?:ms|[wdhms]))+)`
)

var (
	periodShape = regexp.MustCompile(`^` + periodPattern + `$`)
	periodPart  = regexp.MustCompile(`([0-9]+)(ms|[wdhms])`)
)

// The ways in which a period is wrong.
var (
	errPeriodSyntax = errors.New(`is not a period; write second, minute, hour, day, week, month or year, or a length as 90s, ` +
		`1h30m or 7d`)
	errPeriodOrder = errors.New("has its units out of order; write the largest first and each once, as 1h30m")
	errPeriodShort = errors.New("is shorter than 1ms, the shortest period")
	errPeriodLong  = errors.New("is longer than 366d, the longest period")
)

// wordPeriod returns the length of a period that has a word: a month is 30 days and a year 365. It is 0 for another word.
func wordPeriod(word string) time.Duration {
	switch word {
	case "second":
		return time.Second
	case "minute":
		return time.Minute
	case "hour":
		return time.Hour
	case "day":
		return day
	case "week":
		return 7 * day
	case "month":
		return 30 * day
	case "year":
		return 365 * day
	default:
		return 0
	}
}

// unitPeriod returns the length of one w, d, h, m, s or ms.
func unitPeriod(unit string) time.Duration {
	switch unit {
	case "w":
		return 7 * day
	case "d":
		return day
	case "h":
		return time.Hour
	case "m":
		return time.Minute
	case "s":
		return time.Second
	default:
		return time.Millisecond
	}
}

// parsePeriod reads "minute", "90s", "7d" or "1h30m" and returns its length with its canonical spelling: the same
// without leading zeros.
func parsePeriod(text string) (time.Duration, string, error) {
	if period := wordPeriod(text); period != 0 {
		return period, text, nil
	}
	if !periodShape.MatchString(text) {
		return 0, "", fmt.Errorf("%s %w%s", quoted(text), errPeriodSyntax, periodHint(text))
	}
	var (
		total    time.Duration
		last     = time.Duration(math.MaxInt64)
		spelling strings.Builder
	)
	for _, part := range periodPart.FindAllStringSubmatch(text, -1) {
		unit := unitPeriod(part[2])
		if unit >= last {
			return 0, "", fmt.Errorf("%s %w", quoted(text), errPeriodOrder)
		}
		last = unit
		count, err := strconv.ParseInt(part[1], 10, 64)
		if err != nil || count > int64((store.MaxPeriod-total)/unit) {
			return 0, "", fmt.Errorf("%s %w", quoted(text), errPeriodLong)
		}
		total += time.Duration(count) * unit
		spelling.WriteString(strconv.FormatInt(count, 10) + part[2])
	}
	if total < store.MinPeriod {
		return 0, "", fmt.Errorf("%s %w", quoted(text), errPeriodShort)
	}
	return total, spelling.String(), nil
}

// formatPeriod returns the word for a period, else its length in the largest unit that divides it: "90s", "36h".
func formatPeriod(period time.Duration) string {
	for word := range strings.SplitSeq(periodWords, "|") {
		if wordPeriod(word) == period {
			return word
		}
	}
	for _, unit := range []string{"d", "h", "m", "s", "ms"} {
		if length := unitPeriod(unit); period%length == 0 {
			return strconv.FormatInt(int64(period/length), 10) + unit
		}
	}
	return period.String()
}

// periodHint is a guess at what was meant.
func periodHint(text string) string {
	word := strings.ToLower(strings.TrimSpace(text))
	switch word {
	case "sec", "secs":
		word = "second"
	case "min", "mins":
		word = "minute"
	case "hr", "hrs", "h":
		word = "hour"
	case "d":
		word = "day"
	}
	return didYouMean(word, strings.Split(periodWords, "|"))
}
