package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// On a Cluster the logs of a user and of the global tier live in different slots, which one script cannot reach together.
// A request is then asked step by step, one subject at a time: the last one, which is the global tier, first, so that a call
// that it denies creates no key for its user. When a step denies, the steps before it are undone, each by the time and
// amount of its own hit and under a mark, so that a repeated undo does nothing.
//
// What that weakens: between a hit and its undo others see it, so they may be denied by a hit that is about to go; and when
// the sidecar dies in between, the hit stands. Both err towards denying. No interval ever holds more than its limit.

// Bounds of undoing after the caller has been answered.
const (
	// undoTimeout is how long one may take.
	undoTimeout = time.Second
	// maxUndos is how many may be under way at once. Beyond them a hit stands, which under-admits.
	maxUndos = 256
)

// step is the checks of a request that share a slot; they stand side by side in it.
type step struct {
	checks []store.Check
	at     []int64 // when each check's hit was taken
}

func steps(checks []store.Check) []step {
	var all []step
	begin := 0
	for i := 1; i <= len(checks); i++ {
		if i == len(checks) || checks[i].Subject != checks[begin].Subject {
			all = append(all, step{checks: checks[begin:i], at: make([]int64, i-begin)})
			begin = i
		}
	}
	return all
}

// admitBySteps asks a request whose checks are in several slots.
func (s *Store) admitBySteps(ctx context.Context, req *store.Request, ans *store.Answer) error {
	all := steps(req.Checks)
	parts := make([]store.Answer, len(all))
	admitted := true
	for i := len(all) - 1; i >= 0; i-- {
		flags := byte(0)
		if !admitted {
			flags = dryRun
		}
		err := s.batch.decide(ctx, all[i].checks, flags, req.Deadline, &parts[i], all[i].at)
		if err != nil {
			s.undoInBackground(all[i+1:], parts[i+1:])
			return err
		}
		admitted = admitted && parts[i].Admitted
		parts[i].Admitted = admitted // and so its hits were taken
	}
	if !admitted {
		if err := s.undo(ctx, req.Deadline, all, parts); err != nil {
			return err
		}
	}
	merge(all, parts, admitted, ans)
	return nil
}

// undo takes back the hits of the steps that were admitted, and puts the states after it in the place of theirs.
func (s *Store) undo(ctx context.Context, deadline time.Time, all []step, parts []store.Answer) error {
	ctx, cancel := s.bound(ctx, deadline)
	defer cancel()
	for i := range all {
		if !parts[i].Admitted {
			continue
		}
		mark := newMark()
		after, err := s.undoStep(ctx, all[i], mark)
		if err != nil {
			s.undoMarked(all[i], mark)
			s.undoInBackground(all[i+1:], parts[i+1:])
			return err
		}
		parts[i] = after
	}
	return nil
}

// undoStep takes back a step's hits, check by check.
func (s *Store) undoStep(ctx context.Context, one step, mark string) (store.Answer, error) {
	var after store.Answer
	for i := range one.checks {
		piece := appendUint56(appendUint56(nil, one.at[i]), one.checks[i].Amount)
		by := piecewise{pieces: string(piece), mark: mark + one.checks[i].Unit.String()}
		if _, _, err := s.refund(ctx, one.checks[i:i+1], by, &after); err != nil {
			return after, err
		}
	}
	return after, nil
}

// undoInBackground takes back what was admitted after the caller has been answered with an error.
func (s *Store) undoInBackground(all []step, parts []store.Answer) {
	for i := range all {
		if parts[i].Admitted {
			s.undoMarked(all[i], newMark())
		}
	}
}

// undoMarked takes one step back, whether or not an earlier undo under the same mark got through.
func (s *Store) undoMarked(one step, mark string) {
	one.checks = append([]store.Check(nil), one.checks...) // the caller's may change
	select {
	case s.undos <- struct{}{}:
	default:
		return
	}
	s.changes.wait.Go(func() {
		defer func() { <-s.undos }()
		ctx, cancel := context.WithTimeout(s.changes.ctx, undoTimeout)
		defer cancel()
		_, _ = s.undoStep(ctx, one, mark) // if it fails the hit stands, which under-admits
	})
}

func newMark() string {
	var id [12]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// merge puts the steps' answers together in the order of the request.
func merge(all []step, parts []store.Answer, admitted bool, ans *store.Answer) {
	first := 0
	for i := range parts {
		part := &parts[i]
		for _, st := range part.Stale {
			st.Check += first
			ans.Stale = append(ans.Stale, st)
		}
		ans.States = append(ans.States, part.States...)
		ans.Seqs = append(ans.Seqs, part.Seqs...)
		ans.Now = max(ans.Now, part.Now)
		first += len(all[i].checks)
	}
	ans.Admitted = admitted
	if len(ans.Stale) > 0 {
		ans.Admitted, ans.States, ans.Seqs = false, ans.States[:0], ans.Seqs[:0]
	}
}

// refundBySteps gives back subject by subject: the others the pieces of the first.
func (s *Store) refundBySteps(ctx context.Context, req *store.Request, ans *store.Answer) (int64, error) {
	all := steps(req.Checks)
	parts := make([]store.Answer, len(all))
	for i := range all { // nothing is given back under an override that has changed
		if err := s.batch.decide(ctx, all[i].checks, dryRun, req.Deadline, &parts[i], all[i].at); err != nil {
			return 0, err
		}
	}
	merge(all, parts, false, ans)
	if len(ans.Stale) > 0 {
		return 0, nil
	}
	reset(ans)
	parts = make([]store.Answer, len(all))
	given, pieces, err := s.refund(ctx, all[0].checks, piecewise{}, &parts[0])
	if err != nil {
		return 0, err
	}
	admitted := parts[0].Admitted
	for i := 1; i < len(all); i++ {
		for c := range all[i].checks {
			check := all[i].checks[c]
			if given == 0 {
				check.Amount = 0
			}
			if _, _, err := s.refund(ctx, []store.Check{check}, piecewise{pieces: pieces}, &parts[i]); err != nil {
				return given, fmt.Errorf("step %d of a refund: %w", i+1, err)
			}
			admitted = admitted && parts[i].Admitted
		}
	}
	merge(all, parts, admitted, ans)
	return given, nil
}
