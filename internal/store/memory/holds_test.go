package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/memory"
	"github.com/ratelimitd/ratelimitd/internal/store/storetest"
)

// dayOfMoney is a limit of 1,000 nano-USD a day.
var dayOfMoney = []store.Limit{{Max: 1000, Period: 24 * time.Hour}}

// reserve asks for a slot and 100 nano-USD of a subject.
func reserve(s *memory.Store, subject store.Subject, id string) (*store.Answer, error) {
	ans := new(store.Answer)
	err := s.Admit(context.Background(), &store.Request{
		Checks: []store.Check{
			{Subject: subject, Unit: store.USD, Amount: 100, Limits: dayOfMoney},
			{Subject: subject, Unit: store.Concurrent, Amount: 1, Limits: []store.Limit{{Max: 1}}},
		},
		Hold: &store.Hold{ID: id, Fingerprint: 1, Lease: time.Hour, Slot: true, USD: 100},
	}, ans)
	return ans, err
}

// settle settles a hold of a subject at 70 nano-USD.
func settle(s *memory.Store, subject store.Subject, id string) (store.Settled, error) {
	var out store.Settled
	err := s.Settle(context.Background(), &store.Settlement{
		Parts: []store.Part{{Subject: subject, USD: 24 * time.Hour}}, ID: id, Fingerprint: 2, USD: 70,
	}, &out)
	return out, err
}

// spent is the nano-USD that a subject has used, and its slots.
func spent(t *testing.T, s *memory.Store, subject store.Subject) (usd, slots int64) {
	t.Helper()
	ans := new(store.Answer)
	err := s.Admit(context.Background(), &store.Request{Look: true, Checks: []store.Check{
		{Subject: subject, Unit: store.USD, Limits: dayOfMoney},
		{Subject: subject, Unit: store.Concurrent, Limits: []store.Limit{{Max: 1}}},
	}}, ans)
	if err != nil {
		t.Fatalf("Admit: %v", err)
	}
	return ans.States[0].Used, ans.States[1].Used
}

// TestOpenHoldsOutliveEviction floods a store until a subject with a call in flight loses its usage: the slot stays in
// use, the hold is known, and what is settled of it is forgotten with the rest.
func TestOpenHoldsOutliveEviction(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1e15)
	s := memory.New(memory.Options{MaxBytes: 50_000, Shards: 2, Now: clock.Load})
	if ans, err := reserve(s, user(-1), "a"); err != nil || !ans.Admitted {
		t.Fatalf("Admit: %+v, %v", ans, err)
	}
	for n := range 2000 {
		take(t, s, user(n), 1, time.Hour)
	}
	if usd, slots := spent(t, s, user(-1)); usd != 0 || slots != 1 {
		t.Errorf("after the eviction %d nano-USD and %d slots are used, want no usage, and the slot", usd, slots)
	}
	if ans, err := reserve(s, user(-1), "b"); err != nil || ans.Admitted {
		t.Errorf("another call: %+v, %v, want it denied for want of a slot", ans, err)
	}
	out, err := settle(s, user(-1), "a")
	if err != nil || out.Was != store.Active || out.HeldUSD != 100 || out.USD != 70 {
		t.Errorf("Settle: %+v, %v, want the active hold settled", out, err)
	}
	if usd, slots := spent(t, s, user(-1)); usd != 0 || slots != 0 {
		t.Errorf("after the settlement %d nano-USD and %d slots are used, want none", usd, slots)
	}
}

// TestOpenHoldsAloneCanFillTheStore asks for holds until there is no room, and again when the leases are over.
func TestOpenHoldsAloneCanFillTheStore(t *testing.T) {
	const most = 100_000
	var clock atomic.Int64
	clock.Store(1e15)
	s := memory.New(memory.Options{MaxBytes: most, Shards: 1, Now: clock.Load})
	n, err := 0, error(nil)
	for ; n < 1000 && err == nil; n++ {
		_, err = reserve(s, user(n), "a")
		if got := s.Stats().Bytes; got > most {
			t.Fatalf("after %d holds %d bytes are held, want at most %d", n, got, most)
		}
	}
	if !errors.Is(err, store.ErrFull) || n < 50 {
		t.Fatalf("hold %d: error %v, want ErrFull after about 100", n, err)
	}
	for i := range n - 1 {
		if _, slots := spent(t, s, user(i)); slots != 1 {
			t.Fatalf("user %d of %d has lost the slot", i, n)
		}
	}
	clock.Add(time.Hour.Microseconds())
	for i := range n { // the sweep finds the leases that are over
		take(t, s, user(i), 1, time.Minute)
	}
	if ans, err := reserve(s, user(n), "a"); err != nil || !ans.Admitted {
		t.Errorf("a hold when all leases are over: %+v, %v, want it admitted", ans, err)
	}
}

// TestAnswersGiveWayBeforeUsage settles more holds than the store can remember: the oldest answers are forgotten early, each is
// told, and no one's usage is.
func TestAnswersGiveWayBeforeUsage(t *testing.T) {
	const most, holds = 200_000, 5000
	var clock atomic.Int64
	clock.Store(1e15)
	forgotten, evicted := 0, 0
	s := memory.New(memory.Options{
		MaxBytes: most, Shards: 4, Now: clock.Load,
		OnForget: func() { forgotten++ }, OnEvict: func(bool) { evicted++ },
	})
	for n := range 20 {
		take(t, s, user(n), 5, 24*time.Hour)
	}
	for n := range holds {
		id := fmt.Sprint(n)
		clock.Add(1e7)
		s.Reset(t.Context(), user(-1)) // which forgets no answer
		if ans, err := reserve(s, user(-1), id); err != nil || !ans.Admitted {
			t.Fatalf("hold %d: %+v, %v", n, ans, err)
		}
		if _, err := settle(s, user(-1), id); err != nil {
			t.Fatalf("settlement %d: %v", n, err)
		}
		if got := s.Stats().Bytes; got > most {
			t.Fatalf("after %d holds %d bytes are held, want at most %d", n, got, most)
		}
	}
	if forgotten == 0 || forgotten > holds-100 || evicted != 0 {
		t.Errorf("%d of %d answers are forgotten and %d subjects evicted, want all but a few hundred, and none", forgotten, holds, evicted)
	}
	for n := range holds {
		out, err := settle(s, user(-1), fmt.Sprint(n))
		if n < forgotten && !errors.Is(err, store.ErrNoHold) {
			t.Fatalf("settlement %d of %d, %d of which are forgotten, again: %+v, %v, want ErrNoHold", n, holds, forgotten, out, err)
		}
		if n >= forgotten && (err != nil || !out.Repeat) {
			t.Fatalf("settlement %d of %d, %d of which are forgotten, again: %+v, %v, want a repeat", n, holds, forgotten, out, err)
		}
	}
	for n := range 20 {
		if used := take(t, s, user(n), 0, 24*time.Hour); used != 5 {
			t.Fatalf("user %d has used %d, want 5", n, used)
		}
	}
}

// TestTheGlobalSubjectIsNeverEvicted fills a store with holds of the system as a whole.
func TestTheGlobalSubjectIsNeverEvicted(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1e15)
	s := memory.New(memory.Options{MaxBytes: 50_000, Shards: 2, Now: clock.Load})
	if ans, err := reserve(s, global, "a"); err != nil || !ans.Admitted {
		t.Fatalf("Admit: %+v, %v", ans, err)
	}
	for n := range 2000 {
		take(t, s, user(n), 1, time.Hour)
	}
	if usd, slots := spent(t, s, global); usd != 100 || slots != 1 {
		t.Errorf("%d nano-USD and %d slots are used, want 100 and 1", usd, slots)
	}
}

func TestEachLeaseThatEndsIsToldOnce(t *testing.T) {
	clock, told, charged := new(atomic.Int64), 0, int64(0)
	f := fixture(t, memory.Options{Now: clock.Load, OnLapse: func(leases int, usd int64) { told, charged = told+leases, charged+usd }})
	f.Set = clock.Store
	storetest.RunLapses(t, f, func() (int, int64) { return told, charged })
}
