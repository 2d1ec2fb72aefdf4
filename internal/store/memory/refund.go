package memory

import (
	"context"
	"fmt"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/window"
)

// Refund takes hits back. Beyond the contract's errors it errs for a request that is out of the contract's bounds.
func (s *Store) Refund(ctx context.Context, req *store.Request, ans *store.Answer) (int64, error) {
	if err := s.inTime(ctx, req.Deadline); err != nil {
		return 0, err
	}
	if err := req.ValidateRefund(); err != nil {
		return 0, fmt.Errorf("memory store: %w", err)
	}
	var buf [fewSlots]slot
	slots := s.slots(req, buf[:0])
	s.lock(slots)
	took, err := s.refund(req, slots, ans)
	unlock(slots)
	if took > 0 || req.At != 0 { // then the others may have got something back though the first did not
		for i := range req.Checks {
			s.changed(req.Checks[i].Subject)
		}
	}
	return took, err
}

// refund takes back under the locks of all shards concerned.
func (s *Store) refund(req *store.Request, slots []slot, ans *store.Answer) (int64, error) {
	now := s.begin(ans)
	if err := find(req, slots); err != nil {
		return 0, err
	}
	if stale(req, slots, ans) {
		return 0, nil
	}
	look(req, slots, now) // the windows asked for say how far back hits are live
	take := takeBack
	if req.At != 0 {
		take = takeBackAt
	}
	took := take(req, slots)
	s.ask(looking(req), slots, now, ans)
	s.finish(req, slots, now, ans)
	return took, nil
}

// look begins the decision on each log and has it follow the windows asked for.
func look(req *store.Request, slots []slot, now int64) {
	for i := range slots {
		sl, c := &slots[i], &req.Checks[i]
		if sl.log == nil {
			continue
		}
		sl.log.Begin(now)
		for j := range c.Limits {
			sl.log.Ask(j, limit(c.Unit, &c.Limits[j]), 1)
		}
	}
}

// takeBack takes from the first check's log what it has, and from the others the hits of the same moments.
func takeBack(req *store.Request, slots []slot) int64 {
	if len(slots) == 0 || slots[0].log == nil {
		return 0
	}
	var buf [8]window.Piece
	pieces := slots[0].log.TakeBack(req.Checks[0].Amount, buf[:0])
	took := int64(0)
	for _, p := range pieces {
		took += p.Amount
	}
	for i := 1; i < len(slots); i++ {
		log, left := slots[i].log, req.Checks[i].Amount
		if log == nil {
			continue
		}
		for _, p := range pieces {
			if left == 0 {
				break
			}
			left -= log.TakeBackAt(p.At, min(p.Amount, left))
		}
	}
	return took
}

// takeBackAt takes the hits of one moment from each log, and returns what the first had.
func takeBackAt(req *store.Request, slots []slot) int64 {
	first := int64(0)
	for i := range slots {
		if slots[i].log == nil {
			continue
		}
		took := slots[i].log.TakeBackAt(req.At, req.Checks[i].Amount)
		if i == 0 {
			first = took
		}
	}
	return first
}

// looking is the request with nothing asked for.
func looking(req *store.Request) *store.Request {
	peek := *req
	peek.Checks = make([]store.Check, len(req.Checks))
	copy(peek.Checks, req.Checks)
	for i := range peek.Checks {
		peek.Checks[i].Amount = 0
	}
	return &peek
}
