package window

import "math"

// merge shortens a full log of which every hit may be live. Hits are merged as far as no window that can see the later
// one needs them apart. First every window followed has a say; if that does not help, only those of this decision.
func (l *Log) merge() {
	l.compact(l.newest)
	if len(l.entries) >= ExactHits+slack {
		l.mergeFor(func(*follow) bool { return true })
	}
	if len(l.entries) >= hardLen {
		l.mergeFor(func(w *follow) bool { return w.asked == l.now })
	}
	l.full = max(ExactHits, len(l.entries)) + slack
}

// mergeFor merges for the windows that have a say.
func (l *Log) mergeFor(say func(*follow) bool) {
	kept := l.entries[:0]
	sum := int64(0)               // of what is kept
	begun := int64(0)             // the time of the first hit merged into the newest that is kept
	q := int64(0)                 // the sub-window for hits of the age at hand; 0 keeps them apart
	valid := int64(math.MaxInt64) // q is right for ages of at least this
	spans := l.sums.respan()
	for i, e := range l.entries {
		age := l.now - e.at
		if i == 0 || age < valid {
			q, valid = l.quantum(age, say)
		}
		if e.sum == sum {
			continue // a hit that was taken back
		}
		sum = e.sum
		if n := len(kept); n > 0 && q > 0 && begun/q == e.at/q && !l.sums.cut(begun, e.at, l.now) {
			spans.join(kept[n-1].at, e.at)
			kept[n-1] = e
			continue
		}
		spans.keep(e.at)
		kept, begun = append(kept, e), e.at
	}
	l.entries = kept
	l.sums.spanned(spans)
	l.seek()
}

// seek finds the start of every window anew.
func (l *Log) seek() {
	for i := range l.follows {
		l.follows[i].first = int32(l.search(l.follows[i].period, l.now))
	}
}

// quantum is the width of the sub-windows that hits of an age may be merged into: that of the shortest window that still
// sees them, or 0 if one of those is exact. It is right down to the age valid, where the next window begins to see.
func (l *Log) quantum(age int64, say func(*follow) bool) (q, valid int64) {
	shortest := l.retention(l.now)
	for i := range l.follows {
		w := &l.follows[i]
		if !say(w) {
			continue
		}
		if w.period <= age {
			valid = max(valid, w.period)
			continue
		}
		if w.grain == Exact {
			q = -1
		}
		shortest = min(shortest, w.period)
	}
	if q < 0 {
		return 0, valid
	}
	return shortest / SubWindows, valid
}
