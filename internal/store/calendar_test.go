package store_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // the tests name zones, and machines may have none

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// zone loads a time zone.
func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// moment reads a moment as RFC 3339 writes it.
func moment(t *testing.T, s string) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMicro()
}

func TestCalendarWindow(t *testing.T) {
	for _, tt := range []struct {
		name           string
		unit           store.CalendarUnit
		zone           string
		at, start, end string
	}{
		{"a day", store.CalendarDay, "UTC", "2024-05-06T07:08:09.123456Z", "2024-05-06T00:00:00Z", "2024-05-07T00:00:00Z"},
		{"its first moment", store.CalendarDay, "UTC", "2024-05-06T00:00:00Z", "2024-05-06T00:00:00Z", "2024-05-07T00:00:00Z"},
		{"its last moment", store.CalendarDay, "UTC", "2024-05-06T23:59:59.999999Z", "2024-05-06T00:00:00Z", "2024-05-07T00:00:00Z"},
		{
			"a day far ahead of UTC", store.CalendarDay, "Pacific/Kiritimati",
			"2024-05-06T11:00:00Z", "2024-05-07T00:00:00+14:00", "2024-05-08T00:00:00+14:00",
		},
		{
			"a day far behind UTC", store.CalendarDay, "Pacific/Pago_Pago",
			"2024-05-06T10:59:59Z", "2024-05-05T00:00:00-11:00", "2024-05-06T00:00:00-11:00",
		},
		{
			"a day of 23 hours", store.CalendarDay, "Europe/Berlin",
			"2024-03-31T12:00:00+02:00", "2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00",
		},
		{
			"a day of 25 hours", store.CalendarDay, "Europe/Berlin",
			"2024-10-27T02:30:00+01:00", "2024-10-27T00:00:00+02:00", "2024-10-28T00:00:00+01:00",
		},
		{
			"a day of 23 and a half hours", store.CalendarDay, "Australia/Lord_Howe",
			"2024-10-06T12:00:00+11:00", "2024-10-06T00:00:00+10:30", "2024-10-07T00:00:00+11:00",
		},
		{
			"a day whose midnight is skipped", store.CalendarDay, "America/Sao_Paulo",
			"2018-11-04T12:00:00-02:00", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00",
		},
		{
			"the day before it", store.CalendarDay, "America/Sao_Paulo",
			"2018-11-03T23:59:59-03:00", "2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00",
		},
		{
			"a day whose last hour comes twice", store.CalendarDay, "America/Sao_Paulo",
			"2018-02-17T23:30:00-03:00", "2018-02-17T00:00:00-02:00", "2018-02-18T00:00:00-03:00",
		},
		{
			"a day whose first hour comes twice", store.CalendarDay, "America/Havana",
			"2024-11-03T00:30:00-05:00", "2024-11-03T00:00:00-04:00", "2024-11-04T00:00:00-05:00",
		},
		{
			"a minute after midnight that is put back before it, is over", store.CalendarDay, "America/St_Johns",
			"2010-11-06T23:30:00-03:30", "2010-11-07T00:00:00-02:30", "2010-11-08T00:00:00-03:30",
		},
		{
			"the day before a day that was left out", store.CalendarDay, "Pacific/Apia",
			"2011-12-29T12:00:00-10:00", "2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00",
		},
		{
			"the day after it", store.CalendarDay, "Pacific/Apia",
			"2011-12-31T00:00:00+14:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00",
		},
		{"a week begins on Monday", store.CalendarWeek, "UTC", "2024-05-06T00:00:00Z", "2024-05-06T00:00:00Z", "2024-05-13T00:00:00Z"},
		{"and ends with Sunday", store.CalendarWeek, "UTC", "2024-05-05T23:59:59Z", "2024-04-29T00:00:00Z", "2024-05-06T00:00:00Z"},
		{"a week over a year's end", store.CalendarWeek, "UTC", "2026-01-01T00:00:00Z", "2025-12-29T00:00:00Z", "2026-01-05T00:00:00Z"},
		{
			"a week with a short day", store.CalendarWeek, "America/New_York",
			"2024-03-10T12:00:00-04:00", "2024-03-04T00:00:00-05:00", "2024-03-11T00:00:00-04:00",
		},
		{"February", store.CalendarMonth, "UTC", "2023-02-28T12:00:00Z", "2023-02-01T00:00:00Z", "2023-03-01T00:00:00Z"},
		{"February of a leap year", store.CalendarMonth, "UTC", "2024-02-29T23:59:59Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"},
		{"December", store.CalendarMonth, "UTC", "2024-12-31T23:59:59Z", "2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z"},
		{
			"a month with a change of the clocks", store.CalendarMonth, "Europe/Berlin",
			"2024-03-01T00:00:00+01:00", "2024-03-01T00:00:00+01:00", "2024-04-01T00:00:00+02:00",
		},
		{
			"the month of the place, not of UTC", store.CalendarMonth, "Asia/Tokyo",
			"2024-01-31T15:00:00Z", "2024-02-01T00:00:00+09:00", "2024-03-01T00:00:00+09:00",
		},
		{"a year", store.CalendarYear, "UTC", "2023-12-31T23:59:59Z", "2023-01-01T00:00:00Z", "2024-01-01T00:00:00Z"},
		{
			"a leap year", store.CalendarYear, "Australia/Sydney",
			"2024-02-29T00:00:00+11:00", "2024-01-01T00:00:00+11:00", "2025-01-01T00:00:00+11:00",
		},
		{"before the epoch", store.CalendarDay, "UTC", "1969-12-31T23:59:59.999999Z", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start, end := store.NewCalendar(tt.unit, zone(t, tt.zone)).Window(moment(t, tt.at))
			if start != moment(t, tt.start) || end != moment(t, tt.end) {
				t.Errorf("the %s of %s in %s is\n     %s to %s,\nwant %s to %s", tt.unit, tt.at, tt.zone,
					time.UnixMicro(start).In(zone(t, tt.zone)).Format(time.RFC3339),
					time.UnixMicro(end).In(zone(t, tt.zone)).Format(time.RFC3339), tt.start, tt.end)
			}
		})
	}
}

// units are all units of calendars.
func units() []store.CalendarUnit {
	return []store.CalendarUnit{store.CalendarDay, store.CalendarWeek, store.CalendarMonth, store.CalendarYear}
}

// TestCalendarWindowsCutTime shows that windows leave no moment out and share none, over years of changing clocks, that
// each is within Longest, and that what was asked before changes no answer.
func TestCalendarWindowsCutTime(t *testing.T) {
	for _, name := range []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "America/St_Johns", "Asia/Kathmandu",
		"Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham", "Africa/Cairo", "Africa/Casablanca", "Asia/Beirut", "Antarctica/Troll",
	} {
		for _, unit := range units() {
			calendar, fresh := store.NewCalendar(unit, zone(t, name)), store.NewCalendar(unit, zone(t, name))
			last := moment(t, "2031-01-01T00:00:00Z")
			for at := moment(t, "2005-01-01T00:00:00Z"); at < last; {
				start, end := calendar.Window(at)
				if start > at || end <= at || end-start > calendar.Longest().Microseconds() {
					t.Fatalf("%s of %s at %d is %d to %d, want one around it of at most %s", unit, name, at, start, end, calendar.Longest())
				}
				if s, e := fresh.Window(end - 1); s != start || e != end {
					t.Fatalf("%s of %s at its first moment %d is %d to %d, at its last %d to %d", unit, name, at, start, end, s, e)
				}
				if s, _ := fresh.Window(end); s != end {
					t.Fatalf("%s of %s after that of %d to %d begins at %d", unit, name, start, end, s)
				}
				at = end
			}
		}
	}
}

// TestCalendarAtOnce asks one calendar from many goroutines. Run it with -race.
func TestCalendarAtOnce(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	shared := store.NewCalendar(store.CalendarDay, zone(t, "Europe/Berlin"))
	base := moment(t, "2024-03-29T00:00:00Z")
	var group sync.WaitGroup
	for w := range uint64(4) {
		group.Go(func() {
			random, own := rand.New(rand.NewPCG(seed, w)), store.NewCalendar(store.CalendarDay, shared.Zone())
			for range 2000 {
				at := base + random.Int64N((96 * time.Hour).Microseconds())
				start, end := shared.Window(at)
				if s, e := own.Window(at); s != start || e != end {
					t.Errorf("seed %d: the window of %d is %d to %d, want %d to %d", seed, at, start, end, s, e)
					return
				}
			}
		})
	}
	group.Wait()
}

func TestCalendarID(t *testing.T) {
	seen := make(map[int64]string)
	for _, name := range []string{"UTC", "Europe/Berlin", "Europe/Paris", "Asia/Tokyo"} {
		for _, unit := range units() {
			c := store.NewCalendar(unit, zone(t, name))
			what := unit.String() + " of " + name
			if other := seen[c.ID()]; other != "" {
				t.Errorf("the ids of %s and %s are both %d", what, other, c.ID())
			}
			if c.ID() < 0 || c.ID() > store.MaxAmount {
				t.Errorf("the id of %s is %d, want 0 to %d", what, c.ID(), int64(store.MaxAmount))
			}
			if again := store.NewCalendar(unit, zone(t, name)); again.ID() != c.ID() || c.Unit() != unit || c.Zone().String() != name {
				t.Errorf("%s made twice is %d %s %s and %d", what, c.ID(), c.Unit(), c.Zone(), again.ID())
			}
			seen[c.ID()] = what
		}
	}
}
