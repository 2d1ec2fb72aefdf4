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

// drop forgets a subject's usage, under its shard's lock. Its override stays.
func (s *Store) drop(sh *shard, sub *subject) {
	sh.unlink(sub)
	clear(sub.logs[:])
	if sub.override != nil {
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
	if early {
		s.early.Add(1)
	} else {
		s.evicted.Add(1)
	}
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
		s.sweep(sh, steps, now)
	}
}

// sweep looks at some subjects of a shard in turn, under its lock, and evicts those whose hits are all dead.
func (s *Store) sweep(sh *shard, steps int, now int64) {
	for range steps {
		sub := sh.hand
		if sub == nil {
			sub = sh.oldest
		}
		if sub == nil {
			return
		}
		sh.hand = sub.newer
		if sub.idle(now) {
			s.evict(sh, sub, now)
		}
	}
}

// shrink evicts the subjects used the longest ago until the store is within its bound, with no lock held. The shards
// take turns.
func (s *Store) shrink(now int64) {
	shards := uint64(s.global())
	for barren := uint64(0); barren < shards && s.bytes.Load() > s.maxBytes; {
		sh := &s.shards[s.victim.Add(1)%shards]
		sh.mu.Lock()
		if sh.oldest != nil {
			s.evict(sh, sh.oldest, now)
			barren = 0
		} else {
			barren++
		}
		sh.mu.Unlock()
	}
}

// room errs when what may never be evicted leaves no room for n more bytes.
func (s *Store) room(n int64) error {
	if kept := s.kept.Load(); kept+n > s.maxBytes {
		return fmt.Errorf("memory store: overrides take %d of %d bytes, %d more do not fit; "+
			"raise the store's size or remove overrides: %w", kept, s.maxBytes, n, store.ErrFull)
	}
	return nil
}
