package memory

import (
	"slices"
	"strings"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/window"
)

// waiterBytes is the size of a place in a line, estimated, its names aside.
const waiterBytes = 64

// waiter is a place in a subject's line for a slot.
type waiter struct {
	first key // the first subject of its request
	id    string
	dies  int64 // when the place is lost unless it is asked for again
}

// size is what a waiter's names take, bytes.
func (w *waiter) size() int64 { return int64(len(w.first.kind) + len(w.first.id) + len(w.id)) }

// keptSize estimates what a waiter takes in a line that doubles when it grows.
func (w *waiter) keptSize() int64 { return 2*waiterBytes + w.size() }

// placeInLine finds a waiter's place: how many live ones stand before it. One that has none stands behind all.
func (s *Store) placeInLine(sub *subject, first key, id string, now int64) (before int, has bool) {
	if sub == nil || sub.holding == nil || len(sub.holding.line) == 0 {
		return 0, false
	}
	s.dropDead(sub, now)
	line := sub.holding.line
	for i := range line {
		if line[i].id == id && line[i].first == first {
			return i, true
		}
	}
	return len(line), false
}

// join gives a waiter a place at the end of a subject's line, if there is room for it.
func (s *Store) join(sub *subject, first key, id string, now int64) bool {
	w := waiter{first: first, id: id, dies: now + us(store.WaiterLife)}
	if s.room(w.keptSize()) != nil {
		return false
	}
	w.first, w.id = first.clone(), strings.Clone(id)
	sub.holding.line = append(sub.holding.line, w)
	s.kept.Add(w.keptSize())
	s.account(sub)
	return true
}

// leave gives a waiter's place in a subject's line up.
func (s *Store) leave(sub *subject, first key, id string) {
	if sub != nil && sub.holding != nil && len(sub.holding.line) > 0 {
		s.deleteWaiters(sub, func(w *waiter) bool { return w.id == id && w.first == first })
	}
}

// dropDead drops the waiters of a subject that have not asked again in time.
func (s *Store) dropDead(sub *subject, now int64) {
	s.deleteWaiters(sub, func(w *waiter) bool { return now >= w.dies })
}

// deleteWaiters drops the waiters that are to go.
func (s *Store) deleteWaiters(sub *subject, goes func(*waiter) bool) {
	hg := sub.holding
	freed := int64(0)
	hg.line = slices.DeleteFunc(hg.line, func(w waiter) bool {
		gone := goes(&w)
		if gone {
			freed += w.keptSize()
		}
		return gone
	})
	if freed == 0 {
		return
	}
	s.kept.Add(-freed)
	if len(hg.line) == 0 {
		hg.line = nil
	}
	s.account(sub)
}

// askSlots tells how a limit of slots stands for a request, and how many waiters are before it. Those are taken to get
// the next slots that come free.
func (s *Store) askSlots(req *store.Request, slots []slot, sl *slot, lim *store.Limit, now int64) store.State {
	if sl.sub == nil || sl.sub.holding == nil {
		return state(window.Empty(window.Limit{Max: lim.Max}, 1))
	}
	hg, id := sl.sub.holding, "" // which no waiter has
	if req.Hold != nil && !req.Look {
		id = req.Hold.ID
	}
	before, _ := s.placeInLine(sl.sub, slots[0].key, id, now)
	used := len(hg.slots)
	st := store.State{Used: int64(used)}
	if used > 0 {
		st.Reset = wait(hg.slots[0].hold.expires, now)
	}
	switch missing := int64(used+before) + 1 - lim.Max; {
	case lim.Max < 1:
		st.Wait = store.Never
	case missing <= 0:
	case missing <= int64(used):
		st.Wait = wait(hg.slots[missing-1].hold.expires, now)
	default: // all leases must end, and some who wait must go
		last := int64(0)
		for i := range hg.line[:before] {
			last = max(last, hg.line[i].dies)
		}
		if used > 0 {
			last = max(last, hg.slots[used-1].hold.expires)
		}
		st.Wait = wait(last, now)
	}
	return st
}

// wait is how long it is until a moment.
func wait(until, now int64) time.Duration { return time.Duration(until-now) * time.Microsecond }

// queue keeps the places of a denied request in the lines of its subjects, and tells whether it waits for slots alone.
func (s *Store) queue(req *store.Request, slots []slot, now int64, ans *store.Answer) {
	if !req.Hold.InLine {
		return
	}
	alone := lacksSlotsAlone(req, ans)
	first, id := slots[0].key, req.Hold.ID
	for i := range slots {
		sl, c := &slots[i], &req.Checks[i]
		if c.Unit != store.Concurrent || sl.sub == nil || sl.sub.holding == nil {
			continue
		}
		before, has := s.placeInLine(sl.sub, first, id, now)
		lacks := alone && len(c.Limits) > 0 && !c.Limits[0].Shadow && ans.States[sl.state].Wait != 0
		switch {
		case has:
			sl.sub.holding.line[before].dies = now + us(store.WaiterLife)
		case lacks:
			has = s.join(sl.sub, first, id, now)
		}
		if has && lacks {
			ans.Hold.Queued, ans.Hold.Ahead = true, max(ans.Hold.Ahead, before)
		}
	}
}

// lacksSlotsAlone tells whether slots, which will be free some day, are all that a denied request lacks.
func lacksSlotsAlone(req *store.Request, ans *store.Answer) bool {
	next := 0
	for i := range req.Checks {
		c := &req.Checks[i]
		for j := range c.Limits {
			st := &ans.States[next]
			if st.Wait != 0 && !c.Limits[j].Shadow && (c.Unit != store.Concurrent || st.Wait == store.Never) {
				return false
			}
			next++
		}
	}
	return true
}
