package storetest

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// modelStore is a store made of the model: what the suite demands, the model does, and what the suite must find can be
// planted in it. It keeps overrides by the other model, of which it is one.
type modelStore struct {
	mu    sync.Mutex
	clock func() int64
	model *holdModel
	old   *model
	// What is planted; nil for nothing.
	before func(*store.Request)                                 // before a request
	after  func(*store.Request, *store.Answer)                  // after it
	ending func(*store.Settlement)                              // before a settlement
	settle func(*store.Settlement, *store.Settled, error) error // after it
	reset  func(store.Subject)                                  // in the place of a reset
}

func newModelStore(clock func() int64) *modelStore {
	return &modelStore{clock: clock, model: newHoldModel(), old: newModel()}
}

func (s *modelStore) Admit(_ context.Context, req *store.Request, ans *store.Answer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model.now = s.clock()
	if s.before != nil {
		req = cloned(req)
		s.before(req)
	}
	if stale := s.old.stale(req.Checks); stale != nil {
		*ans = store.Answer{Now: s.model.now, Stale: stale}
		return nil
	}
	v := s.model.admit(req)
	*ans = v.Answer
	ans.Seqs = make([]int64, len(req.Checks))
	if v.err == nil && s.after != nil {
		s.after(req, ans)
	}
	return v.err
}

func (s *modelStore) Settle(_ context.Context, st *store.Settlement, out *store.Settled) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model.now = s.clock()
	if s.ending != nil {
		own := *st
		st = &own
		s.ending(st)
	}
	got, err := s.model.settle(st)
	*out = got
	if s.settle != nil {
		err = s.settle(st, out, err)
	}
	return err
}

func (s *modelStore) Reset(_ context.Context, subject store.Subject) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reset != nil {
		s.reset(subject)
		return nil
	}
	s.model.reset(subject)
	return nil
}

// cloned is a request of its own, that a planted violation may change.
func cloned(req *store.Request) *store.Request {
	own := *req
	if req.Hold != nil {
		hold := *req.Hold
		own.Hold = &hold
	}
	own.Checks = slices.Clone(req.Checks)
	for i := range own.Checks {
		own.Checks[i].Limits = slices.Clone(own.Checks[i].Limits)
	}
	return &own
}

func (s *modelStore) SetOverride(_ context.Context, subject store.Subject, value string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old.overrides[subject] = store.Stale{Version: s.clock(), Value: value}
	return s.clock(), nil
}

func (s *modelStore) Refund(context.Context, *store.Request, *store.Answer) (int64, error) {
	return 0, store.ErrUnavailable
}

func (s *modelStore) Override(context.Context, store.Subject) (version int64, value string, err error) {
	return 0, "", nil
}
func (s *modelStore) OnChange(func(store.Change)) {}
func (s *modelStore) Ping(context.Context) error  { return nil }
func (s *modelStore) Close() error                { return nil }

// modelFixture opens a model store with a clock set by hand and what is planted in it.
func modelFixture(plant func(*modelStore)) *Fixture {
	now := int64(epoch)
	s := newModelStore(func() int64 { return now })
	if plant != nil {
		plant(s)
	}
	return &Fixture{
		Store: s, Another: func() store.Store { return s }, Keys: func() int { return 0 },
		Set: func(us int64) { s.mu.Lock(); defer s.mu.Unlock(); now = us },
	}
}

// TestModelKeepsTheContract runs the tales on the model: what they demand can be had.
func TestModelKeepsTheContract(t *testing.T) {
	for _, p := range holdParts() {
		switch p.name {
		case "Ledger", "MoneyVolume":
			continue // of so many operations that the model would take for ever
		case "HoldRefusals", "HoldKeys":
			continue // it has no bounds and no keys
		case "HoldRequests":
			continue // it gives no requests back: the other model does, in Refunds and Model
		}
		t.Run(p.name, func(t *testing.T) { p.run(t, modelFixture(nil)) })
	}
}
