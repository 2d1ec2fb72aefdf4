package policy

import (
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

func TestParseLimit(t *testing.T) {
	t.Parallel()
	const billion = 1_000_000_000
	for _, tc := range []struct {
		text   string
		want   Limit
		policy string // what String writes
		person string // what Describe writes
	}{
		{
			"10/minute",
			Limit{Name: "minute", Unit: store.Requests, Max: 10, Period: time.Minute},
			"10/minute", "10 requests per minute",
		},
		{
			"10 requests/minute",
			Limit{Name: "minute", Unit: store.Requests, Max: 10, Period: time.Minute},
			"10/minute", "10 requests per minute",
		},
		{
			"1 request per second",
			Limit{Name: "second", Unit: store.Requests, Max: 1, Period: time.Second},
			"1/second", "1 request per second",
		},
		{
			"10 / hour",
			Limit{Name: "hour", Unit: store.Requests, Max: 10, Period: time.Hour},
			"10/hour", "10 requests per hour",
		},
		{
			"1_000_000/week",
			Limit{Name: "week", Unit: store.Requests, Max: 1e6, Period: 7 * day},
			"1000000/week", "1000000 requests per week",
		},
		{
			"0/month",
			Limit{Name: "month", Unit: store.Requests, Max: 0, Period: 30 * day},
			"0/month", "0 requests per month",
		},
		{
			"4294967295/year",
			Limit{Name: "year", Unit: store.Requests, Max: store.MaxRequests, Period: 365 * day},
			"4294967295/year", "4294967295 requests per year",
		},
		{
			"20/90s",
			Limit{Name: "90s", Unit: store.Requests, Max: 20, Period: 90 * time.Second},
			"20/90s", "20 requests per 90s",
		},
		{
			"100/7d",
			Limit{Name: "7d", Unit: store.Requests, Max: 100, Period: 7 * day},
			"100/7d", "100 requests per 7d",
		},
		{
			"10/1h030m",
			Limit{Name: "1h30m", Unit: store.Requests, Max: 10, Period: 90 * time.Minute},
			"10/1h30m", "10 requests per 1h30m",
		},
		{
			"1/1ms",
			Limit{Name: "1ms", Unit: store.Requests, Max: 1, Period: time.Millisecond},
			"1/1ms", "1 request per 1ms",
		},
		{
			"1/366d",
			Limit{Name: "366d", Unit: store.Requests, Max: 1, Period: store.MaxPeriod},
			"1/366d", "1 request per 366d",
		},
		{
			"1000000 tokens/day",
			Limit{Name: "day", Unit: store.Tokens, Max: 1e6, Period: day},
			"1000000 tokens/day", "1000000 tokens per day",
		},
		{
			"5 USD/day",
			Limit{Name: "day", Unit: store.USD, Max: 5 * billion, Period: day},
			"5 USD/day", "5 USD per day",
		},
		{
			"$5/day",
			Limit{Name: "day", Unit: store.USD, Max: 5 * billion, Period: day},
			"5 USD/day", "5 USD per day",
		},
		{
			"0.50 usd per 12h",
			Limit{Name: "12h", Unit: store.USD, Max: billion / 2, Period: 12 * time.Hour},
			"0.5 USD/12h", "0.5 USD per 12h",
		},
		{
			"4503599.627370495 USD/day",
			Limit{Name: "day", Unit: store.USD, Max: store.MaxAmount, Period: day},
			"4503599.627370495 USD/day", "4503599.627370495 USD per day",
		},
		{
			"100 concurrent",
			Limit{Name: "concurrent", Unit: store.Concurrent, Max: 100},
			"100 concurrent", "100 concurrent requests",
		},
		{
			"1 concurrent requests",
			Limit{Name: "concurrent", Unit: store.Concurrent, Max: 1},
			"1 concurrent", "1 concurrent request",
		},
	} {
		tc.want.Ordinal = -1
		got, err := parseLimit(tc.text)
		if err != nil || got != tc.want {
			t.Errorf("parseLimit(%q) = %+v, %v; want %+v", tc.text, got, err, tc.want)
		}
		if got.String() != tc.policy || got.Describe() != tc.person {
			t.Errorf("%q is written %q and %q; want %q and %q", tc.text, got.String(), got.Describe(), tc.policy, tc.person)
		}
	}
}

func TestParseLimitRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "minute", "/minute", "10/", "10/s", "10/1", "10//minute", "10 /minute/hour", "1,000/hour", "+10/minute", "1e3/minute",
		"0x10/minute", "_1/minute", "10 req/minute", "10permonth", "10/minutes", "10/1h 30m", "10/1.5h", "10/-1s", "$5 USD/day",
		"5.USD/day", "5 EUR/day", "USD 5/day", "1.5 tokens/day", "concurrent", "1.5 concurrent", "10 concurrent/minute", "10concurrent",
		"10/99999999999999999999s", "10/8785h", "10/minute\n", "10/minute\x00",
	} {
		if got, err := parseLimit(text); err == nil {
			t.Errorf("parseLimit(%q) = %+v; want an error", text, got)
		}
	}
}

func TestDescribeKeepsThePeriodOfANamedLimit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		period time.Duration
		want   string
	}{
		{time.Minute, "2 requests per minute"},
		{90 * time.Second, "2 requests per 90s"},
		{90 * time.Minute, "2 requests per 90m"},
		{36 * time.Hour, "2 requests per 36h"},
		{14 * day, "2 requests per 14d"},
		{1500 * time.Millisecond, "2 requests per 1500ms"},
	} {
		// "hour" is a name here, not the period.
		limit := Limit{Name: "hour", Unit: store.Requests, Max: 2, Period: tc.period, Shadow: false, Ordinal: -1}
		if got := limit.Describe(); got != tc.want {
			t.Errorf("%s is described as %q; want %q", tc.period, got, tc.want)
		}
	}
}

func TestParseLimitSaysWhatToWrite(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"60":         `"60" has no period; write "60/minute"`,
		"60 minute":  `"60 minute" has no / before its period; write "60/minute"`,
		"60 minutes": `"60 minutes" has no / before its period; write "60/minute"`,
		"20 90s":     `"20 90s" has no / before its period; write "20/90s"`,
		"$5 day":     `"$5 day" has no / before its period; write "$5/day"`,
		"10 token":   `"10 token" has no period; write "10 token/day"`,
		"5 USD":      `"5 USD" has no period; write "5 USD/day"`,
	} {
		if _, err := parseLimit(text); err == nil || err.Error() != want {
			t.Errorf("parseLimit(%q): got %v; want %s", text, err, want)
		}
	}
}
