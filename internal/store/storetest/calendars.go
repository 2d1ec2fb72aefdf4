package storetest

import (
	"time"
	_ "time/tzdata" // the tales name zones, and machines may have none

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// inZone is a calendar of a zone.
func (s *story) inZone(unit store.CalendarUnit, name string) *store.Calendar {
	zone, err := time.LoadLocation(name)
	if err != nil {
		s.t.Fatalf("time zone: %v", err)
	}
	return store.NewCalendar(unit, zone)
}

// beginAt begins the story at a moment in RFC 3339. No moment of a tale may be one of another tale of its store.
func (s *story) beginAt(moment string) {
	at, err := time.Parse(time.RFC3339, moment)
	if err != nil {
		s.t.Fatalf("moment: %v", err)
	}
	s.begin(at.UnixMicro())
}

// calendarTales are the promises of windows of the calendar, and of settlements that come when these have ended.
func calendarTales() []tale {
	return []tale{
		{"a calendar day begins anew at midnight", func(s *story) {
			s.beginAt("2040-05-06T22:00:00Z")
			daily := calendar(10, s.inZone(store.CalendarDay, "UTC"))
			s.ask("", money(s.user, 4, daily)).admitted(st(4, 2*hour, 0))
			s.at(hour)
			s.ask("", money(s.user, 4, daily)).admitted(st(8, hour, 0))
			s.ask("", money(s.user, 3, daily)).denied(st(8, hour, hour))
			s.ask("", money(s.user, 11, daily)).denied(st(8, hour, store.Never))
			s.at(2*hour - micro)
			s.ask("", money(s.user, 3, daily)).denied(st(8, micro, micro))
			s.at(2 * hour)
			s.ask("", money(s.user, 10, daily)).admitted(st(10, 24*hour, 0))
		}},
		{"a hold over midnight belongs to the day of its admission", func(s *story) {
			s.beginAt("2041-05-06T23:59:50Z")
			daily := calendar(100, s.inZone(store.CalendarDay, "UTC"))
			s.ask("a", money(s.user, 60, daily), slot(s.user, 2)).admitted(st(60, 10*sec, 0), st(1, 30*sec, 0)).held(60, 0)
			s.at(10 * sec)
			s.look(money(s.user, 100, daily), slot(s.user, 1)).denied(st(0, 0, 0), st(1, 20*sec, 20*sec)).held(60, 0)
			s.at(15 * sec)
			s.ask("b", money(s.user, 100, daily)).admitted(st(100, 24*hour-5*sec, 0)).held(160)
			s.settle("a", 90, 0).gives(ended{was: store.Active, heldUSD: 60, usd: 90})
			s.look(money(s.user, 0, daily), slot(s.user, 1)).denied(st(100, 24*hour-5*sec, 24*hour-5*sec), st(0, 0, 0)).held(100, 0)
			s.settle("b", 1, 0).gives(ended{was: store.Active, at: 15 * sec, heldUSD: 100, usd: 1})
			s.look(money(s.user, 99, daily)).admitted(st(1, 24*hour-5*sec, 0)).held(0)
		}},
		{"a settlement hours late stays in the windows of the admission, sliding and of the calendar", func(s *story) {
			s.beginAt("2042-05-06T23:00:00Z")
			daily, sliding := calendar(100, s.inZone(store.CalendarDay, "UTC")), lim(100, 8*hour)
			checks := call(money(s.user, 10, sliding, daily), tokens(s.user, 10, daily, sliding))
			s.ask("a", checks...).admitted(st(10, 8*hour, 0), st(10, hour, 0), st(10, hour, 0), st(10, 8*hour, 0))
			s.at(5 * hour)
			s.look(checks...).admitted(st(10, 3*hour, 0), st(0, 0, 0), st(0, 0, 0), st(10, 3*hour, 0))
			s.settle("a", 30, 40).gives(ended{was: store.Expired, heldUSD: 10, heldTokens: 10, usd: 30, tokens: 40})
			s.look(checks...).admitted(st(30, 3*hour, 0), st(0, 0, 0), st(0, 0, 0), st(40, 3*hour, 0))
			s.at(8 * hour)
			s.look(checks...).admitted(st(0, 0, 0), st(0, 0, 0), st(0, 0, 0), st(0, 0, 0))
		}},
		{"a settlement in the next month is of the month before", func(s *story) {
			s.beginAt("2043-01-31T23:30:00Z")
			monthly := calendar(100, s.inZone(store.CalendarMonth, "UTC"))
			s.ask("a", money(s.user, 70, monthly)).lease(hour).admitted(st(70, 30*mins, 0))
			s.at(40 * mins)
			s.ask("b", money(s.user, 40, monthly)).admitted(st(40, 28*day-10*mins, 0)).held(110)
			s.settle("a", 99, 0).gives(ended{was: store.Active, heldUSD: 70, usd: 99})
			s.look(money(s.user, 61, monthly)).denied(st(40, 28*day-10*mins, 28*day-10*mins)).held(40)
		}},
		{"a day of 23 hours", func(s *story) {
			s.beginAt("2024-03-30T23:00:00Z") // midnight in Berlin
			daily := calendar(10, s.inZone(store.CalendarDay, "Europe/Berlin"))
			s.ask("a", money(s.user, 10, daily)).admitted(st(10, 23*hour, 0))
			s.at(23*hour - micro)
			s.look(money(s.user, 1, daily)).denied(st(10, micro, micro))
			s.at(23 * hour)
			s.look(money(s.user, 1, daily)).admitted(st(0, 0, 0))
			s.settle("a", 3, 0).gives(ended{was: store.Expired, heldUSD: 10, usd: 3})
			s.look(money(s.user, 1, daily)).admitted(st(0, 0, 0))
		}},
		{"a day of 25 hours", func(s *story) {
			s.beginAt("2025-10-25T22:00:00Z") // midnight in Berlin
			daily := calendar(10, s.inZone(store.CalendarDay, "Europe/Berlin"))
			s.ask("a", money(s.user, 8, daily)).lease(hour).admitted(st(8, 25*hour, 0))
			s.at(24*hour + 30*mins)
			s.look(money(s.user, 3, daily)).denied(st(8, 30*mins, 30*mins))
			s.settle("a", 7, 0).gives(ended{was: store.Expired, heldUSD: 8, usd: 7})
			s.look(money(s.user, 3, daily)).admitted(st(7, 30*mins, 0))
			s.at(25 * hour)
			s.look(money(s.user, 3, daily)).admitted(st(0, 0, 0))
		}},
		{"a week, a month and a year beside a sliding day", func(s *story) {
			s.beginAt("2044-12-30T12:00:00Z") // a Friday
			limits := []store.Limit{
				lim(50, day), calendar(60, s.inZone(store.CalendarWeek, "UTC")),
				calendar(70, s.inZone(store.CalendarMonth, "UTC")), calendar(80, s.inZone(store.CalendarYear, "UTC")),
			}
			s.ask("a", money(s.user, 10, limits...)).
				admitted(st(10, day, 0), st(10, 60*hour, 0), st(10, 36*hour, 0), st(10, 36*hour, 0))
			s.at(36 * hour) // the new year's first moment, a Sunday
			s.ask("b", money(s.user, 20, limits...)).
				admitted(st(20, day, 0), st(30, day, 0), st(20, 31*day, 0), st(20, 365*day, 0))
			s.at(60 * hour)
			s.ask("", money(s.user, 31, limits...)).
				admitted(st(31, day, 0), st(31, 7*day, 0), st(51, 30*day, 0), st(51, 364*day, 0))
			s.ask("", money(s.user, 20, limits...)).
				denied(st(31, day, day), st(31, 7*day, 0), st(51, 30*day, 30*day), st(51, 364*day, 0))
		}},
		{"two zones see two days", func(s *story) {
			s.beginAt("2045-06-01T14:00:00Z")
			tokyo, utc := calendar(10, s.inZone(store.CalendarDay, "Asia/Tokyo")), calendar(10, s.inZone(store.CalendarDay, "UTC"))
			s.ask("", money(s.user, 6, tokyo, lim(100, hour))).admitted(st(6, hour, 0), st(6, hour, 0))
			s.at(hour)
			s.ask("", money(s.user, 3, tokyo)).admitted(st(3, 24*hour, 0))
			s.at(2 * hour)
			s.ask("", money(s.other, 3, utc)).admitted(st(3, 8*hour, 0))
			s.ask("", money(s.other, 3, utc)).admitted(st(6, 8*hour, 0))
		}},
		{"a booking of yesterday is yesterday's", func(s *story) {
			s.beginAt("2046-05-06T10:00:00Z")
			daily, sliding := calendar(10, s.inZone(store.CalendarDay, "UTC")), lim(10, 2*day)
			part := store.Part{Subject: s.user, USD: 2 * day}
			s.book("a", -11*hour, 5, 0, part).gives(ended{at: -11 * hour, usd: 5})
			s.look(money(s.user, 0, daily, sliding)).admitted(st(0, 0, 0), st(5, 37*hour, 0))
			s.book("b", -10*hour, 7, 0, part).gives(ended{at: -10 * hour, usd: 7})
			s.look(money(s.user, 0, daily, sliding)).denied(st(7, 14*hour, 0), st(12, 37*hour, 37*hour))
		}},
	}
}

// sharedTales are the promises of two policies on one log, and of logs of large sums.
func sharedTales() []tale {
	return []tale{
		{"two policies with other windows see one log", func(s *story) {
			short, long := []store.Limit{lim(10, mins)}, []store.Limit{lim(50, hour), lim(20, 10*mins)}
			s.ask("a", money(s.user, 6, short...)).lease(hour).admitted(st(6, mins, 0))
			s.at(10 * sec)
			s.ask("b", money(s.user, 6, long...)).lease(hour).admitted(st(12, hour-10*sec, 0), st(12, 10*mins-10*sec, 0)).held(12)
			s.at(20 * sec)
			s.ask("c", money(s.user, 3, short...)).denied(st(12, 40*sec, 40*sec)) // when a's 6 leave
			s.settle("b", 1, 0).gives(ended{was: store.Active, at: 10 * sec, heldUSD: 6, usd: 1})
			s.ask("c", money(s.user, 3, short...)).lease(hour).admitted(st(10, 40*sec, 0)).held(9)
			s.at(5 * mins)
			s.look(money(s.user, 0, short...)).admitted(st(0, 0, 0)).held(9)
			s.settle("a", 10, 0).gives(ended{was: store.Active, heldUSD: 6, usd: 10})
			s.look(money(s.user, 0, long...)).admitted(st(14, 55*mins, 0), st(14, 5*mins, 0)).held(3)
		}},
		{"the largest amounts are held and settled exactly", func(s *story) {
			most := lim(store.MaxAmount, day)
			s.ask("a", tokens(s.user, store.MaxAmount, most), money(s.user, store.MaxAmount, most)).
				admitted(st(store.MaxAmount, day, 0), st(store.MaxAmount, day, 0)).held(store.MaxAmount, store.MaxAmount)
			s.ask("b", money(s.user, 1, most)).denied(st(store.MaxAmount, day, day))
			s.settle("a", store.MaxAmount-1, 1).gives(ended{
				was: store.Active, heldUSD: store.MaxAmount, heldTokens: store.MaxAmount, usd: store.MaxAmount - 1, tokens: 1,
			})
			s.ask("b", tokens(s.user, 1, most), money(s.user, 1, most)).admitted(st(2, day, 0), st(store.MaxAmount, day, 0)).held(1, 1)
			s.settle("b", store.MaxAmount, 0).gives(ended{was: store.Active, heldUSD: 1, heldTokens: 1, usd: store.MaxAmount})
			s.look(money(s.user, 1, most)).denied(st(2*store.MaxAmount-1, day, day)).held(0)
			s.at(day)
			s.ask("c", money(s.user, 3, most)).admitted(st(3, day, 0))
		}},
		{"sums stay exact after the largest amounts have come and gone, again and again", func(s *story) {
			most := lim(store.MaxAmount, hour)
			for n := range 20 {
				at := time.Duration(n) * 2 * hour
				s.at(at)
				id := string(rune('a' + n))
				s.ask(id, money(s.user, store.MaxAmount, most)).admitted(st(store.MaxAmount, hour, 0)).held(store.MaxAmount)
				s.at(at + sec)
				s.settle(id, store.MaxAmount-int64(n)-1, 0).
					gives(ended{was: store.Active, at: at, heldUSD: store.MaxAmount, usd: store.MaxAmount - int64(n) - 1})
				s.ask("", money(s.user, int64(n)+1, most)).admitted(st(store.MaxAmount, hour-sec, 0)).held(0)
				s.look(money(s.user, 0, most)).denied(st(store.MaxAmount, hour-sec, hour-sec))
			}
		}},
	}
}
