package app

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

func TestScrapesAskTheStoreOnceASecondAndOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			mu             sync.Mutex
			asked, at, top int
		)
		r := newLimitsReader(func(context.Context) ([]engine.LimitState, error) {
			mu.Lock()
			asked++
			at++
			top = max(top, at)
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			at--
			mu.Unlock()
			return []engine.LimitState{{Tier: "global", Used: int64(asked)}}, nil
		})
		scrape := func(n int) (used []float64) {
			t.Helper()
			var scrapes sync.WaitGroup
			for range n {
				scrapes.Go(func() {
					got := r.read()
					mu.Lock()
					defer mu.Unlock()
					used = append(used, got[0].Used)
				})
			}
			scrapes.Wait()
			return used
		}
		if got := scrape(5); !slices.Equal(got, []float64{1, 1, 1, 1, 1}) || top != 1 {
			t.Errorf("5 scrapes at once read %v with %d questions at a time, want one answer for all", got, top)
		}
		time.Sleep(limitsAge - time.Millisecond)
		if got := scrape(1); got[0] != 1 {
			t.Errorf("a scrape within a second asks anew: got %v", got)
		}
		time.Sleep(time.Millisecond)
		if got := scrape(1); got[0] != 2 {
			t.Errorf("a scrape a second later got %v, want a new answer", got)
		}
	})
}

func TestAScrapeDoesNotWaitForAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs, asked := true, 0
		r := newLimitsReader(func(ctx context.Context) ([]engine.LimitState, error) {
			asked++
			if hangs {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []engine.LimitState{{Tier: "global"}}, nil
		})
		hangs = false
		if got := r.read(); len(got) != 1 {
			t.Fatalf("%d limits are read, want 1", len(got))
		}
		time.Sleep(limitsAge)
		hangs = true
		began := time.Now()
		for range 3 {
			if got := r.read(); len(got) != 0 {
				t.Errorf("%d limits are read while the store hangs, want none: they would be of before", len(got))
			}
		}
		if took := time.Since(began); took != limitsTimeout || asked != 2 {
			t.Errorf("3 scrapes waited %s for %d questions, want %s for one", took, asked-1, limitsTimeout)
		}
		time.Sleep(limitsAge)
		hangs = false
		if got := r.read(); len(got) != 1 {
			t.Errorf("%d limits are read when the store is back, want 1", len(got))
		}
	})
}

func TestALimitIsShownInItsUnit(t *testing.T) {
	zone := time.FixedZone("", 0)
	now := time.Date(2026, 2, 10, 12, 0, 0, 0, zone)
	month := store.NewCalendar(store.CalendarMonth, zone)
	soon := now.Add(90 * time.Second)
	for _, tc := range []struct {
		name  string
		state engine.LimitState
		want  telemetry.LimitReading
	}{
		{
			"requests",
			engine.LimitState{Limit: policy.Limit{Name: "hour", Unit: store.Requests, Max: 10, Period: time.Hour}, Used: 3, Resets: soon},
			telemetry.LimitReading{
				Limit: "hour", Unit: "requests", Window: "sliding", Max: 10, Used: 3, Period: 3600, Resets: float64(soon.Unix()),
			},
		},
		{
			"tokens, none used",
			engine.LimitState{Limit: policy.Limit{Name: "day", Unit: store.Tokens, Max: 10, Period: 24 * time.Hour}},
			telemetry.LimitReading{Limit: "day", Unit: "tokens", Window: "sliding", Max: 10, Period: 86400},
		},
		{
			"money of a calendar's month, none used yet",
			engine.LimitState{
				Limit: policy.Limit{Name: "month", Unit: store.USD, Max: 5_000_000_000, Period: month.Longest(), Calendar: month},
				Used:  1_250_000_000, Held: 250_000_000,
			},
			telemetry.LimitReading{
				Limit: "month", Unit: "usd", Window: "calendar", Max: 5, Used: 1.25, Held: 0.25, Period: 28 * 86400,
				Resets: float64(time.Date(2026, 3, 1, 0, 0, 0, 0, zone).Unix()),
			},
		},
		{
			"slots",
			engine.LimitState{Limit: policy.Limit{Name: "concurrent", Unit: store.Concurrent, Max: 4}, Used: 2, Resets: soon},
			telemetry.LimitReading{Limit: "concurrent", Unit: "concurrent", Window: "none", Max: 4, Used: 2},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.state.Tier, tc.want.Tier = "global", "global"
			if got := readingOf(&tc.state, now); got != tc.want {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}
