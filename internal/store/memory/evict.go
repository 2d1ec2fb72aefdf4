package memory

import (
	"fmt"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Steps of the sweep. A new subject makes more steps than one, so that garbage cannot outgrow what lives; the others
// make one now and then, so that it goes also when no one comes anew.
const (
	stepsPerSubject = 4
	callsPerStep    = 16 // a power of two
)

// global is the index of the shard of the global subject, which is never evicted.
func (s *Store) global() int { return len(s.shards) - 1 }

// create makes a subject, under its shard's lock.
func (s *Store) create(sh *shard, k key) *subject {
	sub := &subject{key: k.clone()}
	sh.born++
	sh.subjects[sub.key] = sub
	s.subjects.Add(1)
	return sub
}

// account brings the count of bytes up to date with what a subject takes now.
func (s *Store) account(sub *subject) {
	if all := sub.size(); all != sub.bytes {
		s.bytes.Add(all - sub.bytes)
		sub.bytes = all
	}
}

// drop forgets a subject's usage, under its shard's lock. Its override stays, and so do holds: their slots and leases, and
// what is known of them, but not the amounts that they have counted.
func (s *Store) drop(sh *shard, sub *subject) {
	sub.unlink()
	clear(sub.logs[:])
	if sub.holding.idle() {
		sub.holding = nil
	} else {
		sub.holding.epoch++
		sub.holding.held = amounts{}
		if sh != &s.shards[s.global()] {
			sh.touch(sub)
		}
	}
	if sub.override != nil || sub.holding != nil {
		s.account(sub)
		return
	}
	delete(sh.subjects, sub.key)
	s.subjects.Add(-1)
	s.bytes.Add(-sub.bytes)
	sub.bytes = 0
}

// evict drops a subject that no one asked to forget.
func (s *Store) evict(sh *shard, sub *subject, now int64) {
	early := !sub.idle(now)
	s.drop(sh, sub)
	s.onEvict(early)
}

// housekeep makes the steps of the sweep that are due.
func (s *Store) housekeep(sh *shard, now int64) {
	steps := sh.born * stepsPerSubject
	sh.born = 0
	sh.calls++
	if sh.calls%callsPerStep == 0 {
		steps++
	}
	if steps > 0 {
		s.sweep(sh, &sh.usage, steps, now)
		s.sweep(sh, &sh.bare, steps, now)
	}
	if sh.ended.oldest != nil {
		s.forgetDue(sh, now)
	}
}

// sweep looks at some subjects of a shard in turn, under its lock, and evicts those whose hits are all dead.
func (s *Store) sweep(sh *shard, o *order, steps int, now int64) {
	for range steps {
		sub := o.hand
		if sub == nil {
			sub = o.oldest
		}
		if sub == nil {
			return
		}
		o.hand = sub.newer
		s.tidy(sh, sub, now)
		if sub.idle(now) {
			s.evict(sh, sub, now)
		}
	}
}

// tidy ends the leases and drops the waiters of a subject whose time is over.
func (s *Store) tidy(sh *shard, sub *subject, now int64) {
	if sub.holding != nil {
		s.prune(sh, sub, now)
		s.dropDead(sub, now)
	}
}

// shrink makes room until the store is within its bound, with no lock held. The shards take turns. The answers that are
// kept for repeats give way first if they take more than half of the room, the oldest of a shard first; then the subjects
// used the longest ago lose their usage; then all answers give way. Slots and open holds stay, and so does what is known
// of the holds of a subject that loses its usage: what is settled of them later is forgotten with it.
func (s *Store) shrink(now int64) {
	shards := len(s.shards)
	for barren := 0; barren < 2*shards && s.bytes.Load() > s.maxBytes; {
		sh := &s.shards[s.victim.Add(1)%uint64(shards)]
		sh.mu.Lock()
		tooMany := s.answers.Load() > s.maxBytes/2
		switch {
		case sh.ended.oldest != nil && (tooMany || barren >= shards):
			s.giveWay(sh, sh.ended.oldest, now)
			barren = min(barren, shards)
		case sh.usage.oldest != nil && !tooMany:
			s.evict(sh, sh.usage.oldest, now)
			barren = 0
		default:
			barren++
		}
		sh.mu.Unlock()
	}
}

// giveWay forgets an ended hold for want of room.
func (s *Store) giveWay(sh *shard, h *hold, now int64) {
	early := now < h.forgetAt()
	s.forget(sh, h)
	if early {
		s.onForget()
	}
}

// room errs when what may never be evicted leaves no room for n more bytes.
func (s *Store) room(n int64) error {
	if kept := s.kept.Load(); kept+n > s.maxBytes {
		return fmt.Errorf("memory store: overrides and open holds take %d of %d bytes, %d more do not fit; "+
			"raise the store's size, remove overrides or bound the calls in flight: %w", kept, s.maxBytes, n, store.ErrFull)
	}
	return nil
}
