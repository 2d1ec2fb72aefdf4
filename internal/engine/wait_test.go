package engine

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

func (r *Reservation) waiting(d time.Duration) *Reservation {
	r.Wait = d
	return r
}

// fill takes all three slots and returns the reservations.
func (b *bench) fill() []string {
	b.t.Helper()
	var ids []string
	for _, user := range []string{"x", "y", "z"} {
		r := of(user, 1, 1)
		r.TTL = time.Hour
		ids = append(ids, b.reserve(r).ReservationID)
	}
	return ids
}

func (b *bench) release(id string) {
	b.t.Helper()
	if _, err := b.Release(b.t.Context(), id); err != nil {
		b.t.Error(err)
	}
}

func TestASlotIsWaitedForInOrderOfArrival(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		taken := b.fill()
		var (
			wg    sync.WaitGroup
			mu    sync.Mutex
			order []string
		)
		users := []string{"a", "b", "c", "d", "e"}
		for _, user := range users {
			wg.Go(func() {
				g, err := b.Reserve(t.Context(), of(user, 1, 1).waiting(time.Minute))
				if err != nil {
					t.Errorf("%s: %v", user, err)
					return
				}
				mu.Lock()
				order = append(order, user)
				mu.Unlock()
				time.Sleep(2 * time.Second)
				b.release(g.ReservationID)
			})
			time.Sleep(5 * time.Millisecond) // so that they arrive one after the other
		}
		if got := testutil.ToFloat64(b.opt.Metrics.Waiters); got != 5 {
			t.Errorf("%v wait, want 5", got)
		}
		time.Sleep(5 * time.Second)
		b.release(taken[0])
		wg.Wait()
		for i, user := range users {
			if order[i] != user {
				t.Fatalf("admitted in the order %v, want %v", order, users)
			}
		}
		if got := testutil.ToFloat64(b.opt.Metrics.Waiters); got != 0 {
			t.Errorf("%v wait after all, want 0", got)
		}
	})
}

func TestAWaiterThatGivesUpMakesPlace(t *testing.T) {
	for name, tc := range map[string]struct {
		end    func(context.CancelFunc)
		denied float64 // as metrics count it
	}{
		"its time is over":    {func(context.CancelFunc) { time.Sleep(10 * time.Second) }, 1},
		"its caller has gone": {func(cancel context.CancelFunc) { cancel() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			runCost(t, "", nil, func(t *testing.T, b *bench) {
				taken := b.fill()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				gone := make(chan error, 1)
				go func() {
					_, err := b.Reserve(ctx, of("a", 1, 1).keyed("k").waiting(10*time.Second))
					gone <- err
				}()
				synctest.Wait()
				tc.end(cancel)
				synctest.Wait()
				err := <-gone
				if !isReason(err, ConcurrencyLimit) && !errors.Is(err, context.Canceled) {
					t.Fatalf("got %v, want a denial for want of a slot, or the caller's own error", err)
				}
				if b.requests("a") != 0 {
					t.Error("who was denied has been counted")
				}
				if got := counted(t, b.opt.Metrics.Queries, "status")["rate_limited"]; got != tc.denied {
					t.Errorf("metrics count %v denials, want %v", got, tc.denied)
				}
				b.release(taken[0])
				b.reserve(of("b", 1, 1)) // at once: nobody stands in line
				if _, err := b.Reserve(t.Context(), of("c", 1, 1)); !isReason(err, ConcurrencyLimit) {
					t.Fatalf("got %v, want no slot left", err)
				}
			})
		})
	}
}

func TestAWaiterThatGivesUpTakesNothingFromItsRepeat(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		taken := b.fill()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := b.Reserve(ctx, of("a", 1, 1).keyed("k").waiting(time.Minute))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the caller's own error", err)
			}
		}()
		synctest.Wait()
		b.release(taken[0])
		g := b.reserve(of("a", 1, 1).keyed("k")) // the caller's second try has the place of the first
		cancel()
		<-done
		if again := b.reserve(of("a", 1, 1).keyed("k")); again.Status != store.Active || again.ReservationID != g.ReservationID {
			t.Fatalf("got %+v, want the reservation as it was", again)
		}
	})
}

func TestWhatLacksMoreThanASlotDoesNotWait(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		b.fill()
		began := time.Now()
		_, err := b.Reserve(t.Context(), of("a", 0, 9000).under("small").waiting(time.Minute))
		wantReason(t, err, RequestTooExpensive)
		r := of("a", 0, 9000).under("small").waiting(time.Second)
		r.Partial = true
		_, err = b.Reserve(t.Context(), r) // a part of it fits, and waits
		wantReason(t, err, ConcurrencyLimit)
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("waited for %s, want 1s in all", waited)
		}
	})
}

func TestASlotThatDoesNotComeMakesNoOutputSmaller(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		b.fill()
		asks := func(partial bool) int64 {
			r := of("a", 1, 100).waiting(time.Second)
			r.Partial = partial
			before := b.store.admits.Load()
			_, err := b.Reserve(t.Context(), r)
			wantReason(t, err, ConcurrencyLimit)
			return b.store.admits.Load() - before
		}
		if got, want := asks(true), asks(false); got != want {
			t.Errorf("the store was asked %d times where a part would do, want %d as where it would not", got, want)
		}
	})
}

func TestAPauseGrowsWithTheLine(t *testing.T) {
	for ahead, want := range map[int]time.Duration{
		-1: 10 * time.Millisecond, 0: 10 * time.Millisecond, 4: 50 * time.Millisecond, 99: time.Second, 1 << 40: time.Second,
	} {
		if got := pauseFor(ahead); got != want {
			t.Errorf("with %d ahead: %s, want %s", ahead, got, want)
		}
	}
	if waitLongest >= store.WaiterLife {
		t.Errorf("a waiter asks again after %s; its place is kept for %s", waitLongest, store.WaiterLife)
	}
}
