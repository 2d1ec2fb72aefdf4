package store

import (
	"hash/fnv"
	"sync/atomic"
	"time"
)

// CalendarUnit is the length of a calendar's windows.
type CalendarUnit uint8

// The units of a calendar.
const (
	CalendarDay  CalendarUnit = iota + 1
	CalendarWeek              // from Monday, as ISO 8601 has it
	CalendarMonth
	CalendarYear
)

// String returns the unit as policies write it.
func (u CalendarUnit) String() string {
	switch u {
	case CalendarDay:
		return "day"
	case CalendarWeek:
		return "week"
	case CalendarMonth:
		return "month"
	case CalendarYear:
		return "year"
	default:
		return "unknown"
	}
}

// Calendar cuts time into windows at the midnights of a time zone. A day there may have 23 or 25 hours. It is safe for
// concurrent use.
type Calendar struct {
	unit CalendarUnit
	zone *time.Location
	id   int64
	last atomic.Pointer[calendarWindow]
}

type calendarWindow struct{ start, end int64 }

// NewCalendar returns a calendar of a unit in a time zone.
func NewCalendar(unit CalendarUnit, zone *time.Location) *Calendar {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(unit.String() + " " + zone.String())) // never fails
	return &Calendar{unit: unit, zone: zone, id: int64(hash.Sum64() & MaxAmount)}
}

// Unit is the length of the windows.
func (c *Calendar) Unit() CalendarUnit { return c.unit }

// Zone is where the midnights are.
func (c *Calendar) Zone() *time.Location { return c.zone }

// ID tells one calendar from another, over processes: 0 to MaxAmount.
func (c *Calendar) ID() int64 { return c.id }

// Longest is how long a window of this calendar may be.
func (c *Calendar) Longest() time.Duration {
	const day, shift = 24 * time.Hour, 3 * time.Hour // zones have moved by more than an hour
	switch c.unit {
	case CalendarDay:
		return day + shift
	case CalendarWeek:
		return 7*day + shift
	case CalendarMonth:
		return 31*day + shift
	case CalendarYear:
		return MaxPeriod
	default:
		return MaxPeriod
	}
}

// Window returns the window that a moment is in: start <= at < end, microseconds since the Unix epoch.
func (c *Calendar) Window(at int64) (start, end int64) {
	if w := c.last.Load(); w != nil && w.start <= at && at < w.end {
		return w.start, w.end
	}
	t := time.UnixMicro(at).In(c.zone)
	y, m, d := t.Date()
	var next time.Time
	switch c.unit {
	case CalendarWeek:
		d -= (int(t.Weekday()) + 6) % 7
		next = c.midnight(y, m, d+7)
	case CalendarMonth:
		d = 1
		next = c.midnight(y, m+1, 1)
	case CalendarYear:
		m, d = time.January, 1
		next = c.midnight(y+1, time.January, 1)
	case CalendarDay:
		next = c.midnight(y, m, d+1)
	default:
		next = c.midnight(y, m, d+1)
	}
	w := &calendarWindow{start: c.midnight(y, m, d).UnixMicro(), end: next.UnixMicro()}
	c.last.Store(w)
	return w.start, w.end
}

// midnight is the first moment of a day. Where the clocks are put forward at midnight, the day begins when they have been;
// where they are put back, at the first of the two midnights.
func (c *Calendar) midnight(y int, m time.Month, d int) time.Time {
	t := time.Date(y, m, d, 0, 0, 0, 0, c.zone)
	if t.Hour() >= 12 { // time.Date has given the moment by the clock before the change: the evening before
		t = t.Add(time.Hour)
	}
	if first := t.Add(-time.Hour); first.Day() == t.Day() {
		t = first
	}
	return t
}
