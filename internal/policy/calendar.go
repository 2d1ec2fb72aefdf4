package policy

import (
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// The kinds of window, as policies write them.
const (
	slidingWindow  = "sliding"
	calendarWindow = "calendar"
)

// calendarUnit returns the unit of a calendar by its word; false for a word that is none.
func calendarUnit(word string) (store.CalendarUnit, bool) {
	for _, unit := range []store.CalendarUnit{store.CalendarDay, store.CalendarWeek, store.CalendarMonth, store.CalendarYear} {
		if word == unit.String() {
			return unit, true
		}
	}
	return 0, false
}

// readWindow reads what stands beside the text of a limit: its name, its shadow, and whether its window is the calendar's. It
// tells whether the limit can be used.
func (r *report) readWindow(item *value, text string, limit *Limit) bool {
	limit.Shadow = item.get("shadow").yes()
	isCalendar := item.get("window").str() == calendarWindow
	if item.has("timezone") && !isCalendar {
		r.wrong(item.at("timezone"), "is for windows of the calendar; write window: calendar beside it, or leave it out")
		return false
	}
	if isCalendar && !r.readCalendar(item, text, limit) {
		return false
	}
	if name := item.get("name").str(); name != "" {
		limit.Name = name
	}
	return true
}

// readCalendar makes a limit's window one of the calendar.
func (r *report) readCalendar(item *value, text string, limit *Limit) bool {
	at := item.at("window")
	if limit.Unit != store.USD && limit.Unit != store.Tokens {
		r.wrong(at, "is for limits of USD and tokens, not for %s; leave window out: the window slides", quoted(text))
		return false
	}
	unit, ok := calendarUnit(limit.Name) // the period as it is written
	if !ok {
		r.wrong(at, "is for a day, week, month or year, not for %s; write one of these, as 100 USD/month, or leave window out",
			quoted(text))
		return false
	}
	zone := time.UTC
	if item.has("timezone") {
		found, err := parseZone(item.get("timezone").str())
		if err != nil {
			return false // the shape has reported it
		}
		zone = found
	}
	limit.Calendar = store.NewCalendar(unit, zone)
	limit.Period, limit.Name = limit.Calendar.Longest(), calendarWindow+"_"+unit.String()
	return true
}

// sameZone tells whether the windows of two limits are cut at the same moments, or both slide.
func (l Limit) sameZone(other Limit) bool {
	if l.Calendar == nil || other.Calendar == nil {
		return l.Calendar == other.Calendar
	}
	return l.Calendar.ID() == other.Calendar.ID()
}
