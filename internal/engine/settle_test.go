package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

func TestASettlementPutsWhatWasUsedInThePlaceOfWhatIsHeld(t *testing.T) {
	// 100 tokens of input and 100 of output are held: 350,000 nano-USD.
	const held = 100*1500 + 100*2000
	usage := &budget.Usage{Input: 50, CacheRead: 30, CacheWrite: 20, Output: 10, Reasoning: 5}
	const cost = 50*1000 + 30*100 + 20*1500 + 10*2000 + 5*2000
	parts := budget.Breakdown{Input: 50_000, CacheRead: 3000, CacheWrite: 30_000, Output: 20_000, Reasoning: 10_000, Total: cost}
	for name, tc := range map[string]struct {
		settlement Settlement
		want       Receipt
		tokens     int64
		warning    string
	}{
		"by the price table": {
			Settlement{Usage: usage}, Receipt{CostUSD: cost, Breakdown: parts, ReleasedUSD: held - cost}, 115, "",
		},
		"more than is held": {
			Settlement{Usage: &budget.Usage{Input: 1000}},
			Receipt{CostUSD: 1_000_000, Breakdown: budget.Breakdown{Input: 1_000_000, Total: 1_000_000}, OverageUSD: 1_000_000 - held},
			1000, "",
		},
		"by the model that really ran": {
			Settlement{Usage: &budget.Usage{Input: 868, Output: 145}, Model: "llama-3.2-3b-instruct"},
			Receipt{
				CostUSD: 260_600, Breakdown: budget.Breakdown{Input: 173_600, Output: 87_000, Total: 260_600}, ReleasedUSD: held - 260_600,
			},
			1013, "",
		},
		"by the provider": {
			Settlement{Usage: usage, ProviderCost: new(int64(7))},
			Receipt{CostUSD: 7, Breakdown: budget.Breakdown{Total: 7}, ReleasedUSD: held - 7},
			115, "",
		},
		"from the assistant's cache": {
			Settlement{Usage: usage, CacheHit: true}, Receipt{SavedUSD: cost, ReleasedUSD: held}, 0, "",
		},
		"from the assistant's cache, by the provider": {
			Settlement{CacheHit: true, ProviderCost: new(int64(9))}, Receipt{SavedUSD: 9, ReleasedUSD: held}, 0, "",
		},
		"a usage that is 0 is known": {Settlement{Usage: &budget.Usage{}}, Receipt{ReleasedUSD: held}, 0, ""},
		"not known, of a success": {
			Settlement{Outcome: "success"}, Receipt{CostUSD: held, Breakdown: budget.Breakdown{Total: held}}, 200, WarnUsageUnknown,
		},
		"not known, cancelled": {
			Settlement{Outcome: "cancelled"},
			Receipt{CostUSD: 100_000, Breakdown: budget.Breakdown{Input: 100_000, Total: 100_000}, ReleasedUSD: held - 100_000},
			100, WarnUsageUnknown,
		},
		"not known, of an error": {Settlement{Outcome: "error"}, Receipt{ReleasedUSD: held}, 0, WarnUsageUnknown},
		"of a model without a price": {
			Settlement{Usage: usage, Model: "unheard of"},
			Receipt{CostUSD: held, Breakdown: budget.Breakdown{Total: held}},
			200,
			WarnPriceUnknown,
		},
	} {
		t.Run(name, func(t *testing.T) {
			runCost(t, "", nil, func(t *testing.T, b *bench) {
				g := b.reserve(of("a", 100, 100))
				tc.settlement.ReservationID = g.ReservationID
				got := b.settleUp(&tc.settlement)
				wantReceipt(t, got, tc.want, tc.warning)
				b.wantMoney("a", tc.want.CostUSD, 0)
				own, _, err := b.Usage(t.Context(), "a")
				if err != nil || own.Tokens[0].Used != tc.tokens || own.Tokens[0].Held != 0 {
					t.Errorf("%+v of tokens, %v; want %d used", own.Tokens, err, tc.tokens)
				}
				if b.slots() != 0 || b.requests("a") != 1 {
					t.Errorf("%d slots and %d requests are in use, want 0 and 1", b.slots(), b.requests("a"))
				}
				// Prices change; the first answer stays.
				b.policy.Store(parse(t, replaceOnce(costPolicy, "input: 0.000001,", "input: 0.000003,")))
				again := b.settleUp(&tc.settlement)
				tc.want.Duplicate = true
				wantReceipt(t, again, tc.want, tc.warning)
				b.wantMoney("a", tc.want.CostUSD, 0)
			})
		})
	}
}

// wantReceipt compares receipts of a settled reservation, and their one warning.
func wantReceipt(t *testing.T, got *Receipt, want Receipt, warning string) {
	t.Helper()
	if (warning == "") != (len(got.Warnings) == 0) || warning != "" && !hasWarning(got.Warnings, warning) {
		t.Errorf("got the warnings %+v, want %q", got.Warnings, warning)
	}
	plain := *got
	plain.Warnings = nil
	if plain.Status != store.Closed {
		t.Errorf("got the status %d, want it closed", plain.Status)
	}
	plain.Status = 0
	if !slices.Equal([]any{plain.CostUSD, plain.Breakdown, plain.ReleasedUSD, plain.OverageUSD, plain.SavedUSD, plain.Duplicate, plain.Late},
		[]any{want.CostUSD, want.Breakdown, want.ReleasedUSD, want.OverageUSD, want.SavedUSD, want.Duplicate, want.Late}) {
		t.Errorf("got the receipt %+v, want %+v", plain, want)
	}
}

func TestAReservationIsSettledOnce(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		g := b.reserve(of("a", 100, 100))
		s := &Settlement{ReservationID: g.ReservationID, Usage: &budget.Usage{Input: 10}}
		b.settleUp(s)
		if !b.settleUp(s).Duplicate {
			t.Error("a repeat is not a duplicate")
		}
		s.Usage = &budget.Usage{Input: 11}
		_, err := b.Settle(t.Context(), s)
		wantReason(t, err, IdempotencyMismatch)
		_, err = b.Release(t.Context(), g.ReservationID)
		wantReason(t, err, ReservationNotActive)
		_, err = b.Extend(t.Context(), &Extension{ReservationID: g.ReservationID})
		wantReason(t, err, ReservationNotActive)
		b.wantMoney("a", 10_000, 0)
		m := b.opt.Metrics
		if got := testutil.ToFloat64(m.Reservations.WithLabelValues(telemetry.EndSettled)); got != 1 {
			t.Errorf("%v settlements are counted, want 1", got)
		}
		if got := testutil.ToFloat64(m.DuplicateEnds); got != 1 {
			t.Errorf("%v duplicates are counted, want 1", got)
		}
		if got := testutil.ToFloat64(m.Money.WithLabelValues(telemetry.FlowSettled, "m")); got != 0.00001 {
			t.Errorf("%v USD are counted, want 0.00001", got)
		}
	})
}

func TestALateSettlementIsBookedOnce(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		g := b.reserve(of("a", 100, 0))
		time.Sleep(DefaultTTL)
		b.wantMoney("a", 150_000, 0) // spent, since its lease is over
		if b.slots() != 0 {
			t.Error("the slot is in use after the lease")
		}
		s := &Settlement{ReservationID: g.ReservationID, Usage: &budget.Usage{Input: 100}}
		for i := range 3 {
			if got := b.settleUp(s); !got.Late || got.Duplicate != (i > 0) || got.ReleasedUSD != 50_000 {
				t.Fatalf("got %+v", got)
			}
		}
		b.wantMoney("a", 100_000, 0)
	})
	runCost(t, "  on_expiry: release\n", nil, func(t *testing.T, b *bench) {
		g := b.reserve(of("a", 100, 0))
		time.Sleep(DefaultTTL)
		b.wantMoney("a", 0, 0)
		b.settleUp(&Settlement{ReservationID: g.ReservationID, Usage: &budget.Usage{Input: 100}})
		b.wantMoney("a", 100_000, 0)
	})
}

func TestAReservationThatNobodyKnowsIsBookedForADay(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		tok, err := parseToken(b.reserve(of("a", 100, 0)).ReservationID)
		if err != nil {
			t.Fatal(err)
		}
		tok.id = randomID() // as if the store had lost it
		s := &Settlement{ReservationID: tok.encode(), Usage: &budget.Usage{Input: 7}}
		if got := b.settleUp(s); got.CostUSD != 7000 || got.OverageUSD != 0 {
			t.Fatalf("got %+v", got)
		}
		b.wantMoney("a", 157_000, 150_000)
		tok.id = randomID()
		_, err = b.Release(t.Context(), tok.encode())
		wantReason(t, err, ReservationNotFound)
		time.Sleep(25 * time.Hour)
		s.ReservationID = tok.encode()
		_, err = b.Settle(t.Context(), s)
		wantReason(t, err, ReservationNotFound)
		for _, id := range []string{"", "x", "no token", tok.encode()[1:]} {
			_, err := b.Settle(t.Context(), &Settlement{ReservationID: id})
			wantReason(t, err, ReservationNotFound)
			_, err = b.Release(t.Context(), id)
			wantReason(t, err, ReservationNotFound)
			_, err = b.Extend(t.Context(), &Extension{ReservationID: id})
			wantReason(t, err, ReservationNotFound)
		}
	})
}

func TestASettlementThatIsForgottenIsNotBookedAgain(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		g := b.reserve(of("a", 100, 0))
		s := &Settlement{ReservationID: g.ReservationID, Usage: &budget.Usage{Input: 7}}
		b.settleUp(s)
		for range 100 {
			time.Sleep(15 * time.Minute)
			if got, err := b.Settle(t.Context(), s); err == nil && !got.Duplicate {
				t.Fatalf("got %+v, want the first answer, or that the reservation is not known", got)
			}
		}
		_, err := b.Settle(t.Context(), s)
		wantReason(t, err, ReservationNotFound)
	})
}

func TestAReleaseGivesBackWhatIsHeld(t *testing.T) {
	for more, requests := range map[string]int64{"": 2, "  on_release: return_requests\n": 1} {
		runCost(t, more, nil, func(t *testing.T, b *bench) {
			g := b.reserve(of("a", 100, 0))
			b.decide(user("a", 1))
			b.reserve(of("b", 1, 0))
			for i := range 3 {
				got, err := b.Release(t.Context(), g.ReservationID)
				if err != nil || got.ReleasedUSD != 150_000 || got.CostUSD != 0 || got.Status != store.Released || got.Duplicate != (i > 0) {
					t.Fatalf("got %+v, %v", got, err)
				}
			}
			b.wantMoney("a", 0, 0)
			if b.slots() != 1 || b.requests("a") != requests || b.requests("b") != 1 {
				t.Errorf("%d slots, %d and %d requests are in use, want 1, %d and 1",
					b.slots(), b.requests("a"), b.requests("b"), requests)
			}
			_, err := b.Settle(t.Context(), &Settlement{ReservationID: g.ReservationID, Usage: &budget.Usage{Input: 1}})
			wantReason(t, err, IdempotencyMismatch)
		})
	}
}

// TestAReleaseGivesItsOwnRequestBack releases a reservation when its own request has left the window: to give a newer one back
// would admit a sixth in one minute.
func TestAReleaseGivesItsOwnRequestBack(t *testing.T) {
	for name, tc := range map[string]struct {
		ago  time.Duration // the reservation, before the other requests
		left int64
	}{
		"in the window":      {30 * time.Second, 4},
		"not in it any more": {2 * time.Minute, 5},
	} {
		runCost(t, "  on_release: return_requests\n", nil, func(t *testing.T, b *bench) {
			g := b.reserve(of("a", 1, 0))
			time.Sleep(tc.ago)
			for b.requests("a") < 5 {
				b.decide(user("a", 1))
			}
			if _, err := b.Release(t.Context(), g.ReservationID); err != nil {
				t.Fatal(err)
			}
			if got := b.requests("a"); got != tc.left {
				t.Fatalf("%s: %d requests are left, want %d", name, got, tc.left)
			}
			time.Sleep(31 * time.Second) // the reservation's own would have gone by now
			if got := b.requests("a"); got != tc.left {
				t.Errorf("%s: %d requests are left of the minute, want %d: a newer one was given back", name, got, tc.left)
			}
		})
	}
}

// restless is a store whose override of a user changes before each of the first refunds.
type restless struct {
	store.Store

	changes int
	given   int64
}

func (r *restless) Refund(ctx context.Context, req *store.Request, ans *store.Answer) (int64, error) {
	if r.changes > 0 {
		r.changes--
		if _, err := r.SetOverride(ctx, req.Checks[0].Subject, fmt.Sprintf("limits: [%d/hour]", 20+r.changes)); err != nil {
			return 0, err
		}
	}
	given, err := r.Store.Refund(ctx, req, ans)
	r.given += given
	return given, err
}

func TestARequestIsGivenBackOnceThoughItsOverrideChanges(t *testing.T) {
	moving := &restless{changes: 3}
	change := func(o *Options) { moving.Store = o.Store; o.Store = moving }
	runCost(t, "  on_release: return_requests\n", change, func(t *testing.T, b *bench) {
		b.decide(user("a", 1))
		g := b.reserve(of("a", 1, 0))
		time.Sleep(time.Second)
		b.decide(user("a", 1))
		if _, err := b.Release(t.Context(), g.ReservationID); err != nil {
			t.Fatal(err)
		}
		if got := b.requests("a"); got != 2 || moving.given != 1 || moving.changes != 0 {
			t.Errorf("%d requests are left, %d were given back; want 2 and 1", got, moving.given)
		}
	})
}

func TestASettlementRepeatedAtOnceBooksOnce(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		g := b.reserve(of("a", 100, 100))
		var (
			wg     sync.WaitGroup
			mu     sync.Mutex
			firsts int
		)
		for range 1000 {
			wg.Go(func() {
				got, err := b.Settle(t.Context(), &Settlement{ReservationID: g.ReservationID, Usage: &budget.Usage{Input: 10}})
				if err != nil || got.CostUSD != 10_000 {
					t.Errorf("got %+v, %v", got, err)
					return
				}
				if !got.Duplicate {
					mu.Lock()
					firsts++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if firsts != 1 {
			t.Errorf("%d settlements were first, want 1", firsts)
		}
		b.wantMoney("a", 10_000, 0)
	})
}

func TestManyReservationsAtOnceNeverPassALimit(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		var (
			wg       sync.WaitGroup
			mu       sync.Mutex
			admitted int64
		)
		for range 100 { // each may cost 0.0012 USD of the 0.01
			wg.Go(func() {
				r := of("a", 0, 600).under("small")
				r.NoSlot = true
				g, err := b.Reserve(t.Context(), r)
				if err != nil {
					if !isReason(err, UserBudgetExhausted) {
						t.Errorf("denied with %v", err)
					}
					return
				}
				mu.Lock()
				admitted += g.HeldUSD
				mu.Unlock()
			})
		}
		wg.Wait()
		if admitted != 8*1_200_000 {
			t.Errorf("%d nano-USD were admitted, want 8 calls of 1200000", admitted)
		}
	})
}

func TestAnExtensionRenewsAndRaises(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		g := b.reserve(of("a", 0, 1000).under("small")) // 2 of 10 million
		extend := func(x Extension) *Extended {
			t.Helper()
			x.ReservationID = g.ReservationID
			got, err := b.Extend(t.Context(), &x)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		time.Sleep(DefaultTTL - time.Second)
		got := extend(Extension{TTL: time.Minute})
		if got.MustStop || got.HeldUSD != 2_000_000 || got.Heartbeat != 20*time.Second ||
			!got.ExpiresAt.Equal(time.Now().Add(time.Minute).Truncate(time.Microsecond)) {
			t.Fatalf("renewed: got %+v", got)
		}
		if got := extend(Extension{MaxOutputTokens: 4000}); got.MustStop || got.HeldUSD != 8_000_000 {
			t.Fatalf("raised: got %+v", got)
		}
		if got := extend(Extension{MaxCost: 9_000_000}); got.MustStop || got.HeldUSD != 9_000_000 {
			t.Fatalf("raised by cost: got %+v", got)
		}
		if got := extend(Extension{MaxOutputTokens: 10}); got.MustStop || got.HeldUSD != 9_000_000 {
			t.Fatalf("lowered: got %+v, want nothing changed", got)
		}
		got = extend(Extension{MaxOutputTokens: 5001})
		if !got.MustStop || got.HeldUSD != 9_000_000 || got.Denial == nil || got.Denial.Limit.Max != 10_000_000 {
			t.Fatalf("above the limit: got %+v", got)
		}
		if got := b.slots(); got != 1 {
			t.Errorf("%d slots are in use, want 1", got)
		}
		time.Sleep(DefaultTTL)
		_, err := b.Extend(t.Context(), &Extension{ReservationID: g.ReservationID})
		wantReason(t, err, ReservationNotActive)
	})
}

func TestAnExtensionHasThePlanOfItsReservation(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		r := of("a", 0, 1000).under("small")
		r.Spender.Subjects = map[string]string{"org_id": "nobody knows"} // a subject without limits, between others
		g := b.reserve(r)
		got, err := b.Extend(t.Context(), &Extension{ReservationID: g.ReservationID, MaxOutputTokens: 6000})
		if err != nil || !got.MustStop || got.Denial.Limit.Max != 10_000_000 {
			t.Fatalf("got %+v, %v; want it stopped by the plan's 0.01 USD", got, err)
		}
		r = of("b", 1, 1)
		g = b.reserve(r)
		if _, err := b.Extend(t.Context(), &Extension{ReservationID: g.ReservationID, MaxOutputTokens: 10}); err != nil {
			t.Fatal(err)
		}
		if got := b.requests("b"); got != 1 {
			t.Errorf("%d requests are counted, want 1: an extension is none", got)
		}
	})
}

func TestAQuoteTellsAndTakesNothing(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		ask := &QuoteAsk{
			Spender: Spender{UserID: "a", Model: "m", Plan: "small"},
			Ask:     Ask{InputTokens: 10, CachedInputTokens: 100, MaxOutputTokens: 1000}, ExpectedOutputTokens: 20,
		}
		quote := func() *Quotation {
			t.Helper()
			q, err := b.Quote(t.Context(), ask)
			if err != nil {
				t.Fatal(err)
			}
			return q
		}
		for range 2 {
			q := quote()
			if q.ExpectedUSD != 10*1000+100*100+20*2000 || q.MaximumUSD != 110*1500+1000*2000 || !q.Admitted || q.Binding != nil ||
				q.MaxOutputTokens != (10_000_000-165_000)/2000 {
				t.Fatalf("got %+v", q)
			}
		}
		b.reserve(of("a", 0, 4500).under("small")) // 1 of 10 million is left
		q := quote()
		if q.Admitted || q.Binding == nil || q.Binding.Reason != UserBudgetExhausted || q.MaxOutputTokens != (1_000_000-165_000)/2000 {
			t.Fatalf("got %+v", q)
		}
		b.reserve(of("a", 110, q.MaxOutputTokens).under("small"))
		b.reserve(of("b", 1, 1))
		ask.Spender.UserID = "c" // has all its money
		if q := quote(); q.MaxOutputTokens != 0 || q.Admitted {
			t.Fatalf("without a slot: got %+v, want nothing to fit", q)
		}
	})
}

func TestARecordIsBookedOnceWhenItHappened(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		r := &Record{
			Spender: Spender{UserID: "a", Model: "m"}, Key: "k", Usage: budget.Usage{Input: 100}, Occurred: time.Now().Add(-time.Hour),
		}
		for i := range 3 {
			got, err := b.Record(t.Context(), r)
			if err != nil || got.CostUSD != 100_000 || got.Duplicate != (i > 0) || got.OverageUSD != 0 {
				t.Fatalf("got %+v, %v", got, err)
			}
		}
		b.wantMoney("a", 100_000, 0)
		if b.requests("a") != 0 {
			t.Error("a record has counted a request")
		}
		time.Sleep(23*time.Hour - time.Second)
		b.wantMoney("a", 100_000, 0)
		time.Sleep(time.Second)
		b.wantMoney("a", 0, 0)

		r.Usage.Input++
		_, err := b.Record(t.Context(), r)
		wantReason(t, err, IdempotencyMismatch)
		r.Key, r.Spender.Model = "k2", "unheard of"
		_, err = b.Record(t.Context(), r)
		wantReason(t, err, PriceUnknown)
		r.ProviderCost = new(int64(5))
		r.Occurred = time.Time{}
		if got, err := b.Record(t.Context(), r); err != nil || got.CostUSD != 5 {
			t.Fatalf("got %+v, %v", got, err)
		}
		b.wantMoney("a", 5, 0)
	})
}

func TestARecordIsNeverDeniedByALimit(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		r := &Record{Spender: Spender{UserID: "a", Model: "m", Plan: "small"}, Key: "k", Usage: budget.Usage{Output: 50_000}}
		if got, err := b.Record(t.Context(), r); err != nil || got.CostUSD != 100_000_000 {
			t.Fatalf("got %+v, %v", got, err)
		}
		_, err := b.Reserve(t.Context(), of("a", 0, 1).under("small"))
		wantReason(t, err, UserBudgetExhausted)
	})
}
