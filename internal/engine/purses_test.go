package engine

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// namedPrices are further prices: one with an alias and a pattern.
const namedPrices = "    claude: {input: 0.000001, output: 0.000001, aliases: [sonnet, 'claude-*']}\n"

// runPriced runs a test of an engine whose policy has namedPrices, and more behind it.
func runPriced(t *testing.T, more string, test func(*testing.T, *bench)) {
	t.Helper()
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		text := replaceOnce(costPolicy, "  on_unknown_usage", namedPrices+"  on_unknown_usage")
		b.policy.Store(parse(t, text+more))
		test(t, b)
	})
}

// nanos are the money metrics as flow and model, in nano-USD, since those are whole numbers.
func (b *bench) nanos() map[string]float64 {
	b.t.Helper()
	found := counted(b.t, b.opt.Metrics.Money, "flow", "model")
	for key, usd := range found {
		found[key] = float64(int64(usd*1e9 + 0.5))
	}
	return found
}

// asking is a reservation of 100 tokens of input for a model.
func asking(model string) *Reservation {
	r := of("a", 100, 0)
	r.Spender.Model = model
	return r
}

func TestMoneyIsCountedByTheNameOfItsPriceInThePolicy(t *testing.T) {
	const byDefault = "  on_unknown_price: default\n  default_price: {input: 0.00001, output: 0.00002}\n"
	used := func(g *Grant, input int64) *Settlement {
		return &Settlement{ReservationID: g.ReservationID, Usage: &budget.Usage{Input: input}}
	}
	for _, tc := range []struct {
		name, more string
		do         func(b *bench)
		want       map[string]float64
	}{
		{
			"its own name, less than held", "", func(b *bench) { b.settleUp(used(b.reserve(asking("m")), 10)) },
			map[string]float64{"held m": 150_000, "settled m": 10_000, "released m": 140_000},
		},
		{
			"an alias, more than held", "", func(b *bench) { b.settleUp(used(b.reserve(asking("sonnet")), 130)) },
			map[string]float64{"held claude": 100_000, "settled claude": 130_000, "over claude": 30_000},
		},
		{
			"a pattern", "", func(b *bench) { b.settleUp(used(b.reserve(asking("claude-"+strings.Repeat("x", 99))), 100)) },
			map[string]float64{"held claude": 100_000, "settled claude": 100_000},
		},
		{
			"the default price", byDefault, func(b *bench) { b.settleUp(used(b.reserve(asking("who?")), 100)) },
			map[string]float64{"held default": 1_000_000, "settled default": 1_000_000},
		},
		{"no price, at a cost that the caller names", "", func(b *bench) {
			b.settleUp(&Settlement{ReservationID: b.reserve(asking("who?").costing(500)).ReservationID, ProviderCost: new(int64(70))})
		}, map[string]float64{"held unknown": 500, "settled unknown": 70, "released unknown": 430}},
		{"the model that really ran", "", func(b *bench) {
			s := used(b.reserve(asking("m")), 100)
			s.Model = "sonnet"
			b.settleUp(s)
		}, map[string]float64{"held m": 150_000, "settled claude": 100_000, "released claude": 50_000}},
		{"the cache of the assistant", "", func(b *bench) {
			s := used(b.reserve(asking("sonnet")), 60)
			s.CacheHit = true
			b.settleUp(s)
		}, map[string]float64{"held claude": 100_000, "released claude": 100_000, "saved claude": 60_000}},
		{"a release", "", func(b *bench) {
			if _, err := b.Release(b.t.Context(), b.reserve(asking("sonnet")).ReservationID); err != nil {
				b.t.Fatal(err)
			}
		}, map[string]float64{"held claude": 100_000, "released claude": 100_000}},
		{"a second settlement counts nothing", "", func(b *bench) {
			s := used(b.reserve(asking("sonnet")), 100)
			b.settleUp(s)
			b.settleUp(s)
		}, map[string]float64{"held claude": 100_000, "settled claude": 100_000}},
		{"a record", "", func(b *bench) {
			r := &Record{Spender: asking("sonnet").Spender, Key: "k", Usage: budget.Usage{Output: 7}}
			if _, err := b.Record(b.t.Context(), r); err != nil {
				b.t.Fatal(err)
			}
		}, map[string]float64{"settled claude": 7000}},
		{"a call by Envoy and its stream", "", func(b *bench) {
			dec := b.decide(holding("a", "model", "claude-2", "input_tokens", "10", "max_output_tokens", "0"))
			b.EndStream(b.t.Context(), &StreamEnd{Hold: dec.Hold, Usage: &budget.Usage{Input: 10}})
		}, map[string]float64{"held claude": 10_000, "settled claude": 10_000}},
		{
			"a call by Envoy that is priced by the rule", "", func(b *bench) { b.decide(holding("a", "model", "who?")) },
			map[string]float64{"held m": 350_000},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runPriced(t, tc.more, func(t *testing.T, b *bench) {
				tc.do(b)
				if got := b.nanos(); !maps.Equal(got, tc.want) {
					t.Errorf("got %v, want %v", got, tc.want)
				}
				settled := map[string]float64{}
				for key, nano := range tc.want {
					if flow, model, _ := strings.Cut(key, " "); flow == "settled" {
						settled[model] = nano / 1e9
					}
				}
				if got := counted(t, b.opt.Metrics.ModelCost, "model"); !maps.Equal(got, settled) {
					t.Errorf("by the name for dashboards: got %v, want %v", got, settled)
				}
			})
		})
	}
}

func TestAPriceNamedAsAConstantIsNotTakenForIt(t *testing.T) {
	const more = "    unknown: {input: 0.000001, output: 0}\n    default: {input: 0.000002, output: 0}\n" +
		"    other: {input: 0.000003, output: 0, aliases: [x]}\n" +
		"  on_unknown_price: default\n  default_price: {input: 0.000004, output: 0}\n"
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		b.policy.Store(parse(t, replaceOnce(costPolicy, "  on_unknown_usage", more+"  on_unknown_usage")))
		for i, model := range []string{"unknown", "default", "x", "who?"} {
			r := &Record{Spender: Spender{UserID: "a", Model: model}, Key: strconv.Itoa(i)}
			r.Usage.Input = 1
			if _, err := b.Record(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		grant := b.reserve(asking("unknown").costing(1000))
		b.settleUp(&Settlement{ReservationID: grant.ReservationID, ProviderCost: new(int64(500))})
		want := map[string]float64{
			"settled other": 1000 + 2000 + 3000 + 500, "settled default": 4000, "held other": 1000, "released other": 500,
		}
		if got := b.nanos(); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestModelsBeyondTheBoundAreCountedTogether(t *testing.T) {
	const models = 2 * mostModels
	var prices strings.Builder
	for i := range models {
		fmt.Fprintf(&prices, "    model-%d: {input: 0.000001, output: 0}\n", i)
	}
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		b.policy.Store(parse(t, replaceOnce(costPolicy, "  on_unknown_usage", prices.String()+"  on_unknown_usage")))
		for i := range models {
			r := &Record{Spender: Spender{UserID: "a", Model: "model-" + strconv.Itoa(i)}, Key: strconv.Itoa(i)}
			r.Usage.Input = 1
			if _, err := b.Record(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		got := counted(t, b.opt.Metrics.ModelCost, "model")
		if len(got) != mostModels { // all but "unknown", which has counted nothing, and with "other"
			t.Errorf("%d models are shown, want %d", len(got), mostModels)
		}
		if nano, want := b.nanos()["settled other"], float64(1000*(models-mostModels+1)); nano != want {
			t.Errorf("%v nano-USD are counted as other models', want %v", nano, want)
		}
	})
}

func TestAModelBeyondTheBoundWaitsForNoLock(t *testing.T) {
	p := newPurses(telemetry.NewMetrics(prometheus.NewRegistry()))
	for i := range mostModels {
		p.of("model-" + strconv.Itoa(i))
	}
	other := p.of("another")
	p.mu.Lock()
	defer p.mu.Unlock()
	found := make(chan *purse, 1)
	go func() { found <- p.of("yet another") }()
	select {
	case got := <-found:
		if got != other {
			t.Error("two models beyond the bound are counted apart")
		}
	case <-time.After(10 * time.Second):
		t.Error("a model beyond the bound waits for the lock that is for growing")
	}
}

func TestReservationsThatHoldAreCountedWhenTheyBegin(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		started := func() float64 { return testutil.ToFloat64(b.opt.Metrics.Started) }
		b.reserve(of("a", 1, 0).keyed("k"))
		b.reserve(of("a", 1, 0).keyed("k")) // the same one
		b.decide(holding("a"))
		b.decide(user("a", 1)) // holds nothing
		if got := started(); got != 2 {
			t.Errorf("%v are counted, want 2", got)
		}
		b.store.fail(store.ErrTimeout)
		b.reserve(of("a", 1, 0)) // nothing is held
		if got := started(); got != 2 {
			t.Errorf("%v are counted while the store is away, want 2", got)
		}
	})
}

// TestAHoldThatNobodyHeardOfIsCountedWithItsRelease has the store take a hold whose caller is told that it failed.
func TestAHoldThatNobodyHeardOfIsCountedWithItsRelease(t *testing.T) {
	slow := &late{}
	runCost(t, "", func(o *Options) { slow.Store = o.Store; o.Store = slow }, func(t *testing.T, b *bench) {
		slow.late = true
		_, err := b.Reserve(t.Context(), ofAcme("a"))
		wantReason(t, err, StoreUnavailable)
		slow.late = false
		time.Sleep(firstRetry)
		synctest.Wait()
		want := map[string]float64{"held m": 170_000, "released m": 170_000}
		if got := b.nanos(); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if started := testutil.ToFloat64(b.opt.Metrics.Started); started != 1 {
			t.Errorf("%v reservations have begun, want the one that has ended", started)
		}
	})
}

func TestTheTimeOfAQueryIsFromItsAdmissionToItsSettlement(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		g := b.reserve(of("a", 10, 0))
		late := b.reserve(of("a", 10, 0))
		dropped := b.reserve(of("a", 10, 0))
		time.Sleep(2500 * time.Millisecond)
		for range 2 { // a repeat is no query
			b.settleUp(&Settlement{ReservationID: g.ReservationID, Usage: &budget.Usage{Input: 1}})
		}
		if _, err := b.Release(t.Context(), dropped.ReservationID); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Record(t.Context(), &Record{Spender: of("a", 0, 0).Spender, Key: "k"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(57500 * time.Millisecond)
		b.settleUp(&Settlement{ReservationID: late.ReservationID, Usage: &budget.Usage{Input: 1}})
		h := histogram(t, b.opt.Metrics.QueryTime)
		if h.GetSampleCount() != 2 || h.GetSampleSum() != 62.5 {
			t.Errorf("%d queries took %v s, want 2 of 2.5 and 60", h.GetSampleCount(), h.GetSampleSum())
		}
	})
}

// slowStore takes its time.
type slowStore struct {
	store.Store
	takes time.Duration
}

func (s *slowStore) Admit(ctx context.Context, req *store.Request, ans *store.Answer) error {
	time.Sleep(s.takes)
	return s.Store.Admit(ctx, req, ans)
}

func (s *slowStore) Settle(ctx context.Context, st *store.Settlement, out *store.Settled) error {
	time.Sleep(s.takes)
	return s.Store.Settle(ctx, st, out)
}

func (s *slowStore) Refund(ctx context.Context, req *store.Request, ans *store.Answer) (int64, error) {
	time.Sleep(s.takes)
	return s.Store.Refund(ctx, req, ans)
}

func TestTheTimeInTheStoreIsToldApart(t *testing.T) {
	const takes = 3 * time.Millisecond
	trips := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "trips", Help: "Trips."})
	slow := &slowStore{takes: takes}
	change := func(o *Options) { slow.Store, o.Store, o.Trips = o.Store, slow, trips }
	runCost(t, "", change, func(t *testing.T, b *bench) {
		if dec := b.decide(user("a", 1)); dec.InStore != takes {
			t.Errorf("a decision spent %s in the store, want %s", dec.InStore, takes)
		}
		if dec := b.decide(user("a", 1), giveBack(user("a", 1))); dec.InStore != 2*takes {
			t.Errorf("a decision with a refund spent %s in the store, want %s", dec.InStore, 2*takes)
		}
		var dec Decision
		call := policy.Call{Domain: "elsewhere", Descriptors: []policy.Descriptor{user("a", 1)}}
		if err := b.Decide(t.Context(), &call, &dec); err != nil || dec.InStore != 0 {
			t.Errorf("what asks for nothing spent %s in the store (%v), want none", dec.InStore, err)
		}
		end := StreamEnd{Hold: b.decide(holding("a")).Hold, Outcome: "error"}
		b.EndStream(t.Context(), &end)
		if end.InStore != takes {
			t.Errorf("the end of a stream spent %s in the store, want %s", end.InStore, takes)
		}

		ctx, watch := WithStopwatch(t.Context())
		g, err := b.Reserve(ctx, of("a", 1, 1))
		if err != nil || watch.InStore() != takes {
			t.Errorf("a reservation spent %s in the store (%v), want %s", watch.InStore(), err, takes)
		}
		for name, ask := range map[string]func() error{
			"a quote": func() error { _, err := b.Quote(ctx, &QuoteAsk{Spender: of("a", 1, 1).Spender}); return err },
			"an extension": func() error {
				_, err := b.Extend(ctx, &Extension{ReservationID: g.ReservationID})
				return err
			},
			"usage": func() error { _, err := b.CostUsage(ctx, "a"); return err },
		} {
			before := watch.InStore()
			if err := ask(); err != nil || watch.InStore()-before != takes {
				t.Errorf("%s spent %s in the store (%v), want %s", name, watch.InStore()-before, err, takes)
			}
		}
		before := watch.InStore()
		if _, err := b.Release(ctx, g.ReservationID); err != nil || watch.InStore()-before != takes {
			t.Errorf("a release spent %s in the store (%v), want %s", watch.InStore()-before, err, takes)
		}
		const all = 10
		if h := histogram(t, trips); h.GetSampleCount() != all {
			t.Errorf("%d trips are told, want %d", h.GetSampleCount(), all)
		}
	})
}
