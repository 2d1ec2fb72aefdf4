package window

// Room tells whether the log can keep another amount at all. A sum of 2^62 is beyond any real use, but a client may ask.
func (l *Log) Room(amount int64) bool {
	if amount <= maxSum-l.total() {
		return true
	}
	l.compact(l.now)
	return amount <= maxSum-l.total()
}

// Add adds a hit of amount, above 0, at the moment of the decision. The caller has asked for its windows before, and for
// Room. It reports whether hits were merged: then the windows' states have changed beyond the amount.
func (l *Log) Add(amount int64) (merged bool) {
	l.running += amount
	l.newest = l.now
	if n := len(l.entries); n > 0 {
		last := &l.entries[n-1]
		if last.at == l.now || l.sameSubWindow(last.at, l.now) {
			merged = last.at != l.now
			last.at = l.now
			last.sum += amount
			for i := range l.follows {
				l.follows[i].first = min(l.follows[i].first, int32(n-1))
			}
			return merged
		}
	}
	if len(l.entries) == cap(l.entries) {
		l.grow()
	}
	l.entries = append(l.entries, entry{at: l.now, sum: l.total() + amount})
	if len(l.entries) >= max(l.full, ExactHits+slack) {
		l.merge()
		return true
	}
	return false
}

// sameSubWindow tells whether hits of two moments may be one entry: all windows that are followed are coarse, and both moments
// fall into one sub-window of the shortest of them.
func (l *Log) sameSubWindow(a, b int64) bool {
	shortest := int64(0)
	for i := range l.follows {
		w := &l.follows[i]
		if l.now-w.asked >= w.period {
			continue
		}
		if w.grain != Coarse {
			return false
		}
		if shortest == 0 || w.period < shortest {
			shortest = w.period
		}
	}
	q := shortest / SubWindows
	return q > 0 && a/q == b/q
}

// grow makes room for one more entry: by forgetting what is dead if that is a quarter, else by an eighth more.
func (l *Log) grow() {
	n := len(l.entries)
	if dead := l.dead(l.newest); dead > 0 && dead >= n/4 {
		l.compact(l.newest)
		return
	}
	bigger := n + n/8
	if n < 64 {
		bigger = max(2, 2*n)
	}
	l.entries = append(make([]entry, 0, bigger), l.entries...)
}

// dead is how many of the oldest entries no window can see any more at now. Only those that are dead at the time of the
// newest hit are forgotten, or of one that is about to be added: the log's time may run back, but never behind that.
func (l *Log) dead(now int64) int { return l.search(l.retention(now), now) }

// compact forgets the entries that are dead at now.
func (l *Log) compact(now int64) {
	dead := l.dead(now)
	if dead == 0 {
		return
	}
	if l.sums != nil {
		l.sums.drop(l.entries[dead-1].at)
	}
	gone := l.before(dead)
	live := l.entries[dead:]
	kept := l.entries[:0]
	if cap(l.entries) > 64 && len(live) < cap(l.entries)/4 {
		kept = make([]entry, 0, 2*len(live)+2)
	}
	for _, e := range live {
		kept = append(kept, entry{at: e.at, sum: e.sum - gone})
	}
	l.entries = kept
	for i := range l.follows {
		l.follows[i].first = max(0, l.follows[i].first-int32(dead))
	}
}
