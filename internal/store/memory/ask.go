package memory

import (
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/window"
)

// ask fills in how every limit stands before the decision, and the verdict.
func (s *Store) ask(req *store.Request, slots []slot, now int64, ans *store.Answer) {
	ans.Admitted = true
	for i := range slots {
		sl, c := &slots[i], &req.Checks[i]
		need := max(c.Amount, 1)
		sl.state = len(ans.States)
		at := now
		if sl.log != nil {
			at = sl.log.Begin(now)
		}
		for j := range c.Limits {
			var st store.State
			switch {
			case c.Unit == store.Requests && sl.log != nil: // by far the most common one
				st = state(sl.log.Ask(j, limit(c.Unit, &c.Limits[j]), need))
			case c.Unit == store.Concurrent:
				st = s.askSlots(req, slots, sl, &c.Limits[j], now)
			default:
				st = state(sl.ask(j, c.Unit, &c.Limits[j], need, at))
			}
			if st.Wait != 0 && !c.Limits[j].Shadow {
				ans.Admitted = false
			}
			ans.States = append(ans.States, st)
		}
	}
}

// ask asks the check's log for one limit; now is the log's time.
func (sl *slot) ask(i int, u store.Unit, l *store.Limit, need, now int64) window.State {
	if sl.log == nil {
		return window.Empty(window.Limit{Max: l.Max}, need)
	}
	if l.Calendar == nil {
		return sl.log.Ask(i, limit(u, l), need)
	}
	start, end := l.Calendar.Window(now)
	return sl.log.AskCalendar(i, window.Calendar{Max: l.Max, Start: start, End: end, Longest: us(l.Period)}, need)
}

// limit is a limit as the window package takes it.
func limit(u store.Unit, l *store.Limit) window.Limit {
	grain := window.Loose
	if u == store.Requests {
		if l.Max > store.ExactHits {
			grain = window.Coarse
		} else if !l.Shadow {
			grain = window.Exact
		}
	}
	return window.Limit{Max: l.Max, Period: int64(l.Period / time.Microsecond), Grain: grain}
}

// state is a window's state as the contract gives it.
func state(st window.State) store.State {
	wait := store.Never
	if st.Wait != window.Never {
		wait = time.Duration(st.Wait) * time.Microsecond
	}
	return store.State{Used: st.Used, Reset: time.Duration(st.Reset) * time.Microsecond, Wait: wait}
}

// hasCalendar tells whether a limit has windows of the calendar.
func hasCalendar(limits []store.Limit) bool {
	for i := range limits {
		if limits[i].Calendar != nil {
			return true
		}
	}
	return false
}

// askAgain brings the states of a check up to date, but for their waits, which are those before the decision.
func (sl *slot) askAgain(c *store.Check, now int64, ans *store.Answer) {
	at := sl.log.Begin(now)
	for j := range c.Limits {
		st := &ans.States[sl.state+j]
		wait := st.Wait
		*st = state(sl.ask(j, c.Unit, &c.Limits[j], 1, at))
		st.Wait = wait
	}
}
