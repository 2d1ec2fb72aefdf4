package engine

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// A denial until T is a denial until T: a log only loses hits as time goes by, so until then it can be answered here. What
// would make it untrue earlier, a refund, a reset or an override, is heard from the store; a new policy brings new limits,
// which a remembered denial is compared with. While the store cannot be heard nothing is remembered.
//
// Only a check for one hit is remembered, and only where the limit is just used up: there the wait, the reset and the
// remainder of 0 stay exact until T. By a limit that was lowered below what is used, the first hits to leave change nothing.

// Bounds of what is remembered.
const (
	denialShards   = 64
	denialsInShard = 1024
	longestID      = 256 // bytes; the denial of a longer id is not remembered
)

type denialKey struct {
	subject store.Subject
	unit    store.Unit
}

type denial struct {
	limits *policy.Limits // what it was made from
	limit  *policy.Limit  // the one with the longest wait
	until  time.Time      // answered until then: a moment not later than the one at which the store would admit,
	passes time.Time      // and one not earlier than it
}

type denialShard struct {
	generation atomic.Uint64 // counts changes heard; it moves before the change is acted on
	mu         sync.Mutex
	byKey      map[denialKey]denial
}

type denials struct {
	seed   maphash.Seed
	deaf   atomic.Bool
	held   prometheus.Gauge
	shards [denialShards]denialShard
}

func newDenials(held prometheus.Gauge) *denials {
	d := &denials{seed: maphash.MakeSeed(), held: held}
	for i := range d.shards {
		d.shards[i].byKey = make(map[denialKey]denial)
	}
	return d
}

func (d *denials) shard(s store.Subject) *denialShard {
	return &d.shards[maphash.String(d.seed, s.ID)%denialShards]
}

// change hears from the store that something was changed otherwise than by a hit.
func (d *denials) change(c store.Change) {
	switch {
	case c.Lost:
		d.deaf.Store(true)
		d.forgetAll()
	case c.Restored:
		d.forgetAll()
		d.deaf.Store(false)
	default:
		s := d.shard(c.Subject)
		s.generation.Add(1)
		s.mu.Lock()
		for _, unit := range []store.Unit{store.Requests, store.Tokens, store.USD} {
			d.drop(s, denialKey{subject: c.Subject, unit: unit})
		}
		s.mu.Unlock()
	}
}

func (d *denials) forgetAll() {
	for i := range d.shards {
		s := &d.shards[i]
		s.generation.Add(1)
		s.mu.Lock()
		d.held.Sub(float64(len(s.byKey)))
		clear(s.byKey)
		s.mu.Unlock()
	}
}

// drop removes one denial. The shard is locked.
func (d *denials) drop(s *denialShard, k denialKey) {
	if _, ok := s.byKey[k]; ok {
		delete(s.byKey, k)
		d.held.Dec()
	}
}

// mark notes how far changes have been heard before the store is asked: the sum of the generations of the checks' shards.
func (d *denials) mark(checks []policy.Check) uint64 {
	sum := uint64(0)
	for i := range checks {
		sum += d.shard(checks[i].Subject).generation.Load()
	}
	return sum
}

// find returns the denial of a check that still holds.
func (d *denials) find(check *policy.Check, now time.Time) (denial, bool) {
	if max(check.Amount, 1) != 1 || d.deaf.Load() {
		return denial{}, false
	}
	k := denialKey{subject: check.Subject, unit: check.Unit}
	s := d.shard(check.Subject)
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.byKey[k]
	if !ok {
		return denial{}, false
	}
	if found.limits != check.Limits || !now.Before(found.until) {
		d.drop(s, k)
		return denial{}, false
	}
	return found, true
}

// remember keeps the denials that the store has just given, if nothing has changed since mark was taken: a change moves the
// generation before it drops what it made untrue, so either it finds what is kept here or it is seen here. The store decided
// between sent and received, so a wait ends between sent+wait and received+wait.
func (d *denials) remember(sc *scratch, mark uint64, sent, received time.Time) {
	checks := sc.resolution.Admit
	if d.deaf.Load() || d.mark(checks) != mark {
		return
	}
	for i := range checks {
		check, r := &checks[i], sc.results[i]
		if !r.denied || r.state.Wait == store.Never || max(check.Amount, 1) != 1 || check.Limits == nil ||
			r.state.Used != check.Named[r.limit].Max || len(check.Subject.ID) > longestID {
			continue
		}
		s := d.shard(check.Subject)
		s.mu.Lock()
		if len(s.byKey) >= denialsInShard {
			d.makeRoom(s, received)
		}
		k := denialKey{subject: check.Subject, unit: check.Unit}
		if _, ok := s.byKey[k]; !ok {
			d.held.Inc()
		}
		s.byKey[k] = denial{
			limits: check.Limits, limit: &check.Named[r.limit],
			until: sent.Add(r.state.Wait), passes: received.Add(r.state.Wait),
		}
		s.mu.Unlock()
	}
	if d.mark(checks) != mark { // a change that came in between may have looked before this was kept
		for i := range checks {
			s := d.shard(checks[i].Subject)
			s.mu.Lock()
			d.drop(s, denialKey{subject: checks[i].Subject, unit: checks[i].Unit})
			s.mu.Unlock()
		}
	}
}

// makeRoom drops denials that no longer hold, or some that do. The shard is locked.
func (d *denials) makeRoom(s *denialShard, now time.Time) {
	looked := 0
	for k, v := range s.byKey {
		looked++
		if !now.Before(v.until) || looked > 8 {
			d.drop(s, k)
		}
		if looked > 16 {
			return
		}
	}
}

// denyLocally answers a call that a remembered denial covers.
func (e *Engine) denyLocally(sc *scratch, now time.Time, dec *Decision) bool {
	checks := sc.resolution.Admit
	hit := uint64(0)
	sc.results = sc.results[:0]
	for i := range checks {
		found, ok := e.denials.find(&checks[i], now)
		r := result{limit: -1}
		if ok {
			hit |= 1 << i
			wait := found.passes.Sub(now)
			r = result{denied: true, limit: limitIndex(&checks[i], found.limit), state: store.State{
				Used: found.limit.Max, Reset: wait, Wait: wait,
			}}
		}
		sc.results = append(sc.results, r)
	}
	if hit == 0 {
		return false
	}
	dec.Mode, dec.Denied = Local, true
	for i, named := range sc.resolution.Of {
		switch {
		case named.Admit&hit != 0:
			sc.answerDescriptor(&dec.Statuses[i], checks, named.Admit&hit)
			dec.decide(&dec.Statuses[i])
		case named.Admit != 0: // this one's numbers are not known here
			dec.Statuses[i].Matched = true
		}
	}
	return true
}

func limitIndex(check *policy.Check, limit *policy.Limit) int {
	for i := range check.Named {
		if &check.Named[i] == limit {
			return i
		}
	}
	return -1
}
