package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/memory"
)

// TestEverythingAtOnce calls all methods from many goroutines, in a store so small that it evicts all the time, over
// checks in any order of shards. Run it with -race. In the end nothing may be left over.
func TestEverythingAtOnce(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const users, workers, calls = 50, 8, 4000
	var clock atomic.Int64
	clock.Store(1e15)
	s := memory.New(memory.Options{MaxBytes: 30_000, Shards: 3, Now: func() int64 { return clock.Add(100) }})
	s.OnChange(func(store.Change) {})
	var group sync.WaitGroup
	for w := range uint64(workers) {
		group.Go(func() {
			random := rand.New(rand.NewPCG(seed, w))
			ans := new(store.Answer)
			for range calls {
				if err := anything(s, random, users, ans); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	clock.Add(2 * store.KeepAnswers.Microseconds())
	for n := range 20_000 { // calls sweep
		take(t, s, user(n%users), 0, time.Hour)
		take(t, s, global, 0, time.Hour)
	}
	for n := range users {
		if _, err := s.SetOverride(context.Background(), user(n), ""); err != nil {
			t.Fatalf("SetOverride: %v", err)
		}
		if err := s.Reset(context.Background(), user(n)); err != nil {
			t.Fatalf("Reset: %v", err)
		}
	}
	if err := s.Reset(context.Background(), global); err != nil {
		t.Fatalf("Reset: %v", err)
	}
	if stats := s.Stats(); stats.Subjects != 0 || stats.Bytes != 0 {
		t.Errorf("after all is forgotten the store holds %+v, want nothing", stats)
	}
}

// anything makes one random call.
func anything(s *memory.Store, random *rand.Rand, users int, ans *store.Answer) error {
	ctx := context.Background()
	limits := []store.Limit{{Max: 50, Period: time.Millisecond}, {Max: 1e6, Period: time.Second}}
	req := &store.Request{Checks: []store.Check{{Subject: global, Unit: store.Requests, Amount: 1, Limits: limits}}}
	for _, n := range random.Perm(users)[:random.IntN(4)] {
		version, _, err := s.Override(ctx, user(n))
		if err != nil {
			return err
		}
		req.Checks = append(req.Checks, store.Check{
			Subject: user(n), Unit: store.Unit(1 + random.IntN(3)), Amount: random.Int64N(3), Limits: limits, Override: version,
		})
	}
	random.Shuffle(len(req.Checks), func(i, j int) { req.Checks[i], req.Checks[j] = req.Checks[j], req.Checks[i] })
	onlyRequests := func() {
		for i := range req.Checks {
			req.Checks[i].Unit = store.Requests
		}
	}
	var err error
	id := fmt.Sprint(random.IntN(20))
	switch random.IntN(14) {
	case 10, 11, 12:
		onlyRequests()
		req.Hold = &store.Hold{
			ID: id, Fingerprint: 1, Lease: time.Second, USD: 1, Slot: true, ReleaseOnExpiry: true,
			InLine: random.IntN(2) == 0, Extend: random.IntN(3) == 0,
		}
		for i := range req.Checks {
			req.Checks[i].Unit, req.Checks[i].Amount = store.USD, 1
		}
		last := req.Checks[len(req.Checks)-1]
		last.Unit, last.Limits = store.Concurrent, []store.Limit{{Max: 2}}
		req.Checks = append(req.Checks, last)
		err = s.Admit(ctx, req, ans)
	case 13:
		st := &store.Settlement{ID: id, Fingerprint: 1, USD: 1, Book: int64(random.IntN(2)), Release: random.IntN(3) == 0}
		for i := range req.Checks {
			st.Parts = append(st.Parts, store.Part{Subject: req.Checks[i].Subject, USD: time.Second})
		}
		err = s.Settle(ctx, st, new(store.Settled))
	case 0:
		onlyRequests()
		_, err = s.Refund(ctx, req, ans)
	case 1:
		err = s.Reset(ctx, user(random.IntN(users)))
	case 2:
		_, err = s.SetOverride(ctx, user(random.IntN(users)), strings.Repeat("x", random.IntN(2)))
	default:
		err = s.Admit(ctx, req, ans)
	}
	if errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrNoHold) || errors.Is(err, store.ErrMismatch) {
		return nil // the overrides of 50 users just about fill it
	}
	return err
}

// TestFullOfOverrides shows what a store that overrides fill still does: it knows the subjects that it has, looks, denies
// and counts for the global subject, but takes no new subject.
func TestFullOfOverrides(t *testing.T) {
	ctx := context.Background()
	s := memory.New(memory.Options{MaxBytes: 2000, Shards: 2})
	if _, err := s.SetOverride(ctx, user(0), strings.Repeat("x", 1700)); err != nil {
		t.Fatalf("SetOverride: %v", err)
	}
	for _, tt := range []struct {
		what    string
		subject store.Subject
		amount  int64
		want    error
	}{
		{"a new subject", user(1), 1, store.ErrFull},
		{"a look at a new subject", user(1), 0, nil},
		{"a new subject over its limit", user(1), 11, nil},
		{"the global subject", global, 1, nil},
	} {
		err := s.Admit(ctx, &store.Request{Checks: []store.Check{{
			Subject: tt.subject, Unit: store.Requests, Amount: tt.amount, Limits: []store.Limit{{Max: 10, Period: time.Hour}},
		}}}, new(store.Answer))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
		}
	}
}
