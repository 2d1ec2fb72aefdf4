package memory

import (
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// keep makes the hold of an admitted request. Its amounts have been counted.
func (s *Store) keep(req *store.Request, slots []slot, now int64) *hold {
	ask := req.Hold
	h := &hold{
		id: strings.Clone(ask.ID), fingerprint: ask.Fingerprint, status: store.Active, at: now, expires: now + us(ask.Lease),
		held: amountsOf(ask.USD, ask.Tokens), unsettled: newUnsettled(countSubjects(slots)),
	}
	h.unsettled.releases, h.unsettled.kept = ask.ReleaseOnExpiry, keptFor(ask.ID, slots)
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
			sh.books[indexOf(c.Unit)], sh.at[indexOf(c.Unit)], sh.has[indexOf(c.Unit)] = true, at, c.Amount
		}
	}
	s.link(h, slots[0].shard)
	return h
}

// newUnsettled has room for the shares of some subjects. It must not grow: lists of leases point to them.
func newUnsettled(subjects int) *unsettled {
	u := new(unsettled)
	u.shares = u.few[:0]
	if subjects > fewShares {
		u.shares = make([]share, 0, subjects)
	}
	return u
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
	u := h.unsettled
	for i := range u.shares {
		if u.shares[i].sub == sl.sub {
			return &u.shares[i]
		}
	}
	u.shares = append(u.shares, share{hold: h, sub: sl.sub, shard: sl.index})
	return &u.shares[len(u.shares)-1]
}

// link makes a new hold known, and its shares to their subjects.
func (s *Store) link(h *hold, sh *shard) {
	shares := h.shares()
	h.first = shares[0].sub
	sh.add(h)
	for i := range shares {
		part := &shares[i]
		hg := part.sub.ensureHolding()
		hg.known.Add(1)
		part.epoch = hg.epoch
		hg.leasesOf(part).add(part)
		for u := range part.has {
			hg.held[u] += part.has[u]
		}
	}
	s.kept.Add(h.unsettled.kept)
	s.accountHold(h, 0)
}

// add makes a hold known.
func (sh *shard) add(h *hold) {
	if sh.holds == nil {
		sh.holds = make(map[holdKey]*hold)
	}
	sh.holds[holdKey{h.first, h.id}] = h
}

// ensureHolding returns what the subject keeps for holds, and makes it if there is none.
func (sub *subject) ensureHolding() *holding {
	if sub.holding == nil {
		sub.holding = new(holding)
	}
	return sub.holding
}

// accountHold brings the counts of bytes up to date with what a hold takes now, which was counted with a size before.
func (s *Store) accountHold(h *hold, before int64) {
	change := h.size() - before
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
	if h != nil && now >= h.forgetAt() {
		s.forget(sl.shard, h)
		return nil
	}
	return h
}
