package memory

import (
	"slices"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// prune ends the leases of a subject that are over, under its shard's lock.
func (s *Store) prune(sh *shard, sub *subject, now int64) {
	if sub == nil || sub.holding == nil {
		return
	}
	for _, list := range []*leases{&sub.holding.slots, &sub.holding.plain} {
		n := 0
		for n < len(*list) && (*list)[n].hold.expires <= now {
			s.expire(sh, (*list)[n])
			n++
		}
		if n > 0 {
			*list = slices.Delete(*list, 0, n)
		}
	}
}

// pruneHold ends the leases that are over of all subjects of a hold, under the locks of their shards.
func (s *Store) pruneHold(h *hold, now int64) {
	shares := h.shares()
	for i := range shares {
		s.prune(&s.shards[shares[i].shard], shares[i].sub, now)
	}
}

// expire ends a share whose lease is over; the caller takes it out of its list.
func (s *Store) expire(sh *shard, part *share) {
	h, hg := part.hold, part.sub.holding
	part.open = false
	if part.counts() {
		for u := range part.has {
			hg.held[u] -= part.has[u]
		}
	}
	if h.unsettled.releases {
		for _, u := range []store.Unit{store.Tokens, store.USD} {
			part.change(u, 0, 0, 0)
		}
	}
	if part.sub.key.id == "" {
		s.onLapse(1, part.has.usd())
	}
	if h.first == part.sub {
		s.finishHold(sh, h)
	}
}

// finishHold notes that a hold has ended, under its first subject's shard's lock.
func (s *Store) finishHold(sh *shard, h *hold) {
	if h.ended {
		sh.ended.remove(h)
	} else {
		h.ended = true
		s.kept.Add(-h.unsettled.kept)
		s.answers.Add(h.size())
	}
	sh.ended.push(h)
}

// forget forgets a hold, under its first subject's shard's lock.
func (s *Store) forget(sh *shard, h *hold) {
	if h.ended {
		sh.ended.remove(h)
		s.answers.Add(-h.size())
	} else {
		s.kept.Add(-h.unsettled.kept)
	}
	delete(sh.holds, holdKey{h.first, h.id})
	s.bytes.Add(-h.size())
	if h.unsettled == nil {
		h.first.holding.known.Add(-1)
		return
	}
	shares := h.shares()
	for i := range shares { // not a copy: but for its subject, a share is under the lock of that one's shard
		shares[i].sub.holding.known.Add(-1)
	}
}

// endings are a shard's ended holds in the order of ending.
type endings struct {
	newest, oldest *hold
}

// push adds a hold as the newest.
func (e *endings) push(h *hold) {
	h.older = e.newest
	if e.newest != nil {
		e.newest.newer = h
	} else {
		e.oldest = h
	}
	e.newest = h
}

// remove takes a hold out.
func (e *endings) remove(h *hold) {
	if h.newer != nil {
		h.newer.older = h.older
	} else {
		e.newest = h.older
	}
	if h.older != nil {
		h.older.newer = h.newer
	} else {
		e.oldest = h.newer
	}
	h.newer, h.older = nil, nil
}

// forgetsPerCall is how many answers a call forgets at most: more than it can add.
const forgetsPerCall = 2

// forgetDue forgets some of a shard's ended holds whose time has come, under its lock.
func (s *Store) forgetDue(sh *shard, now int64) {
	for range forgetsPerCall {
		h := sh.ended.oldest
		if h == nil || now < h.forgetAt() {
			return
		}
		s.forget(sh, h)
	}
}
