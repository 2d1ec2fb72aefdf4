package window

import (
	"math"
	"sort"
)

// Never is the wait of an amount that is larger than the limit.
const Never = math.MaxInt64

// Grain says how finely the hits of a window are kept. The finest of all windows asked for decides.
type Grain uint8

// The grains, finest first. Merged hits are dated at the latest of them, which errs only towards denying.
const (
	// Exact keeps each hit, always. A window of this grain holds at most ExactHits.
	Exact Grain = iota
	// Loose keeps each hit until the log is full.
	Loose
	// Coarse keeps sub-windows from the start.
	Coarse
)

// Limit is one window as a caller asks for it.
type Limit struct {
	Max    int64 // 0 and up
	Period int64 // microseconds, above 0
	Grain  Grain
}

// State is one window as it stands.
type State struct {
	Used  int64 // live amount
	Reset int64 // microseconds by the clock until the oldest live hit leaves; 0 if there is none
	Wait  int64 // microseconds by the clock until the amount asked for fits; 0 if it does, Never if it cannot
}

// Empty is how a window stands that has no log: need is at least 1.
func Empty(lim Limit, need int64) State {
	if need > lim.Max {
		return State{Wait: Never}
	}
	return State{}
}

// Ask tells how a window stands and how long an amount of need, at least 1, has to wait for it. The log follows the
// window from now on. A caller that asks for its i-th window passes i, which only makes finding it fast.
func (l *Log) Ask(i int, lim Limit, need int64) State {
	w := l.follow(i, lim)
	first := l.settle(int(w.first), lim.Period, l.now)
	w.first = int32(first)

	before := l.before(first)
	st := State{Used: l.total() - before}
	if first < len(l.entries) {
		st.Reset = l.until(first, lim.Period)
	}
	switch room := lim.Max - need; {
	case room < 0:
		st.Wait = Never
	case st.Used > room:
		st.Wait = l.wait(first, before+st.Used-room, lim.Period)
	}
	return st
}

// wait is how long it takes until the entries from first on have left the window through the one whose sum reaches
// target.
func (l *Log) wait(first int, target, period int64) int64 {
	live := l.entries[first:]
	i := sort.Search(len(live), func(i int) bool { return live[i].sum >= target })
	return l.until(first+i, period)
}

// until is how long it takes, by the clock, until entry i has left a window.
func (l *Log) until(i int, period int64) int64 { return l.entries[i].at + period - l.now + l.ahead }

// follow finds or begins the following of a window.
func (l *Log) follow(i int, lim Limit) *follow {
	if i >= len(l.follows) || l.follows[i].period != lim.Period {
		i = l.find(lim.Period)
	}
	w := &l.follows[i]
	if w.asked != l.now {
		w.asked, w.grain = l.now, lim.Grain
	}
	w.grain = min(w.grain, lim.Grain)
	return w
}

// find returns the index of the window with this period, which it begins to follow if it does not yet.
func (l *Log) find(period int64) int {
	for i := range l.follows {
		if l.follows[i].period == period {
			return i
		}
	}
	w := follow{period: period, asked: l.now, grain: Coarse, first: int32(l.search(period, l.now))}
	if len(l.follows) < maxFollows {
		if len(l.follows) == cap(l.follows) { // most logs follow few windows: grow tightly
			l.follows = append(make([]follow, 0, len(l.follows)+3), l.follows...)
		}
		l.follows = append(l.follows, w)
		return len(l.follows) - 1
	}
	i := l.dispensable()
	l.follows[i] = w
	return i
}

// dispensable is the window to give up for another one: that asked for the longest ago, but never the longest one, which
// decides how long hits are kept.
func (l *Log) dispensable() int {
	retention := l.retention(l.now)
	found := -1
	for i := range l.follows {
		if l.follows[i].period == retention {
			continue
		}
		if found < 0 || l.follows[i].asked < l.follows[found].asked {
			found = i
		}
	}
	return found
}
