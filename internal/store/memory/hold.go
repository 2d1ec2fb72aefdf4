package memory

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Estimated sizes, bytes: a hold with its place in the map, a subject's share of it, what a subject keeps for holds, and a
// place in a list of leases.
const (
	holdBytes    = 320
	shareBytes   = 72
	holdingBytes = 128
	leaseBytes   = 8
)

// amounts are tokens and nano-USD, as place has them.
type amounts [2]int64

// amountsOf returns amounts.
func amountsOf(usd, tokens int64) amounts { return amounts{tokens, usd} }

// usd is the nano-USD of amounts.
func (a amounts) usd() int64 { return a[place(store.USD)] }

// tokens is the tokens of amounts.
func (a amounts) tokens() int64 { return a[place(store.Tokens)] }

// place is where a unit that holds hold stands in amounts.
func place(u store.Unit) int { return int(u - store.Tokens) }

// holds tells whether holds hold amounts of a unit.
func holds(u store.Unit) bool { return u == store.Tokens || u == store.USD }

// us is a duration in microseconds.
func us(d time.Duration) int64 { return int64(d / time.Microsecond) }

// hold is what is known under an id: a hold, what became of it, or what was booked without one. It belongs to its first
// subject, and is guarded by the lock of that one's shard; but expires changes only under the locks of all of its
// subjects' shards, so that each of them can read it.
type hold struct {
	first       *subject
	id          string
	fingerprint uint64 // of its request; 0 for what was booked without one
	status      store.HoldStatus
	releases    bool  // gives tokens and money back when the lease is over
	at, expires int64 // the admission and the end of the lease
	forget      int64 // when it is no longer known
	held        amounts
	shares      []share // of its subjects, the first one's first; none once it is settled
	end         *ending // nil until it is settled
	ended       bool    // its lease was over or it was settled, as far as has been noticed
	bytes       int64
	kept        int64 // what cannot be evicted while it is open
	newer       *hold // in the order of ending
	older       *hold
}

// ending is how a hold was settled.
type ending struct {
	was         store.HoldStatus
	fingerprint uint64
	at          int64 // when
	spent       amounts
	memo        []byte
}

// share is what a hold has of one subject. The lock of that subject's shard guards it.
type share struct {
	hold  *hold
	sub   *subject
	shard int
	epoch uint32  // of the subject when its amounts were taken
	slot  bool    // takes a slot
	open  bool    // stands in a list of its subject
	books [2]bool // the subject had windows for it
	at    amounts // the moment in the subject's log
	has   amounts // that are counted there
}

// holding is what a subject keeps for holds.
type holding struct {
	slots leases // open holds that have a slot
	plain leases // other open holds
	line  []waiter
	held  amounts // by open holds
	epoch uint32  // grows when the amounts counted are forgotten
	// known counts the holds that may still come back to this subject: those that it is the first of, and those that are not
	// settled. It is lowered under the locks of other shards.
	known atomic.Int32
}

// leases are the shares of open holds in the order in which their leases end.
type leases []*share

// holdKey names a hold. Ids are unique among the holds of one first subject.
type holdKey struct {
	first *subject
	id    string
}

// search is where a share of a lease that ends at a moment stands, or would stand.
func (l *leases) search(expires int64) int {
	i, _ := slices.BinarySearchFunc(*l, expires, func(sh *share, t int64) int {
		if sh.hold.expires < t {
			return -1
		}
		return 1
	})
	return i
}

// add adds a share behind those whose leases end no later.
func (l *leases) add(sh *share) {
	*l = slices.Insert(*l, l.search(sh.hold.expires+1), sh)
	sh.open = true
}

// remove removes a share that is there.
func (l *leases) remove(sh *share) {
	for i := l.search(sh.hold.expires); i < len(*l); i++ {
		if (*l)[i] == sh {
			*l = slices.Delete(*l, i, i+1)
			sh.open = false
			return
		}
	}
}

// leasesOf is the list that a share belongs in.
func (hg *holding) leasesOf(sh *share) *leases {
	if sh.slot {
		return &hg.slots
	}
	return &hg.plain
}

// size estimates what a subject keeps for holds, the holds themselves aside.
func (hg *holding) size() int64 {
	if hg == nil {
		return 0
	}
	all := holdingBytes + leaseBytes*int64(cap(hg.slots)+cap(hg.plain)) + waiterBytes*int64(cap(hg.line))
	for i := range hg.line {
		all += hg.line[i].size()
	}
	return all
}

// idle tells whether nothing can come back to it any more.
func (hg *holding) idle() bool {
	return hg == nil || (hg.known.Load() == 0 && len(hg.slots) == 0 && len(hg.plain) == 0 && len(hg.line) == 0)
}

// size estimates what a hold takes.
func (h *hold) size() int64 {
	all := int64(holdBytes+len(h.id)) + shareBytes*int64(len(h.shares))
	if h.end != nil {
		all += int64(len(h.end.memo))
	}
	return all
}

// keptFor estimates what stays of an open hold when usage is evicted, its subjects and room in lists that double
// when they grow included.
func keptFor(id string, slots []slot) int64 {
	all := int64(holdBytes + len(id))
	for i := range slots {
		if k := slots[i].key; i == 0 || slots[i-1].key != k {
			all += int64(shareBytes + subjectBytes + holdingBytes + 2*leaseBytes + len(k.kind) + len(k.id))
		}
	}
	return all
}

// stands is a hold as an answer tells it.
func (h *hold) stands(now int64) store.HoldState {
	status := h.status
	if status == store.Active && now >= h.expires {
		status = store.Expired
	}
	return store.HoldState{Status: status, At: h.at, Expires: h.expires, USD: h.held.usd(), Tokens: h.held.tokens()}
}

// counts tells whether the amounts of a share stand in the log of its subject, as far as that keeps them.
func (sh *share) counts() bool { return sh.epoch == sh.sub.holding.epoch }

// change brings what a share counts of a unit to an amount, in the windows of the admission. keep is how long a log is
// followed, microseconds, in which the share has counted nothing so far; 0 for not at all.
func (sh *share) change(u store.Unit, to, keep, now int64) {
	i := place(u)
	before := sh.has[i]
	delta := to - before
	if !sh.books[i] || delta == 0 {
		return
	}
	sh.has[i] = to
	if !sh.counts() {
		return
	}
	if sh.open {
		sh.sub.holding.held[i] += delta
	}
	if before > 0 {
		if log := sh.sub.log(u); log != nil {
			log.AddAt(sh.at[i], delta)
		}
		return
	}
	sh.sub.book(u, sh.at[i], to, keep, now)
}

// book puts an amount into a subject's log at a moment.
func (sub *subject) book(u store.Unit, at, amount, keep, now int64) {
	log := sub.log(u)
	if amount <= 0 || keep <= 0 || (log == nil && now-at >= keep) {
		return
	}
	if log == nil {
		log = newLog(u)
		sub.logs[u-store.Requests] = log
	}
	log.Begin(now)
	log.Insert(at, amount, keep)
}

// longest is the longest period of limits, microseconds.
func longest(limits []store.Limit) int64 {
	found := int64(0)
	for i := range limits {
		found = max(found, us(limits[i].Period))
	}
	return found
}

// keep makes the hold of an admitted request. Its amounts have been counted.
func (s *Store) keep(req *store.Request, slots []slot, now int64) *hold {
	ask := req.Hold
	h := &hold{
		id: strings.Clone(ask.ID), fingerprint: ask.Fingerprint, status: store.Active, releases: ask.ReleaseOnExpiry,
		at: now, expires: now + us(ask.Lease), shares: make([]share, 0, countSubjects(slots)), kept: keptFor(ask.ID, slots),
	}
	h.forget = h.expires + us(store.KeepAnswers)
	h.held = amountsOf(ask.USD, ask.Tokens)
	for i := range slots {
		sl, c := &slots[i], &req.Checks[i]
		takesSlot := c.Unit == store.Concurrent && c.Amount > 0
		booked := holds(c.Unit) && len(c.Limits) > 0
		if i > 0 && !takesSlot && !booked {
			continue
		}
		s.ensure(sl)
		sh := h.share(sl)
		sh.slot = sh.slot || takesSlot
		if booked {
			at := now
			if sl.log != nil {
				at = sl.log.Begin(now)
			}
			sh.books[place(c.Unit)], sh.at[place(c.Unit)], sh.has[place(c.Unit)] = true, at, c.Amount
		}
	}
	s.link(h, slots[0].shard)
	return h
}

// countSubjects is how many subjects the checks name at most.
func countSubjects(slots []slot) int {
	n := 1
	for i := 1; i < len(slots); i++ {
		if slots[i].index != slots[i-1].index || slots[i].key != slots[i-1].key {
			n++
		}
	}
	return n
}

// share is the hold's share of a check's subject, which it makes if there is none.
func (h *hold) share(sl *slot) *share {
	for i := range h.shares {
		if h.shares[i].sub == sl.sub {
			return &h.shares[i]
		}
	}
	h.shares = append(h.shares, share{hold: h, sub: sl.sub, shard: sl.index})
	return &h.shares[len(h.shares)-1]
}

// link makes a new hold known, and its shares to their subjects.
func (s *Store) link(h *hold, sh *shard) {
	h.first = h.shares[0].sub
	sh.add(h)
	for i := range h.shares {
		part := &h.shares[i]
		hg := part.sub.hold()
		hg.known.Add(1)
		part.epoch = hg.epoch
		hg.leasesOf(part).add(part)
		for u := range part.has {
			hg.held[u] += part.has[u]
		}
	}
	s.known.Add(1)
	s.kept.Add(h.kept)
	s.accountHold(h)
}

// add makes a hold known.
func (sh *shard) add(h *hold) {
	if sh.holds == nil {
		sh.holds = make(map[holdKey]*hold)
	}
	sh.holds[holdKey{h.first, h.id}] = h
}

// hold is what the subject keeps for holds.
func (sub *subject) hold() *holding {
	if sub.holding == nil {
		sub.holding = new(holding)
	}
	return sub.holding
}

// accountHold brings the counts of bytes up to date with what a hold takes now.
func (s *Store) accountHold(h *hold) {
	change := h.size() - h.bytes
	h.bytes += change
	s.bytes.Add(change)
	if h.ended {
		s.answers.Add(change)
	}
}

// lookup finds a hold; nil if none is known.
func (s *Store) lookup(sl *slot, id string, now int64) *hold {
	if sl.sub == nil || sl.sub.holding == nil {
		return nil
	}
	s.prune(sl.shard, sl.sub, now)
	h := sl.shard.holds[holdKey{sl.sub, id}]
	if h != nil && now >= h.forget {
		s.forget(sl.shard, h)
		return nil
	}
	return h
}
