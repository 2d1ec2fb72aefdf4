package window

import "sort"

// Calendar is one window of a calendar as a caller asks for it. All entries from Start on are live until End.
type Calendar struct {
	Max        int64 // 0 and up
	Start, End int64 // of the window that the log's time is in: Start <= time < End
	Longest    int64 // how long a window of the calendar may be, above 0: so long the log keeps its entries
}

// calendar is a window of a calendar that was asked for.
type calendar struct {
	start, end int64
	asked      int64 // when it was last asked for
}

// calendarBytes is its size in memory.
const calendarBytes = 24

// AskCalendar is Ask for a window of a calendar, of a log made by NewSums. A caller passes i as it does to Ask.
func (l *Log) AskCalendar(i int, c Calendar, need int64) State {
	l.follow(i, Limit{Period: c.Longest, Grain: Loose})
	l.sums.ask(c, l.now)
	first := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].at >= c.Start })
	st := State{Used: l.total() - l.before(first)}
	if st.Used > 0 {
		st.Reset = c.End - l.now + l.ahead
	}
	switch room := c.Max - need; {
	case room < 0:
		st.Wait = Never
	case st.Used > room:
		st.Wait = st.Reset
	}
	return st
}

// ask remembers that a window was asked for, so that no entries are merged over its start.
func (s *sums) ask(c Calendar, now int64) {
	place := -1 // of the window that may go: one that is over, else that asked for the longest ago
	for i := range s.calendars {
		known := &s.calendars[i]
		if known.start == c.Start && known.end == c.End {
			known.asked = now
			return
		}
		if known.end <= now {
			known.asked = 0
		}
		if place < 0 || known.asked < s.calendars[place].asked {
			place = i
		}
	}
	fresh := calendar{start: c.Start, end: c.End, asked: now}
	if place < 0 || (s.calendars[place].asked != 0 && len(s.calendars) < maxFollows) {
		s.calendars = append(s.calendars, fresh)
		return
	}
	s.calendars[place] = fresh
}

// cut tells whether a window that is not over begins after one time and not after another.
func (s *sums) cut(after, until, now int64) bool {
	if s == nil {
		return false
	}
	for i := range s.calendars {
		if c := &s.calendars[i]; c.end > now && after < c.start && c.start <= until {
			return true
		}
	}
	return false
}
