package window

import (
	"math"
	"slices"
	"sort"
)

// sums is what a log keeps beside its entries when their amounts may change later: it tells an entry that was merged into
// another from one that is gone. An entry stands for all moments of its span, and no entry's time is within another's span.
type sums struct {
	calendars []calendar
	spans     []span // of the entries that stand for more than one moment, oldest first
	dropped   int64  // the time of the newest entry that was forgotten as dead
}

// span is what an entry at the time at stands for: all moments from from to at.
type span struct{ from, at int64 }

// Sizes in memory, bytes.
const (
	sumsBytes = 56
	spanBytes = 16
)

// NewSums returns an empty log of amounts that may change later, in which windows of the calendar can be asked for.
func NewSums() *Log { return &Log{sums: &sums{dropped: math.MinInt64}} }

// AddAt changes the amount of the moment at, of a log made by NewSums, by delta, and reports whether it did: not, if the
// moment is gone because no window can see it any more, or if nothing was ever added then. A moment that was merged into a
// later one is changed there. No amount falls below 0, and no sum of all rises above 2^62.
func (l *Log) AddAt(at, delta int64) bool {
	if at <= l.sums.dropped {
		return false
	}
	i, found := l.holding(at)
	if found {
		l.change(i, delta)
	}
	return found
}

// Insert adds an amount, above 0, at a moment of the past, to a log made by NewSums: it counts in the windows in which
// that moment is live. The log follows a window of the period keep from now on. A moment after the log's time counts as
// that. Insert reports whether the amount is kept: not, if no window can see the moment.
func (l *Log) Insert(at, amount, keep int64) bool {
	at = min(at, l.now)
	l.follow(0, Limit{Period: keep, Grain: Loose})
	if l.now-at >= l.retention(l.now) {
		return false
	}
	l.newest = max(l.newest, at)
	if amount > maxSum-l.total() {
		l.compact(l.newest)
		amount = min(amount, maxSum-l.total())
	}
	if i, found := l.holding(at); found {
		l.change(i, amount)
		return true
	}
	if len(l.entries) == cap(l.entries) {
		l.grow()
	}
	i, _ := l.holding(at)
	l.entries = slices.Insert(l.entries, i, entry{at: at, sum: l.before(i)})
	l.change(i, amount)
	if len(l.entries) >= max(l.full, ExactHits+slack) {
		l.merge()
	}
	return true
}

// holding finds the entry that stands for a moment; if there is none, where it would be.
func (l *Log) holding(at int64) (int, bool) {
	i := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].at >= at })
	return i, i < len(l.entries) && l.sums.from(l.entries[i].at) <= at
}

// change changes the amount of entry i and brings the windows up to date.
func (l *Log) change(i int, delta int64) {
	delta = max(delta, l.before(i)-l.entries[i].sum)
	delta = min(delta, maxSum-l.total())
	for j := i; j < len(l.entries); j++ {
		l.entries[j].sum += delta
	}
	l.running += delta
	l.seek()
}

// from is the first moment that the entry at a time stands for.
func (s *sums) from(at int64) int64 {
	i := sort.Search(len(s.spans), func(i int) bool { return s.spans[i].at >= at })
	if i < len(s.spans) && s.spans[i].at == at {
		return s.spans[i].from
	}
	return at
}

// drop notes that all entries until a time are forgotten.
func (s *sums) drop(until int64) {
	s.dropped = max(s.dropped, until)
	gone := sort.Search(len(s.spans), func(i int) bool { return s.spans[i].at > until })
	s.spans = slices.Delete(s.spans, 0, gone)
}

// bytes is the memory that sums takes.
func (s *sums) bytes() int {
	return sumsBytes + cap(s.spans)*spanBytes + cap(s.calendars)*calendarBytes
}

// spanning is the spans of a log in the midst of a merge. Nil is that of a log whose amounts do not change.
type spanning struct {
	old  *sums
	made []span
	last int64 // the first moment of the newest entry kept
}

// respan begins a merge.
func (s *sums) respan() *spanning {
	if s == nil {
		return nil
	}
	return &spanning{old: s}
}

// keep notes that an entry is kept beside the one before it.
func (s *spanning) keep(at int64) {
	if s == nil {
		return
	}
	if s.last = s.old.from(at); s.last < at {
		s.made = append(s.made, span{from: s.last, at: at})
	}
}

// join notes that the newest entry kept, at before, is merged into one at the time at.
func (s *spanning) join(before, at int64) {
	if s == nil {
		return
	}
	if n := len(s.made); n > 0 && s.made[n-1].at == before {
		s.made = s.made[:n-1]
	}
	s.made = append(s.made, span{from: s.last, at: at})
}

// spanned ends a merge.
func (s *sums) spanned(merged *spanning) {
	if s != nil {
		s.spans = slices.Clip(merged.made)
	}
}
