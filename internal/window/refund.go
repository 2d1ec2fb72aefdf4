package window

import "sort"

// Piece is an amount taken back from the hits of one moment.
type Piece struct {
	At     int64 // microseconds
	Amount int64 // above 0
}

// TakeBack takes up to amount back from the hits that are live in the longest period followed, the newest first, and
// appends to pieces what it took from when.
func (l *Log) TakeBack(amount int64, pieces []Piece) []Piece {
	return l.take(len(l.entries), amount, pieces)
}

// TakeBackAt takes up to amount back from the live hits of the moment at and, if those are fewer, of the newest moments
// before it. It returns how much it took. Hits that were merged are of the moment of the latest of their sub-window.
func (l *Log) TakeBackAt(at, amount int64) int64 {
	end := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].at > at })
	found := end > 0 && l.entries[end-1].at == at
	if !found && end < len(l.entries) && l.sameSubWindow(at, l.entries[end].at) {
		end++
	}
	var buf [8]Piece
	took := int64(0)
	for _, p := range l.take(end, amount, buf[:0]) {
		took += p.Amount
	}
	return took
}

// take takes up to amount back from the entries before end, the newest first.
func (l *Log) take(end int, amount int64, pieces []Piece) []Piece {
	retention := l.retention(l.now)
	begun := len(pieces)
	i := end - 1
	for ; i >= 0 && amount > 0 && l.now-l.entries[i].at < retention; i-- {
		piece := min(amount, l.entries[i].sum-l.before(i))
		if piece > 0 {
			amount -= piece
			l.running -= piece
			pieces = append(pieces, Piece{At: l.entries[i].at, Amount: piece})
		}
	}
	l.subtract(i+1, pieces[begun:])
	l.trim()
	return pieces
}

// subtract lowers the sums from entry i on by the pieces, which are in the order of newest first.
func (l *Log) subtract(i int, pieces []Piece) {
	gone, next := int64(0), len(pieces)-1
	for ; i < len(l.entries); i++ {
		e := &l.entries[i]
		if next >= 0 && pieces[next].At == e.at {
			gone += pieces[next].Amount
			next--
		}
		e.sum -= gone
	}
}

// trim drops entries of nothing from the end. The time of the newest hit is kept apart and stays.
func (l *Log) trim() {
	n := len(l.entries)
	for n > 0 && l.entries[n-1].sum == l.before(n-1) {
		n--
	}
	l.entries = l.entries[:n]
	for i := range l.follows {
		l.follows[i].first = min(l.follows[i].first, int32(n))
	}
}
