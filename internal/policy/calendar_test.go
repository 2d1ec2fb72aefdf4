package policy

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones of the tests are those of every machine

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// limited is a policy with global limits.
func limited(limits string) string { return head + "global: {limits: [" + limits + "]}\n" }

func TestCalendarLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		limit, text, describes, name string
		unit                         store.CalendarUnit
	}{
		{
			"{limit: 100 USD/month, window: calendar, timezone: Europe/Berlin}", "100 USD/month (calendar, Europe/Berlin)",
			"100 USD per calendar month (Europe/Berlin)", "calendar_month", store.CalendarMonth,
		},
		{
			"{limit: $5/day, window: calendar}", "5 USD/day (calendar, UTC)", "5 USD per calendar day (UTC)", "calendar_day",
			store.CalendarDay,
		},
		{
			"{limit: 1 tokens/week, window: calendar, timezone: America/New_York}", "1 tokens/week (calendar, America/New_York)",
			"1 token per calendar week (America/New_York)", "calendar_week", store.CalendarWeek,
		},
		{
			"{limit: 9 USD/year, window: calendar, timezone: UTC, name: annual, shadow: true}", "9 USD/year (calendar, UTC)",
			"9 USD per calendar year (UTC)", "annual", store.CalendarYear,
		},
	} {
		s := mustParse(t, limited(tc.limit))
		got := s.Limits()[len(s.Limits())-1]
		if got.String() != tc.text || got.Describe() != tc.describes || got.Name != tc.name {
			t.Errorf("%s is %q, %q, called %q; want %q, %q, %q", tc.limit, got, got.Describe(), got.Name, tc.text, tc.describes, tc.name)
		}
		if got.Calendar == nil || got.Calendar.Unit() != tc.unit || got.Period != got.Calendar.Longest() {
			t.Errorf("%s: got %+v", tc.limit, got)
		}
	}
	plain := mustParse(t, limited("{limit: 5 USD/day, window: sliding}")).Limits()
	if got := plain[len(plain)-1]; got.Calendar != nil || got.Period != day || got.Name != "day" {
		t.Errorf("a sliding window is %+v", got)
	}
}

func TestSeveralBudgetsStandSideBySide(t *testing.T) {
	t.Parallel()
	limits := mustParse(t, limited("5 USD/day, {limit: 4 USD/day, window: calendar}, 90 USD/month, "+
		"{limit: 80 USD/month, window: calendar, timezone: Europe/Berlin}, {limit: 70 tokens/month, window: calendar}")).global.fallback
	var texts []string
	for i, limit := range limits.USD {
		texts = append(texts, limit.String())
		if limits.StoreUSD[i].Calendar != limit.Calendar || limits.StoreUSD[i].Period != limit.Period {
			t.Errorf("%s is %+v for the store", limit, limits.StoreUSD[i])
		}
	}
	want := "5 USD/day, 4 USD/day (calendar, UTC), 90 USD/month, 80 USD/month (calendar, Europe/Berlin)"
	if got := strings.Join(texts, ", "); got != want {
		t.Errorf("got %s; want them in the order of their periods: %s", got, want)
	}
}

func TestCalendarRefuses(t *testing.T) {
	t.Parallel()
	const berlin = "{limit: 2 USD/day, window: calendar, timezone: Europe/Berlin}"
	for _, tc := range []struct{ name, limits, want string }{
		{
			"requests", "{limit: 5/day, window: calendar}",
			`limits[0].window: is for limits of USD and tokens, not for "5/day"; leave window out: the window slides`,
		},
		{
			"slots", "{limit: 5 concurrent, window: calendar}",
			`limits[0].window: is for limits of USD and tokens, not for "5 concurrent"; leave window out: the window slides`,
		},
		{"an hour", "{limit: 5 USD/hour, window: calendar}", `limits[0].window: is for a day, week, month or year, not for "5 USD/hour"; ` +
			`write one of these, as 100 USD/month, or leave window out`},
		{"a number of days", "{limit: 5 USD/30d, window: calendar}", `limits[0].window: is for a day, week, month or year, not for ` +
			`"5 USD/30d"; write one of these, as 100 USD/month, or leave window out`},
		{"another window", "{limit: 5 USD/day, window: fixed}", `limits[0].window: "fixed" is not known; write sliding or calendar`},
		{
			"an unknown zone", "{limit: 5 USD/day, window: calendar, timezone: Europe/Bärlin}",
			`limits[0].timezone: "Europe/Bärlin" is not a time zone; write the name of a time zone, as Europe/Berlin or UTC`,
		},
		{
			"a zone that is not there", "{limit: 5 USD/day, window: calendar, timezone: Mars/Olympus}",
			`limits[0].timezone: "Mars/Olympus" is not a time zone; write the name of a time zone, as Europe/Berlin or UTC`,
		},
		{
			"the zone of the host", "{limit: 5 USD/day, window: calendar, timezone: Local}",
			`limits[0].timezone: "Local" is not a time zone; write the name of a time zone, as Europe/Berlin or UTC`,
		},
		{
			"a path", "{limit: 5 USD/day, window: calendar, timezone: ../../etc/passwd}",
			`limits[0].timezone: "../../etc/passwd" is not a time zone; write the name of a time zone, as Europe/Berlin or UTC`,
		},
		{
			"a zone without a calendar", "{limit: 5 USD/day, timezone: Europe/Berlin}",
			`limits[0].timezone: is for windows of the calendar; write window: calendar beside it, or leave it out`,
		},
		{
			"the same calendar twice", berlin + ", {limit: 3 USD/day, window: calendar, timezone: Europe/Berlin, name: x}",
			`limits[1]: 3 USD/day (calendar, Europe/Berlin) limits the same as 2 USD/day (calendar, Europe/Berlin); leave one of them out`,
		},
		{
			"the days of two zones", berlin + ", {limit: 3 USD/day, window: calendar, name: x}",
			`limits[1]: 3 USD/day (calendar, UTC) cannot stand beside 2 USD/day (calendar, Europe/Berlin), since the longest of their ` +
				`windows are equally long; leave one of them out`,
		},
		{
			"a sliding window as long as the longest day", berlin + ", 3 USD/27h",
			`limits[1]: 3 USD/27h cannot stand beside 2 USD/day (calendar, Europe/Berlin), since the longest of their windows are ` +
				`equally long; leave one of them out`,
		},
		{
			"more than a store can hold", "{limit: 5000000 USD/month, window: calendar}",
			`limits[0].limit: "5000000 USD/month" is too large: write at most 4503599.627370495 USD, or leave the limit out`,
		},
	} {
		_, _, err := Parse("p.yaml", []byte(limited(tc.limits)), Adjustments{})
		if want := "p.yaml:4: global." + tc.want; err == nil || err.Error() != want {
			t.Errorf("%s: got\n%v\nwant\n%s", tc.name, err, want)
		}
	}
}

// TestCalendarWindowsFollowTheClocks goes from the policy's text to the windows, over changes of the clocks and ends of months.
func TestCalendarWindowsFollowTheClocks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ limit, at, start, end string }{
		{"1 USD/day, Europe/Berlin", "2026-03-29T12:00:00+02:00", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"}, // 23 h
		{"1 USD/day, Europe/Berlin", "2026-10-25T12:00:00+01:00", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"}, // 25 h
		{"1 USD/day, Europe/Berlin", "2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00+01:00", "2026-01-02T00:00:00+01:00"},
		{"1 USD/week, Europe/Berlin", "2026-03-29T23:59:59+02:00", "2026-03-23T00:00:00+01:00", "2026-03-30T00:00:00+02:00"},
		{"1 USD/month, Europe/Berlin", "2026-03-31T23:59:59+02:00", "2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00"},
		{"1 USD/month, UTC", "2026-02-28T23:59:59Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"},
		{"1 tokens/month, UTC", "2028-02-29T23:59:59Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{"1 USD/month, Pacific/Auckland", "2025-12-31T23:00:00Z", "2025-12-31T11:00:00Z", "2026-01-31T11:00:00Z"},
		{"1 USD/year, America/New_York", "2026-01-01T04:59:59Z", "2025-01-01T05:00:00Z", "2026-01-01T05:00:00Z"},
	} {
		amount, zone, _ := strings.Cut(tc.limit, ", ")
		s := mustParse(t, limited("{limit: "+amount+", window: calendar, timezone: "+zone+"}"))
		calendar := s.Limits()[len(s.Limits())-1].Calendar
		start, end := calendar.Window(moment(t, tc.at))
		if start != moment(t, tc.start) || end != moment(t, tc.end) {
			t.Errorf("%s at %s: the window is %s to %s, want %s to %s", tc.limit, tc.at, time.UnixMicro(start).In(calendar.Zone()),
				time.UnixMicro(end).In(calendar.Zone()), tc.start, tc.end)
		}
		if length := time.Duration(end-start) * time.Microsecond; length > calendar.Longest() {
			t.Errorf("%s at %s: the window is %s long, more than the longest", tc.limit, tc.at, length)
		}
	}
}

// moment reads a moment, microseconds since the Unix epoch.
func moment(t *testing.T, text string) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMicro()
}

func TestTheHashCoversTheCalendar(t *testing.T) {
	t.Parallel()
	const utc = "{limit: 5 USD/day, window: calendar}"
	hash := mustParse(t, limited(utc)).Hash()
	for _, tc := range []struct {
		limit string
		same  bool
	}{
		{"{limit: $5.00/day, timezone: UTC, window: calendar}", true},
		{"{limit: 5 USD/day, window: calendar, timezone: Europe/Berlin}", false},
		{"{limit: 5 USD/27h, name: calendar_day}", false},
		{"5 USD/day", false},
	} {
		if got := mustParse(t, limited(tc.limit)).Hash() == hash; got != tc.same {
			t.Errorf("%s and %s have the same hash: %t; want %t", tc.limit, utc, got, tc.same)
		}
	}
}

func TestCalendarsAndWhatCanNeverBind(t *testing.T) {
	t.Parallel()
	for limits, want := range map[string]int{
		"5 USD/day, {limit: 4 USD/day, window: calendar}":                                0, // twice 4 may be spent around midnight
		"{limit: 4 USD/day, window: calendar}, {limit: 130 USD/month, window: calendar}": 0,
		"{limit: 4 USD/day, window: calendar}, 9 USD/day":                                0,
		"5 USD/day, {limit: 200 USD/month, window: calendar}":                            1, // 32 windows of a day cover a month
		"5 USD/day, {limit: 159 USD/month, window: calendar}":                            0,
	} {
		_, warnings, err := Parse("p.yaml", []byte(limited(limits)), Adjustments{})
		if err != nil || len(warnings) != want {
			t.Errorf("%s: warnings %v, %v; want %d", limits, warnings, err, want)
		}
	}
}

func TestTheEnvironmentAndCalendars(t *testing.T) {
	t.Parallel()
	amount := int64(7e9)
	for limits, want := range map[string]string{
		"{limit: 5 USD/day, window: calendar, timezone: Europe/Berlin}":                   "7 USD/day (calendar, Europe/Berlin)",
		"{limit: 5 USD/day, window: calendar}, 6 USD/day":                                 "7 USD/day, 5 USD/day (calendar, UTC)",
		"{limit: 5 USD/month, window: calendar}, {limit: 6 tokens/day, window: calendar}": "6 tokens/day (calendar, UTC), 7 USD/day, 5 USD/month (calendar, UTC)",
	} {
		s, _, err := Parse("p.yaml", []byte(limited(limits)), Adjustments{GlobalDailyCost: &amount})
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, limit := range s.global.fallback.all() {
			texts = append(texts, limit.String())
		}
		if got := strings.Join(texts, ", "); got != want {
			t.Errorf("GLOBAL_DAILY_COST_LIMIT=7 makes of %s: %s; want %s", limits, got, want)
		}
	}
	var usd []string
	for range store.MaxLimits {
		usd = append(usd, "1 USD/"+strings.Repeat("1", len(usd)/8+1)+[]string{"ms", "s", "m", "h", "d", "w", "h1m", "m1s"}[len(usd)%8])
	}
	_, _, err := Parse("p.yaml", []byte(limited(strings.Replace(strings.Join(usd, ", "), "1 USD/1d", "1 USD/2d", 1))),
		Adjustments{GlobalDailyCost: &amount})
	if err == nil || !strings.Contains(err.Error(), "GLOBAL_DAILY_COST_LIMIT: is one limit of usd too many") {
		t.Errorf("a limit more than a check may have: got %v", err)
	}
}

func TestAnOverrideMayHaveACalendar(t *testing.T) {
	t.Parallel()
	o, err := mustParse(t, head).ParseOverride("user", `{"limits":[{"limit":"3 USD/month","window":"calendar","timezone":"Asia/Tokyo"}]}`)
	if err != nil || len(o.Limits.USD) != 1 || o.Limits.USD[0].String() != "3 USD/month (calendar, Asia/Tokyo)" {
		t.Errorf("got %+v, %v", o, err)
	}
}
