package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/window"
)

// slot is one check on its way through a decision.
type slot struct {
	key   key
	index int // of its shard
	shard *shard
	sub   *subject    // nil if there is none
	log   *window.Log // nil if there is none
	state int         // index of its first state in the answer
}

// fewSlots is how many checks a decision takes without memory of its own.
const fewSlots = 4

// Admit decides a request. Beyond the contract's errors it errs for a request that is out of the contract's bounds.
func (s *Store) Admit(ctx context.Context, req *store.Request, ans *store.Answer) error {
	if err := s.inTime(ctx, req.Deadline); err != nil {
		return err
	}
	if err := req.Validate(); err != nil {
		return fmt.Errorf("memory store: %w", err)
	}
	var buf [fewSlots]slot
	slots := s.slots(req, buf[:0])
	set := slots
	if req.Hold != nil && req.Hold.Extend && !req.Look {
		set = s.lockHold(slots, req.Hold.ID)
	} else {
		s.lock(slots)
	}
	now, err := s.admit(req, slots, ans)
	unlock(set)
	if s.bytes.Load() > s.maxBytes {
		s.shrink(now)
	}
	return err
}

// admit decides under the locks of all shards concerned.
func (s *Store) admit(req *store.Request, slots []slot, ans *store.Answer) (int64, error) {
	now := s.begin(ans)
	if err := find(req, slots); err != nil {
		return now, err
	}
	s.pruneAll(slots, now)
	if stale(req, slots, ans) {
		return now, nil
	}
	if req.Hold != nil && !req.Look {
		if err := s.admitHold(req, slots, now, ans); err != nil {
			return now, err
		}
		s.finish(req, slots, now, ans)
		return now, nil
	}
	s.ask(req, slots, now, ans)
	if ans.Admitted && !req.Look {
		if err := s.mayAdd(req, slots); err != nil {
			return now, err
		}
		s.add(req, slots, now, ans)
	}
	s.finish(req, slots, now, ans)
	return now, nil
}

// begin empties the answer and reads the clock. It is read under the locks: no later decision on these logs has an
// earlier time.
func (s *Store) begin(ans *store.Answer) int64 {
	now := s.now()
	ans.Now = now
	ans.Admitted = false
	ans.States = ans.States[:0]
	ans.Seqs = ans.Seqs[:0]
	ans.Stale = ans.Stale[:0]
	ans.Held = ans.Held[:0]
	ans.Hold = store.HoldState{}
	return now
}

// slots finds the shards of a request's checks.
func (s *Store) slots(req *store.Request, slots []slot) []slot {
	if len(req.Checks) > cap(slots) {
		slots = make([]slot, 0, len(req.Checks))
	}
	for i := range req.Checks {
		subject := req.Checks[i].Subject
		k := keyOf(subject)
		index := s.shardOf(subject, k)
		slots = append(slots, slot{key: k, index: index, shard: &s.shards[index]})
	}
	return slots
}

// slotOf finds a subject's shard.
func (s *Store) slotOf(subject store.Subject) slot {
	k := keyOf(subject)
	index := s.shardOf(subject, k)
	return slot{key: k, index: index, shard: &s.shards[index]}
}

// lock locks the shards of all slots, each once, in the order of their indices; the global subject's is the last.
func (s *Store) lock(slots []slot) {
	for last := -1; ; {
		next := len(s.shards)
		for i := range slots {
			if index := slots[i].index; index > last && index < next {
				next = index
			}
		}
		if next == len(s.shards) {
			return
		}
		s.shards[next].mu.Lock()
		last = next
	}
}

// unlock unlocks the shards of all slots, each once.
func unlock(slots []slot) {
next:
	for i := range slots {
		for j := range i {
			if slots[j].index == slots[i].index {
				continue next
			}
		}
		slots[i].shard.mu.Unlock()
	}
}

// find finds the subjects and logs of the checks. It errs if two checks name the same log.
func find(req *store.Request, slots []slot) error {
	for i := range slots {
		sl, c := &slots[i], &req.Checks[i]
		for j := range i {
			if slots[j].index == sl.index && slots[j].key == sl.key && req.Checks[j].Unit == c.Unit {
				return fmt.Errorf("%w: checks %d and %d (%.32q) name the same subject and unit %s",
					store.ErrBad, j, i, c.Subject.Kind, c.Unit)
			}
		}
		sl.sub = sl.shard.subjects[sl.key]
		sl.log = sl.sub.log(c.Unit)
	}
	return nil
}

// pruneAll ends the leases of all subjects concerned that are over.
func (s *Store) pruneAll(slots []slot, now int64) {
	for i := range slots {
		if sub := slots[i].sub; sub != nil && sub.holding != nil {
			s.prune(slots[i].shard, sub, now)
		}
	}
}

// stale lists the checks that were made from another override than the stored one, and reports whether there are any.
func stale(req *store.Request, slots []slot, ans *store.Answer) bool {
	for i := range slots {
		if req.Checks[i].Override == slots[i].sub.version() {
			continue
		}
		st := store.Stale{Check: i}
		if o := slots[i].sub.ownLimits(); o != nil {
			st.Version, st.Value = o.version, o.value
		}
		ans.Stale = append(ans.Stale, st)
	}
	return len(ans.Stale) > 0
}

// mayAdd errs if an admitted request cannot be kept. It is asked before the first change.
func (s *Store) mayAdd(req *store.Request, slots []slot) error {
	for i := range slots {
		sl, c := &slots[i], &req.Checks[i]
		switch {
		case c.Amount == 0 || c.Unit == store.Concurrent:
		case sl.sub == nil && sl.index != s.global():
			if err := s.room(subjectBytes); err != nil {
				return err
			}
		case sl.log != nil && !sl.log.Room(c.Amount):
			return fmt.Errorf("%w: check %d (%.32q): the sum of all amounts kept would pass 2^62",
				store.ErrBad, i, c.Subject.Kind)
		}
	}
	return nil
}

// add counts the hits of an admitted request and brings the states up to date.
func (s *Store) add(req *store.Request, slots []slot, now int64, ans *store.Answer) {
	for i := range slots {
		sl, c := &slots[i], &req.Checks[i]
		if c.Amount == 0 || (sl.log == nil && len(c.Limits) == 0) {
			continue // nothing to keep, or no window to keep it for
		}
		if c.Unit == store.Concurrent {
			st := &ans.States[sl.state]
			st.Used++
			if st.Reset == 0 || st.Reset > req.Hold.Lease {
				st.Reset = req.Hold.Lease
			}
			continue
		}
		if sl.log == nil {
			s.createLog(sl, c, now)
		}
		if sl.log.Add(c.Amount) || hasCalendar(c.Limits) {
			sl.askAgain(c, now, ans)
			continue
		}
		for j := range c.Limits {
			st := &ans.States[sl.state+j]
			st.Used += c.Amount
			if st.Reset == 0 {
				st.Reset = c.Limits[j].Period + time.Duration(sl.log.Ahead())*time.Microsecond
			}
		}
	}
}

// ensure makes a check's subject if there is none.
func (s *Store) ensure(sl *slot) {
	if sl.sub == nil {
		sl.sub = sl.shard.subjects[sl.key] // another check of this request may have made it
	}
	if sl.sub == nil {
		sl.sub = s.create(sl.shard, sl.key)
	}
}

// createLog makes a check's log, and its subject if there is none.
func (s *Store) createLog(sl *slot, c *store.Check, now int64) {
	s.ensure(sl)
	sl.log = newLog(c.Unit)
	sl.sub.logs[c.Unit-store.Requests] = sl.log
	at := sl.log.Begin(now)
	for j := range c.Limits {
		sl.ask(j, c.Unit, &c.Limits[j], 1, at)
	}
}

// newLog returns an empty log for a unit. What was taken of tokens and money may change later.
func newLog(u store.Unit) *window.Log {
	if holds(u) {
		return window.NewSums()
	}
	return new(window.Log)
}

// finish gives the sequence numbers and what is held, and keeps house: bytes, the order of use, and a few steps of the
// sweep. Nothing of the slots is used after it.
func (s *Store) finish(req *store.Request, slots []slot, now int64, ans *store.Answer) {
	for i := range slots {
		sl := &slots[i]
		seq, held := int64(0), int64(0)
		if sl.log != nil {
			seq = sl.log.Running()
		}
		if sl.sub != nil && sl.sub.holding != nil && holds(req.Checks[i].Unit) {
			held = sl.sub.holding.held[indexOf(req.Checks[i].Unit)]
		}
		s.used(sl)
		ans.Seqs = append(ans.Seqs, seq)
		ans.Held = append(ans.Held, held)
	}
	for i := range slots {
		s.housekeep(slots[i].shard, now)
	}
}

// used accounts for a subject that a call has used.
func (s *Store) used(sl *slot) {
	if sl.sub == nil || (sl.log == nil && sl.sub.holding == nil) {
		return
	}
	s.account(sl.sub)
	if sl.index != s.global() {
		sl.shard.touch(sl.sub)
	}
}
