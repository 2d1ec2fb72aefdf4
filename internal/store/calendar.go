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
	y, m, d := time.UnixMicro(at).In(c.zone).Date()
	switch c.unit {
	case CalendarWeek:
		d -= (int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Weekday()) + 6) % 7
	case CalendarMonth:
		d = 1
	case CalendarYear:
		m, d = time.January, 1
	case CalendarDay:
	default: // as days
	}
	w := &calendarWindow{start: c.midnight(y, m, d)}
	for {
		y, m, d = c.next(y, m, d)
		w.end = c.midnight(y, m, d)
		if at < w.end {
			break
		}
		w.start = w.end // the clocks were put back over the midnight: its day has begun all the same
	}
	c.last.Store(w)
	return w.start, w.end
}

// next is the first day of the window after that of a first day.
func (c *Calendar) next(y int, m time.Month, d int) (int, time.Month, int) {
	switch c.unit {
	case CalendarWeek:
		return y, m, d + 7
	case CalendarMonth:
		return y, m + 1, d
	case CalendarYear:
		return y + 1, m, d
	case CalendarDay:
		return y, m, d + 1
	default:
		return y, m, d + 1
	}
}

// midnight is the first moment that has a date or a later one. Where the clocks are put forward over midnight, the day
// begins when they have been; where they are put back over it, at the first of the two midnights.
func (c *Calendar) midnight(y int, m time.Month, d int) int64 {
	const widest = 26 * time.Hour // no zone is so far ahead of UTC
	written := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	for from := written.Add(-widest).In(c.zone); ; {
		_, offset := from.Zone()
		_, change := from.ZoneBounds()
		first := written.Add(-time.Duration(offset) * time.Second)
		if first.Before(from) {
			first = from // the change of the zone has skipped the midnight
		}
		if change.IsZero() || first.Before(change) {
			return first.UnixMicro()
		}
		from = change
	}
}
