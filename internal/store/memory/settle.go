package memory

import (
	"context"
	"fmt"
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Settle ends a hold, or books what has none. Beyond the contract's errors it errs for a settlement that is out of the
// contract's bounds.
func (s *Store) Settle(ctx context.Context, st *store.Settlement, out *store.Settled) error {
	if err := s.inTime(ctx, st.Deadline); err != nil {
		return err
	}
	if err := st.Validate(); err != nil {
		return fmt.Errorf("memory store: %w", err)
	}
	parts := make([]slot, len(st.Parts))
	for i := range parts {
		parts[i] = s.slotOf(st.Parts[i].Subject)
	}
	set := s.lockHold(parts, st.ID)
	now, err := s.settle(st, parts, out)
	unlock(set)
	if s.bytes.Load() > s.maxBytes {
		s.shrink(now)
	}
	return err
}

// settle settles under the locks of the shards of all parts and of all subjects of the hold.
func (s *Store) settle(st *store.Settlement, parts []slot, out *store.Settled) (int64, error) {
	now := s.now()
	for i := range parts {
		parts[i].sub = parts[i].shard.subjects[parts[i].key]
	}
	s.pruneAll(parts, now)
	h := s.lookup(&parts[0], st.ID, now)
	repeat := false
	switch {
	case h == nil || (st.Release && st.Waiting):
		var err error
		if h, err = s.bookWithout(st, parts, now); err != nil {
			return now, err
		}
	case h.unsettled == nil:
		if h.end.fingerprint != st.Fingerprint {
			return now, mismatch(st.ID)
		}
		repeat = true
	default:
		s.settleHold(h, st, now)
	}
	h.tell(out)
	out.Repeat = repeat
	for i := range parts {
		s.used(&parts[i])
	}
	for i := range parts {
		s.housekeep(parts[i].shard, now)
	}
	return now, nil
}

// settleHold puts what was really used in the place of what was held, and frees the slots.
func (s *Store) settleHold(h *hold, st *store.Settlement, now int64) {
	s.pruneHold(h, now)
	shares := h.shares()
	s.finishHold(&s.shards[shares[0].shard], h)
	before := h.size()
	h.was, h.status = h.stands(now).Status, store.Closed
	h.end = endingOf(st, now)
	switch {
	case st.Release:
		h.status, h.end.spent = store.Released, amounts{}
	case st.Keep:
		h.end.spent = h.held
	}
	for i := range shares {
		part := &shares[i]
		s.settleShare(part, st, h.end.spent, now)
		if i > 0 {
			part.sub.holding.known.Add(-1)
		}
		s.account(part.sub)
	}
	h.unsettled = nil
	s.accountHold(h, before)
}

// settleShare takes a share out of its subject, which counts what was spent.
func (s *Store) settleShare(part *share, st *store.Settlement, spent amounts, now int64) {
	hg := part.sub.holding
	if part.open {
		hg.leasesOf(part).remove(part)
		if part.counts() {
			for u := range part.has {
				hg.held[u] -= part.has[u]
			}
		}
	}
	usd, tokens := keepFor(st, part.sub.key)
	part.change(store.USD, spent[indexOf(store.USD)], usd, now)
	part.change(store.Tokens, spent[indexOf(store.Tokens)], tokens, now)
}

// keepFor is how long a settlement wants amounts of a subject kept, microseconds.
func keepFor(st *store.Settlement, k key) (usd, tokens int64) {
	for i := range st.Parts {
		if p := &st.Parts[i]; keyOf(p.Subject) == k {
			return us(p.USD), us(p.Tokens)
		}
	}
	return 0, 0
}

// endingOf is how a settlement ends a hold: at what it says was spent.
func endingOf(st *store.Settlement, now int64) ending {
	return ending{fingerprint: st.Fingerprint, at: now, spent: amountsOf(st.USD, st.Tokens), memo: string(st.Memo)}
}

// bookWithout books a settlement of an id that is not known. One that does not say where gives the id's places in lines up.
func (s *Store) bookWithout(st *store.Settlement, parts []slot, now int64) (*hold, error) {
	if st.Release || st.Book == 0 {
		for i := range parts {
			s.leave(parts[i].sub, parts[0].key, st.ID)
		}
		return nil, noHold(st.ID)
	}
	for i := range parts {
		if parts[i].sub == nil && parts[i].index != s.global() {
			if err := s.room(subjectBytes); err != nil {
				return nil, err
			}
		}
	}
	h := s.remember(st, &parts[0], now)
	for i := range parts {
		sl, p := &parts[i], &st.Parts[i]
		for _, b := range []struct {
			unit         store.Unit
			amount, keep int64
		}{{store.USD, st.USD, us(p.USD)}, {store.Tokens, st.Tokens, us(p.Tokens)}} {
			if b.amount > 0 && now-h.at < b.keep {
				s.ensure(sl)
				sl.sub.book(b.unit, h.at, b.amount, b.keep, now)
				sl.log = sl.sub.log(b.unit)
			}
		}
	}
	return h, nil
}

// remember makes what is booked without a hold known, so that it is booked once.
func (s *Store) remember(st *store.Settlement, first *slot, now int64) *hold {
	s.ensure(first)
	h := &hold{
		first: first.sub, id: strings.Clone(st.ID), was: store.NoHold, status: store.Closed, at: min(st.Book, now), expires: now,
		end: endingOf(st, now),
	}
	first.sub.ensureHolding().known.Add(1)
	first.shard.add(h)
	h.ended = true
	s.accountHold(h, 0)
	first.shard.ended.push(h)
	return h
}

// tell tells how a hold was settled.
func (h *hold) tell(out *store.Settled) {
	*out = store.Settled{
		Was: h.was, Status: h.status, Now: h.end.at, At: h.at, HeldUSD: h.held.usd(), HeldTokens: h.held.tokens(),
		USD: h.end.spent.usd(), Tokens: h.end.spent.tokens(), Memo: append(out.Memo[:0], h.end.memo...),
	}
}
