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
// A request is then asked step by step, one subject at a time and the global tier last. When a step denies, the steps before
// it are undone, each by the time and amount of its own hit and under a mark, so that a repeated undo does nothing.
//
// What that weakens: between a hit and its undo others see it, so they may be denied by a hit that is about to go; and when
// the sidecar dies in between, the hit stands. Both err towards denying. No interval ever holds more than its limit.

// undoTimeout bounds an undo; it goes on after the caller's deadline.
const undoTimeout = time.Second

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
	for i := range all {
		flags := byte(0)
		if i > 0 && !parts[i-1].Admitted {
			flags = dryRun
		}
		err := s.batch.decide(ctx, all[i].checks, flags, req.Deadline, &parts[i], all[i].at)
		if err != nil {
			s.undoInBackground(all[:i], parts[:i])
			return err
		}
		if i > 0 && flags == dryRun {
			parts[i].Admitted = false
		}
	}
	last := len(all) - 1
	if parts[last].Admitted {
		return merge(all, parts, true, ans)
	}
	if err := s.undo(ctx, req.Deadline, all, parts); err != nil {
		return err
	}
	return merge(all, parts, false, ans)
}

// taken reports whether a step has counted its hits.
func taken(part *store.Answer) bool { return part.Admitted && len(part.Stale) == 0 }

// undo takes back the hits of the steps that were admitted, and puts the states after it in the place of theirs.
func (s *Store) undo(ctx context.Context, deadline time.Time, all []step, parts []store.Answer) error {
	ctx, cancel := s.bound(ctx, deadline)
	defer cancel()
	for i := range all {
		if !taken(&parts[i]) {
			continue
		}
		mark := newMark()
		after := store.Answer{}
		if _, err := s.refund(ctx, all[i].checks, mark, all[i].at, &after); err != nil {
			s.undoMarked(all[i], mark)
			s.undoInBackground(all[i+1:], parts[i+1:])
			return err
		}
		after.Admitted = true
		parts[i] = after
	}
	return nil
}

// undoInBackground takes back what was admitted after the caller has been answered with an error.
func (s *Store) undoInBackground(all []step, parts []store.Answer) {
	for i := range all {
		if taken(&parts[i]) {
			s.undoMarked(all[i], newMark())
		}
	}
}

// undoMarked takes one step back, whether or not an earlier undo under the same mark got through.
func (s *Store) undoMarked(one step, mark string) {
	checks := append([]store.Check(nil), one.checks...)
	s.changes.wait.Go(func() {
		ctx, cancel := context.WithTimeout(s.changes.ctx, undoTimeout)
		defer cancel()
		_, _ = s.refund(ctx, checks, mark, one.at, &store.Answer{}) // the hit stands then, which under-admits
	})
}

func newMark() string {
	var id [12]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// merge puts the steps' answers together in the order of the request.
func merge(all []step, parts []store.Answer, admitted bool, ans *store.Answer) error {
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
	return nil
}

// refundBySteps gives back subject by subject; what the first got back bounds the others.
func (s *Store) refundBySteps(ctx context.Context, req *store.Request, ans *store.Answer) (int64, error) {
	all := steps(req.Checks)
	parts := make([]store.Answer, len(all))
	given := int64(0)
	for i := range all {
		checks := append([]store.Check(nil), all[i].checks...)
		for c := range checks {
			if i > 0 {
				checks[c].Amount = min(checks[c].Amount, given)
			}
		}
		got, err := s.refund(ctx, checks, "", nil, &parts[i])
		if err != nil {
			return given, fmt.Errorf("step %d of a refund: %w", i+1, err)
		}
		if i == 0 {
			given = got
		}
	}
	return given, merge(all, parts, true, ans)
}
