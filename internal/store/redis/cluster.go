package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
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
//
// A hold has a part and a record of its own at each subject. The first subject's record says what counts: it is taken last and
// settled first, and a repeat completes what a crash has left out. Calls of one id that race may find each other's parts; the
// last of them that is denied undoes a part. An extension that asks for more looks at all subjects before it takes of one; what
// it has taken when another then denies stays held until the settlement, which errs towards denying. Leases of the parts end by
// their own nodes' clocks, and each subject has its own line.

// Bounds of undoing after the caller has been answered.
const (
	// undoTimeout is how long one may take.
	undoTimeout = time.Second
	// maxUndos is how many may be under way at once. Beyond them a hit stands, which under-admits.
	maxUndos = 256
)

// step is the checks of a request that share a slot; they stand side by side in it.
type step struct {
	subject store.Subject
	first   store.Subject // of the request
	checks  []store.Check
	at      []int64 // when each check's hit was taken
}

func steps(req *store.Request) []step {
	checks := req.Checks
	var all []step
	begin := 0
	for i := 1; i <= len(checks); i++ {
		if i == len(checks) || checks[i].Subject != checks[begin].Subject {
			all = append(all, step{
				subject: checks[begin].Subject, first: checks[0].Subject, checks: checks[begin:i], at: make([]int64, i-begin),
			})
			begin = i
		}
	}
	return all
}

// admitBySteps asks a request whose checks are in several slots. Each subject keeps its part of a hold under a record of its own.
func (s *Store) admitBySteps(ctx context.Context, req *store.Request, ans *store.Answer) error {
	all := steps(req)
	parts := make([]store.Answer, len(all))
	fits := make([]bool, len(all))
	admitted := !req.Look
	if isExtend(req) { // a raise that one step denies is not made at the others: look first
		if err := s.tryExtend(ctx, req, all, parts); err != nil {
			return err
		}
		if fit := !slices.ContainsFunc(parts, func(part store.Answer) bool { return !part.Admitted }); !fit || !admitted {
			merge(all, parts, fit, ans)
			ans.Hold = parts[0].Hold
			return nil
		}
		clear(parts)
	}
	for i := len(all) - 1; i >= 0; i-- {
		if err := s.decideStep(ctx, req, all[i], admitted, &parts[i]); err != nil {
			s.undoInBackground(req.Hold, all[i+1:], parts[i+1:])
			return err
		}
		all[i].dateBy(&parts[i].Hold)
		fits[i] = parts[i].Admitted
		parts[i].Admitted = admitted && fits[i] // and so its hits were taken
		admitted = admitted && (fits[i] || parts[i].Hold.Repeat)
	}
	hold := parts[0].Hold
	ended := hold.Repeat && hold.Status != store.Active
	if (!admitted || ended) && !req.Look && !isExtend(req) {
		if err := s.undo(ctx, req, all, parts); err != nil {
			return err
		}
	}
	fresh := hold.Status == store.Active && !hold.Repeat && !isExtend(req) // though what it found elsewhere may not fit twice
	merge(all, parts, fresh || !slices.Contains(fits, false), ans)
	if hold.Status == store.NoHold {
		ans.Hold = queued(parts, fits)
	} else {
		ans.Hold = hold
	}
	return nil
}

// tryExtend renews the lease at every step, and tells whether each of them has room for what is missing.
func (s *Store) tryExtend(ctx context.Context, req *store.Request, all []step, parts []store.Answer) error {
	for i := len(all) - 1; i >= 0; i-- {
		if err := s.decideStep(ctx, req, all[i], false, &parts[i]); err != nil {
			return err
		}
	}
	return nil
}

// queued tells whether slots are all that the steps lacked, and where the request stands in line for them.
func queued(parts []store.Answer, fits []bool) store.HoldState {
	var state store.HoldState
	for i := range parts {
		h := &parts[i].Hold
		if !fits[i] && !h.Queued {
			return store.HoldState{}
		}
		state.Queued, state.Ahead = state.Queued || h.Queued, max(state.Ahead, h.Ahead)
	}
	return state
}

// holdID is the id of the step's part of a hold.
func (one step) holdID(hold *store.Hold) string {
	if one.subject == one.first {
		return hold.ID
	}
	return idAway(one.first, hold.ID)
}

// dateBy notes when the hits were taken that an undo is to take back: of a repeat, at the hold's admission.
func (one step) dateBy(hold *store.HoldState) {
	for i := range one.at {
		if hold.Repeat {
			one.at[i] = hold.At
		}
	}
}

func isExtend(req *store.Request) bool { return req.Hold != nil && req.Hold.Extend }

// decideStep asks one step with its subject's part of the hold, or looks how it stands. An extension that looks renews the lease
// all the same.
func (s *Store) decideStep(ctx context.Context, req *store.Request, one step, take bool, ans *store.Answer) error {
	flags := byte(0)
	if !take {
		flags = dryRun
	}
	if req.Hold != nil && one.subject != one.first {
		part, hold := *req, *req.Hold
		hold.ID = one.holdID(req.Hold)
		part.Hold = &hold
		req = &part
	}
	if !isExtend(req) {
		return s.decide(ctx, req, one.checks, flags, ans, one.at)
	}
	if take {
		err := s.decide(ctx, req, one.checks, 0, ans, one.at)
		if !errors.Is(err, store.ErrNoHold) || one.subject == one.first {
			return err
		}
	}
	hold := *req.Hold
	hold.USD, hold.Tokens = 0, 0
	bare := store.Request{
		Hold: &hold, Deadline: req.Deadline,
		Checks: []store.Check{{Subject: one.subject, Unit: store.USD, Override: one.checks[0].Override}},
	}
	err := s.decide(ctx, &bare, bare.Checks, 0, ans, nil)
	if err != nil && (!errors.Is(err, store.ErrNoHold) || one.subject == one.first) { // else it had no part in the hold
		return err
	}
	renewed := ans.Hold
	reset(ans)
	missing := append([]store.Check(nil), one.checks...)
	if renewed.Status != store.Active { // it is a look
		err := s.decide(ctx, &store.Request{Checks: missing, Deadline: req.Deadline}, missing, dryRun, ans, one.at)
		ans.Hold = renewed
		return err
	}
	for i := range missing {
		if c := &missing[i]; c.Unit == store.USD {
			c.Amount = max(0, c.Amount-renewed.USD)
		} else {
			c.Amount = max(0, c.Amount-renewed.Tokens)
		}
	}
	err = s.decide(ctx, &store.Request{Checks: missing, Deadline: req.Deadline}, missing, dryRun, ans, one.at)
	ans.Hold, ans.Admitted = renewed, true
	passMissing(missing, ans)
	return err
}

// passMissing lets the checks pass of which nothing is missing, and says whether the others do.
func passMissing(missing []store.Check, ans *store.Answer) {
	next := 0
	for i := range missing {
		for j := range missing[i].Limits {
			if next == len(ans.States) {
				return
			}
			st := &ans.States[next]
			next++
			if missing[i].Amount == 0 {
				st.Wait = 0
			}
			ans.Admitted = ans.Admitted && (st.Wait == 0 || missing[i].Limits[j].Shadow)
		}
	}
}

// undo takes back what the admitted steps took, and puts the states after it in the place of theirs.
func (s *Store) undo(ctx context.Context, req *store.Request, all []step, parts []store.Answer) error {
	ctx, cancel := s.bound(ctx, req.Deadline)
	defer cancel()
	for i := range all {
		if !took(all[i], &parts[i]) {
			continue
		}
		mark := newMark()
		after, err := s.undoStep(ctx, req.Hold, all[i], mark)
		if err != nil {
			s.undoMarked(req.Hold, all[i], mark)
			s.undoInBackground(req.Hold, all[i+1:], parts[i+1:])
			return err
		}
		parts[i] = after
	}
	return nil
}

// took tells whether a step's answer says that something was taken. What another call of the same id took away from the first
// subject is undone by the last call that has found it.
func took(one step, part *store.Answer) bool {
	return part.Admitted && !part.Hold.Repeat ||
		part.Hold.Repeat && part.Hold.Status == store.Active && one.subject != one.first
}

// undoStep takes back a step's part of a hold, and its hits, check by check. It answers how the step stands after it. The hits of
// a hold go with it: while another call has found it they stay, and who has ended it has seen to them.
func (s *Store) undoStep(ctx context.Context, hold *store.Hold, one step, mark string) (store.Answer, error) {
	var after store.Answer
	checks := one.checks
	if hold != nil {
		st := &store.Settlement{ID: one.holdID(hold)}
		err := s.settles.settle(ctx, st, []store.Part{{Subject: one.subject}}, settleCancel, new(store.Settled))
		switch {
		case errors.Is(err, store.ErrNoHold):
			checks = nil
		case err != nil:
			return after, err
		}
	}
	for i := range checks {
		c := &one.checks[i]
		var err error
		switch {
		case c.Unit == store.Requests:
			piece := appendUint56(appendUint56(nil, one.at[i]), c.Amount)
			by := piecewise{pieces: string(piece), mark: mark + c.Unit.String()}
			_, _, err = s.refund(ctx, one.checks[i:i+1], by, &after)
		case hold == nil && c.Unit != store.Concurrent:
			err = s.undoPiece(ctx, c, one.at[i], mark+c.Unit.String())
		}
		if err != nil {
			return after, err
		}
	}
	reset(&after)
	err := s.decide(ctx, &store.Request{Checks: one.checks}, one.checks, dryRun, &after, nil)
	return after, err
}

// undoPiece takes back tokens or money that a check took without a hold.
func (s *Store) undoPiece(ctx context.Context, c *store.Check, at int64, mark string) error {
	st := &store.Settlement{ID: mark, Book: at}
	part := store.Part{Subject: c.Subject}
	if c.Unit == store.USD {
		st.USD, part.USD = c.Amount, store.MinPeriod
	} else {
		st.Tokens, part.Tokens = c.Amount, store.MinPeriod
	}
	err := s.settles.settle(ctx, st, []store.Part{part}, settlePiece, new(store.Settled))
	if errors.Is(err, store.ErrNoHold) { // which is how an undo is answered
		return nil
	}
	return err
}

// undoInBackground takes back what was admitted after the caller has been answered with an error.
func (s *Store) undoInBackground(hold *store.Hold, all []step, parts []store.Answer) {
	if hold != nil && hold.Extend {
		return // what it raised stays held until the settlement
	}
	for i := range all {
		if took(all[i], &parts[i]) {
			s.undoMarked(hold, all[i], newMark())
		}
	}
}

// undoMarked takes one step back, whether or not an earlier undo under the same mark got through.
func (s *Store) undoMarked(hold *store.Hold, one step, mark string) {
	one.checks = append([]store.Check(nil), one.checks...) // the caller's may change
	if hold != nil {
		hold = &store.Hold{ID: hold.ID}
	}
	select {
	case s.undos <- struct{}{}:
	default:
		return
	}
	s.changes.wait.Go(func() {
		defer func() { <-s.undos }()
		ctx, cancel := context.WithTimeout(s.changes.ctx, undoTimeout)
		defer cancel()
		_, _ = s.undoStep(ctx, hold, one, mark) // if it fails the hit stands, which under-admits
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
		ans.Held = append(ans.Held, part.Held...)
		ans.Now = max(ans.Now, part.Now)
		first += len(all[i].checks)
	}
	ans.Admitted = admitted
	if len(ans.Stale) > 0 {
		ans.Admitted, ans.States, ans.Seqs, ans.Held = false, ans.States[:0], ans.Seqs[:0], ans.Held[:0]
	}
}
