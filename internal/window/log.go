// Package window is the arithmetic of sliding windows, pure: no clock, no lock, no I/O.
//
// A Log keeps what was admitted for one subject and one unit, and answers any number of windows over it. All times are
// microseconds since one epoch. A hit taken at t is live in a window of period T at every moment now with
// t <= now < t+T; in a window of the calendar, from start to end, if start <= t. One decision over a log is: Begin with
// the clock's time, Ask for each window, and Add if all fit.
package window

import "math"

// Bounds of a log.
const (
	// ExactHits is how many hits of one window are kept hit by hit.
	ExactHits = 4096
	// SubWindows is how many sub-windows a window is cut into when it holds more.
	SubWindows = 512
	// maxFollows is how many periods a log follows at once. It is more than one caller names, so that two callers with
	// different policies do not drive out each other's.
	maxFollows = 32
	// slack is how many more hits a full log takes before the next merge, so that a merge pays for itself.
	slack = 512
	// hardLen is where the windows of other callers no longer keep a full log from being merged.
	hardLen = ExactHits + 16*SubWindows + slack
	// maxSum bounds the sum of a log, so that its cumulative amounts never overflow.
	maxSum = math.MaxInt64 / 2
)

// Sizes in memory, bytes.
const (
	entryBytes  = 16
	followBytes = 24
)

// entry is one hit, or all hits of one moment or sub-window.
type entry struct {
	at  int64 // when; of several hits, the latest
	sum int64 // the amount of this entry and of all before it that are kept
}

// follow is one period that the log follows.
type follow struct {
	period int64
	asked  int64 // when it was last asked for
	first  int32 // all entries before this one are dead in the window, or zero
	grain  Grain
}

// Log is the hits of one subject and unit. The zero value is an empty log. It is not safe for concurrent use.
type Log struct {
	entries []entry
	follows []follow
	running int64 // amount added and not taken back, the dead included
	newest  int64 // time of the newest hit, which may have been taken back since
	now     int64 // the moment of the decision that Begin began
	ahead   int64 // how far now is ahead of the clock
	full    int   // the length at which the next merge is due; 0 stands for ExactHits+slack
	sums    *sums // what a log needs whose amounts change later; nil if they do not
}

// Begin begins a decision when the clock says clock and returns the log's time for it, which never runs back behind the
// newest hit.
func (l *Log) Begin(clock int64) int64 {
	now := max(clock, l.newest)
	ranBack := now < l.now
	l.now, l.ahead = now, now-clock
	if ranBack {
		l.seek() // what had died since the log was last looked at may be live again
	}
	return now
}

// Ahead is how far the log's time is ahead of the clock, microseconds: above 0 when the clock ran back behind the newest
// hit. Reset and Wait of a State count from the clock, so they may be longer than the period by as much.
func (l *Log) Ahead() int64 { return l.ahead }

// Running is the running total: all that was added to the log, less what was taken back.
func (l *Log) Running() int64 { return l.running }

// Len is how many entries the log keeps.
func (l *Log) Len() int { return len(l.entries) }

// Bytes is the memory that the log holds beside its own struct.
func (l *Log) Bytes() int {
	all := cap(l.entries)*entryBytes + cap(l.follows)*followBytes
	if l.sums != nil {
		all += l.sums.bytes()
	}
	return all
}

// Idle tells whether nothing can be live in any period that is followed when the clock says clock.
func (l *Log) Idle(clock int64) bool {
	now := max(clock, l.newest)
	return now-l.newest >= l.retention(now)
}

// retention is the longest period that is still followed at now. One that was last asked for longer ago than it lasts is
// not: a hit that only it could see has left it.
func (l *Log) retention(now int64) int64 {
	longest := int64(0)
	for i := range l.follows {
		w := &l.follows[i]
		if w.period > longest && now-w.asked < w.period {
			longest = w.period
		}
	}
	return longest
}

// before is the sum of all entries before entry i.
func (l *Log) before(i int) int64 {
	if i == 0 {
		return 0
	}
	return l.entries[i-1].sum
}

// total is the sum of all entries.
func (l *Log) total() int64 { return l.before(len(l.entries)) }

// settle moves a window's start from first to its oldest live entry that is not zero.
func (l *Log) settle(first int, period, now int64) int {
	for first < len(l.entries) {
		e := &l.entries[first]
		if now-e.at < period && e.sum != l.before(first) {
			break
		}
		first++
	}
	return first
}

// search finds the oldest entry that is live in a window, from nothing.
func (l *Log) search(period, now int64) int {
	lo, hi := 0, len(l.entries)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if now-l.entries[mid].at < period {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
