package memory

import (
	"fmt"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// lockHold locks the shards of a set, and of all subjects of the hold that is known by an id under the first one of the
// set. It returns the set with those added.
func (s *Store) lockHold(set []slot, id string) []slot {
	for {
		s.lock(set)
		missing := s.missing(set, set[0].shard.holds[holdKey{set[0].shard.subjects[set[0].key], id}])
		if len(missing) == 0 {
			return set
		}
		unlock(set)
		set = append(set, missing...)
	}
}

// missing is the shards of a hold's subjects that are not in a set.
func (s *Store) missing(set []slot, h *hold) []slot {
	var out []slot
	if h == nil {
		return nil
	}
	shares := h.shares()
next:
	for i := range shares {
		index := shares[i].shard // not a copy: but for its subject, a share is under the lock of that one's shard
		for j := range set {
			if set[j].index == index {
				continue next
			}
		}
		out = append(out, slot{index: index, shard: &s.shards[index]})
	}
	return out
}

// admitHold decides a request with a hold under the locks of all shards concerned.
func (s *Store) admitHold(req *store.Request, slots []slot, now int64, ans *store.Answer) error {
	if req.Hold.Extend {
		return s.extend(req, slots, now, ans)
	}
	id := req.Hold.ID
	if h := s.lookup(&slots[0], id, now); h != nil {
		if h.fingerprint != req.Hold.Fingerprint {
			return mismatch(id)
		}
		s.ask(req, slots, now, ans)
		ans.Hold = h.stands(now)
		ans.Hold.Repeat = true
		return nil
	}
	s.ask(req, slots, now, ans)
	if !ans.Admitted {
		s.queue(req, slots, now, ans)
		return nil
	}
	if err := s.mayAdd(req, slots); err != nil {
		return err
	}
	if err := s.room(keptFor(id, slots)); err != nil {
		return err
	}
	s.add(req, slots, now, ans)
	ans.Hold = s.keep(req, slots, now).stands(now)
	for i := range slots {
		if req.Checks[i].Unit == store.Concurrent {
			s.leave(slots[i].sub, slots[0].key, id)
		}
	}
	return nil
}

// extend renews a hold's lease and raises what it holds, under the locks of the shards of all of its subjects.
func (s *Store) extend(req *store.Request, slots []slot, now int64, ans *store.Answer) error {
	h := s.lookup(&slots[0], req.Hold.ID, now)
	switch {
	case h == nil:
		return noHold(req.Hold.ID)
	case req.Hold.Fingerprint != 0 && req.Hold.Fingerprint != h.fingerprint:
		return mismatch(req.Hold.ID)
	}
	s.pruneHold(h, now)
	if h.stands(now).Status != store.Active {
		s.ask(req, slots, now, ans)
		ans.Hold = h.stands(now)
		return nil
	}
	more := missingOf(req, h)
	s.ask(more, slots, now, ans)
	passNothing(more, ans)
	if ans.Admitted {
		if err := s.mayAdd(more, slots); err != nil {
			return err
		}
		s.raise(h, req, slots, now)
		for i := range slots {
			if sl := &slots[i]; sl.log != nil {
				sl.askAgain(&more.Checks[i], now, ans)
			}
		}
	}
	shares := h.shares()
	for i := range shares {
		part := &shares[i]
		part.sub.holding.leasesOf(part).remove(part)
	}
	h.expires = now + us(req.Hold.Lease)
	for i := range shares {
		part := &shares[i]
		part.sub.holding.leasesOf(part).add(part)
		s.account(part.sub)
	}
	ans.Hold = h.stands(now)
	return nil
}

// missingOf is a request for what is missing of an extension.
func missingOf(req *store.Request, h *hold) *store.Request {
	more := looking(req)
	for i := range more.Checks {
		if c := &more.Checks[i]; holds(c.Unit) {
			c.Amount = max(0, req.Checks[i].Amount-h.held[indexOf(c.Unit)])
		}
	}
	return more
}

// passNothing lets the checks pass that ask for nothing.
func passNothing(req *store.Request, ans *store.Answer) {
	ans.Admitted = true
	next := 0
	for i := range req.Checks {
		c := &req.Checks[i]
		for j := range c.Limits {
			st := &ans.States[next]
			if c.Amount == 0 {
				st.Wait = 0
			}
			if st.Wait != 0 && !c.Limits[j].Shadow {
				ans.Admitted = false
			}
			next++
		}
	}
}

// raise raises what a hold holds.
func (s *Store) raise(h *hold, req *store.Request, slots []slot, now int64) {
	shares := h.shares()
	for i := range slots {
		sl, c := &slots[i], &req.Checks[i]
		if !holds(c.Unit) || sl.sub == nil {
			continue
		}
		for j := range shares {
			if part := &shares[j]; part.sub == sl.sub && c.Amount > part.has[indexOf(c.Unit)] {
				part.change(c.Unit, c.Amount, longest(c.Limits), now)
				sl.log = sl.sub.log(c.Unit)
			}
		}
	}
	h.held = amountsOf(max(h.held.usd(), req.Hold.USD), max(h.held.tokens(), req.Hold.Tokens))
	// A limit that has gone since asks for nothing; its log has the hold all the same, for when the limit comes back.
	for i := range shares {
		part := &shares[i]
		for _, unit := range []store.Unit{store.USD, store.Tokens} {
			if has := part.has[indexOf(unit)]; has > 0 && has < h.held[indexOf(unit)] {
				part.change(unit, h.held[indexOf(unit)], 0, now)
			}
		}
	}
}

// mismatch is the error for an id that is known otherwise.
func mismatch(id string) error { return fmt.Errorf("memory store: hold %q: %w", id, store.ErrMismatch) }

// noHold is the error for an id that is not known.
func noHold(id string) error { return fmt.Errorf("memory store: hold %q: %w", id, store.ErrNoHold) }
