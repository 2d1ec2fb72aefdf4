package memory

import (
	"sync/atomic"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Estimated sizes, bytes: a hold with its place in the map, which takes 38 to 75 of them by how full the map is; what a hold has
// besides until it is settled; a share that does not fit therein; what a subject keeps for holds; a place in a list of leases.
const (
	holdBytes      = 224
	unsettledBytes = 176
	shareBytes     = 64
	holdingBytes   = 128
	leaseBytes     = 8
)

// amounts are tokens and nano-USD, as indexOf has them.
type amounts [2]int64

// amountsOf returns amounts.
func amountsOf(usd, tokens int64) amounts { return amounts{tokens, usd} }

// usd is the nano-USD of amounts.
func (a amounts) usd() int64 { return a[indexOf(store.USD)] }

// tokens is the tokens of amounts.
func (a amounts) tokens() int64 { return a[indexOf(store.Tokens)] }

// indexOf is where a unit that holds hold stands in amounts.
func indexOf(u store.Unit) int { return int(u - store.Tokens) }

// holds tells whether holds hold amounts of a unit.
func holds(u store.Unit) bool { return u == store.Tokens || u == store.USD }

// us is a duration in microseconds.
func us(d time.Duration) int64 { return int64(d / time.Microsecond) }

// hold is what is known under an id: a hold, what became of it, or what was booked without one. It belongs to its first
// subject, and is guarded by the lock of that one's shard; but expires and unsettled change only under the locks of all of its
// subjects' shards, so that each of them can read them.
type hold struct {
	first       *subject
	id          string
	fingerprint uint64 // of its request; 0 for what was booked without one
	at, expires int64  // the admission and the end of the lease
	held        amounts
	unsettled   *unsettled // nil once it is settled, and for what was booked without one
	end         ending     // zero until it is settled
	newer       *hold      // in the order of ending
	older       *hold
	status      store.HoldStatus
	was         store.HoldStatus // before it was settled
	ended       bool             // its lease was over or it was settled, as far as has been noticed
}

// unsettled is what a hold has only until it is settled: most of the holds that are known are answers kept for repeats.
type unsettled struct {
	shares   []share
	few      [fewShares]share
	kept     int64 // bytes that cannot be evicted while it is open
	releases bool  // gives tokens and money back when the lease is over
}

// shares are what a hold has of its subjects, the first one's first; none once it is settled.
func (h *hold) shares() []share {
	if h.unsettled == nil {
		return nil
	}
	return h.unsettled.shares
}

// fewShares is how many shares a hold takes without memory of their own.
const fewShares = 2

// ending is how a hold was settled.
type ending struct {
	fingerprint uint64
	at          int64 // when
	spent       amounts
	memo        string
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

// holdKey names a hold. Ids are unique among the holds of one first subject.
type holdKey struct {
	first *subject
	id    string
}

// size estimates what a subject keeps for holds, the holds themselves aside.
func (hg *holding) size() int64 {
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

// forgetAt is when a hold is no longer known.
func (h *hold) forgetAt() int64 {
	if h.unsettled == nil {
		return h.end.at + us(store.KeepAnswers)
	}
	return h.expires + us(store.KeepAnswers)
}

// size estimates what a hold takes.
func (h *hold) size() int64 {
	all := int64(holdBytes + len(h.id) + len(h.end.memo))
	if h.unsettled != nil {
		all += unsettledSize(len(h.unsettled.shares))
	}
	return all
}

// unsettledSize estimates what a hold of some shares takes besides until it is settled.
func unsettledSize(shares int) int64 {
	if shares <= fewShares {
		return unsettledBytes
	}
	return unsettledBytes + shareBytes*int64(shares)
}

// keptFor estimates what stays of an open hold when usage is evicted, its subjects and room in lists that double
// when they grow included.
func keptFor(id string, slots []slot) int64 {
	all := int64(holdBytes+len(id)) + unsettledSize(countSubjects(slots))
	for i := range slots {
		if k := slots[i].key; i == 0 || slots[i-1].key != k {
			all += int64(subjectBytes + holdingBytes + 2*leaseBytes + len(k.kind) + len(k.id))
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

// longest is the longest period of limits, microseconds.
func longest(limits []store.Limit) int64 {
	found := int64(0)
	for i := range limits {
		found = max(found, us(limits[i].Period))
	}
	return found
}
