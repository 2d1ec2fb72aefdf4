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

// A denial until T by a limit of requests is a denial until T: a log of requests only loses hits as time goes by, so until then it
// can be answered here. Tokens, money and slots come back at any moment, by a settlement: their denials are never kept. What
// would make it untrue earlier, a refund, a reset or an override, is heard from the store; a new policy brings new limits,
// which a remembered denial is compared with. While the store cannot be heard nothing is remembered.
//
// Only a check for one hit is remembered, and only where the limit is just used up: there the wait, the reset and the
// remainder of 0 stay exact until T. By a limit that was lowered below what is used, the first hits to leave change nothing.

// Bounds of what is remembered.
const (
	rememberedShards  = 64
	rememberedInShard = 1024
	longestID         = 256 // bytes; the denial of a longer id is not remembered
)

// remembered is one denial that is kept.
type remembered struct {
	limits *policy.Limits // what it was made from
	limit  *policy.Limit  // the one with the longest wait
	until  time.Time      // answered until then: a moment not later than the one at which the store would admit,
	passes time.Time      // and one not earlier than it
}

type rememberedShard struct {
	generation atomic.Uint64 // counts changes heard; it moves before the change is acted on
	mu         sync.Mutex
	bySubject  map[store.Subject]remembered
}

// rememberedDenials are those of all subjects. They are safe for concurrent use.
type rememberedDenials struct {
	seed   maphash.Seed
	deaf   atomic.Bool
	held   prometheus.Gauge
	shards [rememberedShards]rememberedShard
}

func newRemembered(held prometheus.Gauge) *rememberedDenials {
	d := &rememberedDenials{seed: maphash.MakeSeed(), held: held}
	for i := range d.shards {
		d.shards[i].bySubject = make(map[store.Subject]remembered)
	}
	return d
}

func (d *rememberedDenials) shard(s store.Subject) *rememberedShard {
	return &d.shards[maphash.String(d.seed, s.ID)%rememberedShards]
}

// change hears from the store that something was changed otherwise than by a hit.
func (d *rememberedDenials) change(c store.Change) {
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
		d.drop(s, c.Subject)
		s.mu.Unlock()
	}
}

func (d *rememberedDenials) forgetAll() {
	for i := range d.shards {
		s := &d.shards[i]
		s.generation.Add(1)
		s.mu.Lock()
		d.held.Sub(float64(len(s.bySubject)))
		clear(s.bySubject)
		s.mu.Unlock()
	}
}

// drop removes one denial. The shard is locked.
func (d *rememberedDenials) drop(s *rememberedShard, k store.Subject) {
	if _, ok := s.bySubject[k]; ok {
		delete(s.bySubject, k)
		d.held.Dec()
	}
}

// mark notes how far changes have been heard before the store is asked: the sum of the generations of the checks' shards.
func (d *rememberedDenials) mark(checks []policy.Check) uint64 {
	sum := uint64(0)
	for i := range checks {
		sum += d.shard(checks[i].Subject).generation.Load()
	}
	return sum
}

// find returns the denial of a check that still holds.
func (d *rememberedDenials) find(check *policy.Check, now time.Time) (remembered, bool) {
	if check.Unit != store.Requests || max(check.Amount, 1) != 1 || d.deaf.Load() {
		return remembered{}, false
	}
	k := check.Subject
	s := d.shard(check.Subject)
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.bySubject[k]
	if !ok {
		return remembered{}, false
	}
	if found.limits != check.Limits || !now.Before(found.until) {
		d.drop(s, k)
		return remembered{}, false
	}
	return found, true
}

// keep keeps the denials that the store has just given, if nothing has changed since mark was taken: a change moves the
// generation before it drops what it made untrue, so either it finds what is kept here or it is seen here. The store decided
// between sent and received, so a wait ends between sent+wait and received+wait.
func (d *rememberedDenials) keep(sc *scratch, mark uint64, sent, received time.Time) {
	checks := sc.resolution.Admit
	if d.deaf.Load() || d.mark(checks) != mark {
		return
	}
	for i := range checks {
		check, r := &checks[i], sc.results[i]
		if check.Unit != store.Requests || !r.denied || r.state.Wait == store.Never || max(check.Amount, 1) != 1 || check.Limits == nil ||
			r.state.Used != check.Named[r.limit].Max || len(check.Subject.ID) > longestID {
			continue
		}
		s := d.shard(check.Subject)
		s.mu.Lock()
		if len(s.bySubject) >= rememberedInShard {
			d.makeRoom(s, received)
		}
		k := check.Subject
		if _, ok := s.bySubject[k]; !ok {
			d.held.Inc()
		}
		s.bySubject[k] = remembered{
			limits: check.Limits, limit: &check.Named[r.limit],
			until: sent.Add(r.state.Wait), passes: received.Add(r.state.Wait),
		}
		s.mu.Unlock()
	}
	if d.mark(checks) != mark { // a change that came in between may have looked before this was kept
		for i := range checks {
			s := d.shard(checks[i].Subject)
			s.mu.Lock()
			d.drop(s, checks[i].Subject)
			s.mu.Unlock()
		}
	}
}

// makeRoom drops denials that no longer hold, or some that do. The shard is locked.
func (d *rememberedDenials) makeRoom(s *rememberedShard, now time.Time) {
	looked := 0
	for k, v := range s.bySubject {
		looked++
		if !now.Before(v.until) || looked > 8 {
			d.drop(s, k)
		}
		if looked > 16 {
			return
		}
	}
}

// cover reports whether a remembered denial covers the call, into sc.denied and sc.results.
func (d *rememberedDenials) cover(sc *scratch, now time.Time) bool {
	checks := sc.resolution.Admit
	sc.denied = 0
	sc.results = sc.results[:0]
	for i := range checks {
		found, ok := d.find(&checks[i], now)
		r := result{limit: -1}
		if ok {
			sc.denied |= 1 << i
			wait := found.passes.Sub(now)
			r = result{denied: true, limit: limitIndex(&checks[i], found.limit), state: store.State{
				Used: found.limit.Max, Reset: wait, Wait: wait,
			}}
		}
		sc.results = append(sc.results, r)
	}
	return sc.denied != 0
}

// denyLocally answers a call that a remembered denial covers.
func (sc *scratch) denyLocally(dec *Decision) {
	dec.Mode, dec.Denied = Local, true
	for i, named := range sc.resolution.Of {
		switch {
		case named.Admit&sc.denied != 0:
			sc.answerDescriptor(&dec.Statuses[i], sc.resolution.Admit, named.Admit&sc.denied)
			dec.decide(&dec.Statuses[i])
		case named.Admit != 0: // this one's numbers are not known here
			dec.Statuses[i].Matched = true
		}
	}
}

func limitIndex(check *policy.Check, limit *policy.Limit) int {
	for i := range check.Named {
		if &check.Named[i] == limit {
			return i
		}
	}
	return -1
}
