package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// The model m costs 1,000 nano-USD a token of input, 2,000 of output, 100 read from the cache and 1,500 written to it.
const costPolicy = `
domain: assistant
subjects:
  user: {key: user_id, default_plan: standard, plan_key: plan, trust_plan: true, on_store_failure: allow}
  org: {key: org_id, on_store_failure: deny}
  tag: {key: tag.team}
plans:
  standard: {limits: [5/minute, 1000000 tokens/day, 1 USD/day]}
  small: {limits: [0.01 USD/day]}
  tokens: {limits: [1000 tokens/minute]}
  watched: {limits: [{limit: 0.01 USD/day, shadow: true}]}
overrides:
  - {subject: org, id: acme, limits: [2 USD/week]}
  - {subject: tag, id: red, limits: [0.5 USD/day]}
global: {limits: [10 USD/day, 3 concurrent], on_store_failure: allow}
cost:
  prices:
    m: {input: 0.000001, output: 0.000002, cache_read: 0.0000001, cache_write: 0.0000015}
    llama-3.2-3b-instruct: {input: 0.0000002, output: 0.0000006}
    thinks: {input: 0.000001, output: 0.000002, cache_read: 0.000003, reasoning: 0.000004}
    mumbles: {input: 0.000001, output: 0.000002, cache_write: 0.0000015, reasoning: 0.0000005}
  on_unknown_usage: {success: charge_hold, error: release, cancelled: charge_input}
  hold: {model: m, input_tokens: 100, max_output_tokens: 100}
`

// runCost runs a test of an engine under costPolicy with something put behind it.
func runCost(t *testing.T, more string, change func(*Options), test func(*testing.T, *bench)) {
	t.Helper()
	run(t, change, func(t *testing.T, b *bench) {
		b.policy.Store(parse(t, costPolicy+more))
		test(t, b)
	})
}

// of is a reservation of so many tokens of m for a user.
func of(id string, input, output int64) *Reservation {
	return &Reservation{Spender: Spender{UserID: id, Model: "m"}, Ask: Ask{InputTokens: input, MaxOutputTokens: output}}
}

// under has a reservation made under a plan.
func (r *Reservation) under(plan string) *Reservation {
	r.Spender.Plan = plan
	return r
}

func (r *Reservation) keyed(key string) *Reservation {
	r.Key = key
	return r
}

func (b *bench) reserve(r *Reservation) *Grant {
	b.t.Helper()
	g, err := b.Reserve(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	return g
}

func (b *bench) settleUp(s *Settlement) *Receipt {
	b.t.Helper()
	r, err := b.Settle(b.t.Context(), s)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// wantReason fails unless err is a CostError of a reason, and returns it.
func wantReason(t *testing.T, err error, want Reason) *CostError {
	t.Helper()
	var cost *CostError
	if !errors.As(err, &cost) || cost.Reason != want || cost.Text == "" {
		t.Fatalf("got the error %v, want one of reason %s", err, want)
	}
	return cost
}

// money is what a user has used and holds of its first limit of USD.
func (b *bench) money(id string) (used, held int64) {
	b.t.Helper()
	states, err := b.CostUsage(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range states {
		if s.Limit.Unit == store.USD {
			return s.Used, s.Held
		}
	}
	b.t.Fatalf("%q has no limit of money: %+v", id, states)
	return 0, 0
}

func (b *bench) wantMoney(id string, used, held int64) {
	b.t.Helper()
	if u, h := b.money(id); u != used || h != held {
		b.t.Fatalf("%q has used %d nano-USD, %d of them held; want %d and %d", id, u, h, used, held)
	}
}

// requests is what a user has used of its first limit of requests.
func (b *bench) requests(id string) int64 {
	b.t.Helper()
	own, _, err := b.Usage(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return own.Requests[0].Used
}

// slots is how many slots are in use.
func (b *bench) slots() int64 {
	b.t.Helper()
	_, global, err := b.Usage(b.t.Context(), "")
	if err != nil {
		b.t.Fatal(err)
	}
	return global.Concurrent.Used
}

func hasWarning(warnings []Warning, code string) bool {
	for _, w := range warnings {
		if w.Code == code {
			return true
		}
	}
	return false
}

func TestAReservationHoldsTheMostThatItMayCost(t *testing.T) {
	for name, tc := range map[string]struct {
		model       string
		ask         Ask
		usd, tokens int64
	}{
		"writing the cache is dearest": {"m", Ask{InputTokens: 10, MaxOutputTokens: 5}, 10*1500 + 5*2000, 15},
		"reading the cache and reasoning are": {
			"thinks", Ask{InputTokens: 10, MaxOutputTokens: 5}, 10*3000 + 5*4000, 15,
		},
		"writing the cache and plain output are": {"mumbles", Ask{InputTokens: 10, MaxOutputTokens: 5}, 10*1500 + 5*2000, 15},
		"cached input is held as if it were not": {
			"m", Ask{InputTokens: 10, CachedInputTokens: 30, MaxOutputTokens: 5}, 40*1500 + 5*2000, 45,
		},
		"a maximum that the caller names": {"m", Ask{InputTokens: 10, MaxOutputTokens: 5, MaxCost: 77}, 77, 15},
	} {
		t.Run(name, func(t *testing.T) {
			runCost(t, "", nil, func(t *testing.T, b *bench) {
				r := of("a", 0, 0)
				r.Spender.Model, r.Ask = tc.model, tc.ask
				g := b.reserve(r)
				if g.HeldUSD != tc.usd || g.GrantedOutputTokens != tc.ask.MaxOutputTokens || g.Status != store.Active || g.Repeat {
					t.Fatalf("got %+v, want %d nano-USD held", g, tc.usd)
				}
				b.wantMoney("a", tc.usd, tc.usd)
				for _, s := range g.Limits {
					if s.Limit.Unit == store.Tokens && (s.Used != tc.tokens || s.Held != tc.tokens) {
						t.Errorf("%+v of tokens, want %d held", s, tc.tokens)
					}
				}
				if b.slots() != 1 || b.requests("a") != 1 {
					t.Errorf("%d slots and %d requests are in use, want 1 each", b.slots(), b.requests("a"))
				}
				if g.Heartbeat != DefaultTTL/3 || !g.ExpiresAt.Equal(time.Now().Add(DefaultTTL).Truncate(time.Microsecond)) {
					t.Errorf("the lease ends at %s, with a heartbeat of %s", g.ExpiresAt, g.Heartbeat)
				}
			})
		})
	}
}

func TestEachSubjectOfACallIsCharged(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		r := of("a", 100, 0)
		r.Spender.Subjects = map[string]string{"org_id": "acme"}
		r.Spender.Tags = map[string]string{"team": "red"}
		g := b.reserve(r)
		b.settleUp(&Settlement{ReservationID: g.ReservationID, Usage: &budget.Usage{Input: 100}})
		got := map[string]int64{}
		again := b.reserve(r)
		for _, s := range again.Limits {
			if s.Limit.Unit == store.USD {
				got[s.Tier+" "+s.ID] = s.Used - s.Held
			}
		}
		for _, subject := range []string{"user a", "org acme", "tag red", "global "} {
			if got[subject] != 100_000 {
				t.Errorf("%q is charged %d nano-USD, want 100000: %v", subject, got[subject], got)
			}
		}
	})
}

func TestARepeatOfAReservationTakesNothing(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		first := b.reserve(of("a", 100, 10).keyed("k"))
		time.Sleep(time.Second)
		for range 3 {
			again := b.reserve(of("a", 100, 10).keyed("k"))
			if !again.Repeat || again.ReservationID != first.ReservationID || again.HeldUSD != first.HeldUSD ||
				again.GrantedOutputTokens != 10 || !again.ExpiresAt.Equal(first.ExpiresAt) || again.Status != store.Active {
				t.Fatalf("got %+v, want the first answer %+v", again, first)
			}
		}
		if b.requests("a") != 1 || b.slots() != 1 {
			t.Fatal("a repeat has taken something")
		}
		if other := b.reserve(of("b", 100, 10).keyed("k")); other.Repeat || other.ReservationID == first.ReservationID {
			t.Fatal("another user's key is the first one's")
		}
		_, err := b.Reserve(t.Context(), of("a", 101, 10).keyed("k"))
		wantReason(t, err, IdempotencyMismatch)
		b.settleUp(&Settlement{ReservationID: first.ReservationID, Usage: &budget.Usage{Input: 1}})
		if again := b.reserve(of("a", 100, 10).keyed("k")); !again.Repeat || again.Status != store.Closed {
			t.Fatalf("got %+v, want the repeat to say that it has been settled", again)
		}
	})
}

func TestAKeyStandsForAllThatIsAskedButTheWait(t *testing.T) {
	for name, change := range map[string]func(*Reservation){
		"plan":              func(r *Reservation) { r.Spender.Plan = "tokens" },
		"model":             func(r *Reservation) { r.Spender.Model = "thinks" },
		"subjects":          func(r *Reservation) { r.Spender.Subjects = map[string]string{"x": "y"} },
		"tags":              func(r *Reservation) { r.Spender.Tags = map[string]string{"x": "y"} },
		"input_tokens":      func(r *Reservation) { r.Ask.InputTokens++ },
		"cached":            func(r *Reservation) { r.Ask.CachedInputTokens++ },
		"max_output_tokens": func(r *Reservation) { r.Ask.MaxOutputTokens++ },
		"max_cost_usd":      func(r *Reservation) { r.Ask.MaxCost++ },
		"ttl":               func(r *Reservation) { r.TTL = time.Minute },
		"slot":              func(r *Reservation) { r.NoSlot = true },
		"partial":           func(r *Reservation) { r.Partial = true },
	} {
		runCost(t, "", nil, func(t *testing.T, b *bench) {
			first := b.reserve(of("a", 1, 1).keyed("k"))
			if again := b.reserve(of("a", 1, 1).keyed("k").waiting(time.Second)); again.ReservationID != first.ReservationID {
				t.Error("a repeat with another wait is another reservation")
			}
			r := of("a", 1, 1).keyed("k")
			change(r)
			if _, err := b.Reserve(t.Context(), r); !isReason(err, IdempotencyMismatch) {
				t.Errorf("another %s: got %v, want a mismatch", name, err)
			}
		})
	}
}

func TestARepeatIsAnsweredThoughItsUserIsDeniedFromMemory(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		first := b.reserve(of("a", 1, 1).keyed("k"))
		for range 4 {
			g := b.reserve(of("a", 1, 1))
			if _, err := b.Release(t.Context(), g.ReservationID); err != nil {
				t.Fatal(err)
			}
		}
		_, err := b.Reserve(t.Context(), of("a", 1, 1))
		denial := wantReason(t, err, RateLimited).Denial
		if denial.RetryIn != time.Minute || denial.Tier != "user" || denial.Limit.Name != "minute" {
			t.Fatalf("got %+v", denial)
		}
		asked := b.store.admits.Load()
		_, err = b.Reserve(t.Context(), of("a", 1, 1))
		wantReason(t, err, RateLimited)
		if b.store.admits.Load() != asked {
			t.Error("the store was asked for a denial that is remembered")
		}
		if again := b.reserve(of("a", 1, 1).keyed("k")); again.ReservationID != first.ReservationID {
			t.Fatalf("got %+v", again)
		}
	})
}

func TestWhatASettlementFreesIsFreeAtOnce(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		r := of("a", 0, 4000).under("small") // 0.008 of 0.01 USD
		g := b.reserve(r)
		for range 2 {
			_, err := b.Reserve(t.Context(), r)
			denial := wantReason(t, err, UserBudgetExhausted).Denial
			if denial.Asked != 8_000_000 || denial.Used != 8_000_000 || denial.Available.IsZero() {
				t.Fatalf("got %+v", denial)
			}
		}
		b.settleUp(&Settlement{ReservationID: g.ReservationID, Usage: &budget.Usage{Output: 1}})
		b.reserve(r)
	})
}

func TestADenialSaysWhichLimitAndWhenToComeBack(t *testing.T) {
	for name, tc := range map[string]struct {
		before []*Reservation
		ask    *Reservation
		want   Reason
		wait   time.Duration
		retry  time.Duration
	}{
		"a user's budget": {
			[]*Reservation{of("a", 0, 4000).under("small")},
			of("a", 0, 4000).under("small"),
			UserBudgetExhausted, 24 * time.Hour, 24 * time.Hour,
		},
		"more than a user's budget in all": {nil, of("a", 0, 5001).under("small"), RequestTooExpensive, store.Never, 0},
		"tokens": {
			[]*Reservation{of("a", 500, 100).under("tokens")}, of("a", 401, 0).under("tokens"), TokenLimit, time.Minute, time.Minute,
		},
		"more than all tokens": {nil, of("a", 500, 501).under("tokens"), TokenLimit, store.Never, 0},
		"slots": {
			[]*Reservation{of("a", 1, 1), of("b", 1, 1), of("c", 1, 1)}, of("d", 1, 1), ConcurrencyLimit, 30 * time.Second, time.Second,
		},
		"the system's budget": {
			[]*Reservation{of("a", 0, 0).costing(1e9), of("b", 0, 0).costing(8.5e9).under("none")},
			of("c", 0, 0).costing(1e9),
			GlobalBudgetExhausted, 24 * time.Hour, 24 * time.Hour,
		},
	} {
		t.Run(name, func(t *testing.T) {
			runCost(t, "", nil, func(t *testing.T, b *bench) {
				b.policy.Store(parse(t, withPlan("none", "20 USD/day")))
				for _, r := range tc.before {
					b.reserve(r)
				}
				_, err := b.Reserve(t.Context(), tc.ask)
				d := wantReason(t, err, tc.want).Denial
				if d.Wait != tc.wait || d.RetryIn != tc.retry {
					t.Errorf("got %+v, want a wait of %s and a retry in %s", d, tc.wait, tc.retry)
				}
				if want := time.Now().Add(tc.wait); tc.wait != store.Never && !d.Available.Equal(want.Truncate(time.Microsecond)) {
					t.Errorf("available at %s, want %s", d.Available, want)
				}
			})
		})
	}
}

// withPlan is costPolicy with a plan more.
func withPlan(name, limits string) string {
	const plans = "\nplans:\n"
	return replaceOnce(costPolicy, plans, plans+"  "+name+": {limits: ["+limits+"]}\n")
}

func (r *Reservation) costing(nano int64) *Reservation {
	r.Ask.MaxCost = nano
	return r
}

func TestAPartialGrantIsTheLargestThatFits(t *testing.T) {
	for name, tc := range map[string]struct {
		before, ask *Reservation
		granted     int64
		reason      Reason
	}{
		"of money":         {of("a", 0, 1000).under("small"), of("a", 2000, 9000).under("small"), 2500, ""}, // 8 of 10 million left, 3 for the input
		"of tokens":        {of("a", 100, 100).under("tokens"), of("a", 300, 900).under("tokens"), 500, ""},
		"of one token":     {of("a", 100, 100).under("tokens"), of("a", 799, 900).under("tokens"), 1, ""},
		"of none":          {of("a", 100, 100).under("tokens"), of("a", 800, 900).under("tokens"), 0, TokenLimit},
		"not of the input": {of("a", 100, 100).under("tokens"), of("a", 900, 900).under("tokens"), 0, TokenLimit},
		"of a named cost":  {of("a", 0, 1000).under("small"), of("a", 0, 9000).under("small").costing(9e6), 4000, ""},
		"of all":           {of("a", 0, 1000).under("small"), of("a", 0, 10).under("small"), 10, ""},
	} {
		t.Run(name, func(t *testing.T) {
			runCost(t, "", nil, func(t *testing.T, b *bench) {
				b.reserve(tc.before)
				_, err := b.Reserve(t.Context(), tc.ask)
				if tc.granted != tc.ask.Ask.MaxOutputTokens && err == nil {
					t.Fatal("the whole was admitted")
				}
				tc.ask.Partial = true
				g, err := b.Reserve(t.Context(), tc.ask.keyed("k"))
				if tc.reason != "" {
					wantReason(t, err, tc.reason)
					return
				}
				if err != nil || g.GrantedOutputTokens != tc.granted {
					t.Fatalf("got %+v, %v; want %d tokens", g, err, tc.granted)
				}
				if hasWarning(g.Warnings, WarnPartial) != (tc.granted < tc.ask.Ask.MaxOutputTokens) {
					t.Errorf("got the warnings %+v", g.Warnings)
				}
				if again := b.reserve(tc.ask); again.GrantedOutputTokens != tc.granted || again.ReservationID != g.ReservationID {
					t.Errorf("the repeat is %+v, want %+v", again, g)
				}
			})
		})
	}
}

func TestTheLongestReservationHasAnIDThatEndsIt(t *testing.T) {
	long := func(letter string) string { return strings.Repeat(letter, MaxID) }
	var subjects strings.Builder
	r := of(long("u"), 1, 1)
	r.Spender.Plan, r.Spender.Model, r.Spender.Subjects = long("q"), strings.Repeat("m", MaxModel), map[string]string{}
	r.Ask.MaxCost = 1
	for i := range MaxEntries / 2 { // the most that a policy may have beside the user's
		fmt.Fprintf(&subjects, "  s%d: {key: k%d, default_plan: small, plan_key: p%d, trust_plan: true}\n", i, i, i)
		r.Spender.Subjects[fmt.Sprintf("k%d", i)], r.Spender.Subjects[fmt.Sprintf("p%d", i)] = long("i"), long("p")
	}
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		const others = "  org: {key: org_id, on_store_failure: deny}\n  tag: {key: tag.team}\n"
		text := replaceOnce(costPolicy, others, subjects.String())
		text = replaceOnce(text, text[strings.Index(text, "overrides:"):strings.Index(text, "global:")], "")
		b.policy.Store(parse(t, text))
		g := b.reserve(r)
		if len(g.ReservationID) <= MaxToken/2 || len(g.ReservationID) > MaxToken {
			t.Errorf("the id has %d characters, want at most %d, and the test more than half of that", len(g.ReservationID), MaxToken)
		}
		if receipt, err := b.Release(t.Context(), g.ReservationID); err != nil || receipt.ReleasedUSD != 1 {
			t.Errorf("its release is %+v, %v", receipt, err)
		}
	})
}

func TestAShadowLimitOfMoneyWarns(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		if g := b.reserve(of("a", 0, 9000).under("watched")); !hasWarning(g.Warnings, WarnShadow) {
			t.Fatalf("got %+v, want a warning", g)
		}
	})
}

func TestAModelWithoutAPriceIsThePolicysToJudge(t *testing.T) {
	unpriced := func() *Reservation {
		r := of("a", 100, 100)
		r.Spender.Model = "unheard of"
		return r
	}
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		_, err := b.Reserve(t.Context(), unpriced())
		wantReason(t, err, PriceUnknown)
		_, err = b.Quote(t.Context(), &QuoteAsk{Spender: unpriced().Spender, Ask: unpriced().Ask})
		wantReason(t, err, PriceUnknown)
		for model, warned := range map[string]bool{"unheard of": true, "": false} { // a caller that names no model knows of no price
			r := unpriced().costing(5)
			r.Spender.Model = model
			if g := b.reserve(r); g.HeldUSD != 5 || hasWarning(g.Warnings, WarnPriceUnknown) != warned {
				t.Errorf("model %q with a named cost: got %+v, want 5 nano-USD held, with a warning: %v", model, g, warned)
			}
			q, err := b.Quote(t.Context(), &QuoteAsk{Spender: r.Spender, Ask: r.Ask})
			if err != nil || q.MaximumUSD != 5 || hasWarning(q.Warnings, WarnPriceUnknown) != warned {
				t.Errorf("model %q with a named cost: quoted %+v, %v; want 5 nano-USD, with a warning: %v", model, q, err, warned)
			}
		}
	})
	runCost(t, "", func(o *Options) { o.Disabled = true }, func(t *testing.T, b *bench) {
		b.reserve(unpriced())
		if q, err := b.Quote(t.Context(), &QuoteAsk{Spender: unpriced().Spender, Ask: unpriced().Ask}); err != nil || !q.Admitted {
			t.Errorf("switched off: quoted %+v, %v; want it admitted as the reservation is", q, err)
		}
	})
	runCost(t, "  on_unknown_price: allow_and_flag\n", nil, func(t *testing.T, b *bench) {
		if g := b.reserve(unpriced()); g.HeldUSD != 0 || !hasWarning(g.Warnings, WarnPriceUnknown) {
			t.Errorf("allowed: got %+v", g)
		}
	})
	runCost(t, "  on_unknown_price: default\n  default_price: {input: 0.00001, output: 0.00002}\n", nil, func(t *testing.T, b *bench) {
		if g := b.reserve(unpriced()); g.HeldUSD != 3_000_000 || !hasWarning(g.Warnings, WarnPriceUnknown) {
			t.Errorf("by default: got %+v", g)
		}
	})
}

func TestALostStoreAnswersAReservationByTier(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		b.store.fail(store.ErrTimeout)
		g := b.reserve(of("a", 10, 10))
		if g.HeldUSD != 0 || g.Limits != nil || !hasWarning(g.Warnings, WarnStoreUnavailable) || g.GrantedOutputTokens != 10 ||
			g.Status != store.NoHold {
			t.Fatalf("got %+v, want a grant of nothing, with a warning", g)
		}
		r := of("a", 10, 10)
		r.Spender.Subjects = map[string]string{"org_id": "acme"}
		_, err := b.Reserve(t.Context(), r)
		wantReason(t, err, StoreUnavailable)

		usage := &budget.Usage{Input: 10, Output: 3}
		_, err = b.Settle(t.Context(), &Settlement{ReservationID: g.ReservationID, Usage: usage})
		wantReason(t, err, StoreUnavailable)
		_, err = b.Release(t.Context(), g.ReservationID)
		wantReason(t, err, StoreUnavailable)
		_, err = b.Extend(t.Context(), &Extension{ReservationID: g.ReservationID})
		wantReason(t, err, StoreUnavailable)
		_, err = b.Record(t.Context(), &Record{Spender: Spender{UserID: "a", Model: "m"}, Key: "k"})
		wantReason(t, err, StoreUnavailable)
		_, err = b.Quote(t.Context(), &QuoteAsk{Spender: Spender{UserID: "a", Model: "m"}})
		wantReason(t, err, StoreUnavailable)

		b.store.fail(nil)
		for i := range 3 {
			got := b.settleUp(&Settlement{ReservationID: g.ReservationID, Usage: usage})
			if got.CostUSD != 16_000 || got.Duplicate != (i > 0) {
				t.Fatalf("got %+v, want 16000 nano-USD booked once", got)
			}
		}
		b.wantMoney("a", 16_000, 0)
	})
}

func TestWhileSwitchedOffNothingIsHeldOrBooked(t *testing.T) {
	runCost(t, "", func(o *Options) { o.Disabled = true }, func(t *testing.T, b *bench) {
		g := b.reserve(of("a", 10, 10))
		if g.HeldUSD != 0 || !hasWarning(g.Warnings, WarnDisabled) || g.GrantedOutputTokens != 10 {
			t.Fatalf("got %+v", g)
		}
		got := b.settleUp(&Settlement{ReservationID: g.ReservationID, Usage: &budget.Usage{Input: 10}})
		if got.CostUSD != 10_000 || got.Status != store.Closed {
			t.Fatalf("got %+v", got)
		}
		if _, err := b.Release(t.Context(), g.ReservationID); err != nil {
			t.Error(err)
		}
		if _, err := b.Extend(t.Context(), &Extension{ReservationID: g.ReservationID}); err != nil {
			t.Error(err)
		}
		if b.store.admits.Load()+b.store.settles.Load() != 0 {
			t.Error("the store was asked")
		}
	})
}

func TestTheGlobalTierIsReadByNoID(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		b.reserve(of("a", 0, 500))
		states, err := b.CostUsage(t.Context(), "")
		if err != nil || len(states) != 2 || states[0].Tier != policy.GlobalTier || states[0].Used != 1_000_000 ||
			states[0].Held != 1_000_000 || states[1].Limit.Unit != store.Concurrent || states[1].Used != 1 {
			t.Fatalf("got %+v, %v; want 1000000 nano-USD and a slot", states, err)
		}
		if asked := b.store.admits.Load(); asked != 2 {
			t.Errorf("the store was asked %d times, want once for the reservation and once for the reading", asked)
		}
	})
}

func replaceOnce(text, old, with string) string {
	return strings.Replace(text, old, with, 1)
}
