package engine

import (
	"maps"
	"strconv"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// counted returns what a counter has counted, all series that are not 0, by the values of their labels in the order of names.
func counted(t *testing.T, c prometheus.Collector, names ...string) map[string]float64 {
	t.Helper()
	series := make(chan prometheus.Metric)
	go func() {
		c.Collect(series)
		close(series)
	}()
	found := map[string]float64{}
	for s := range series {
		var m dto.Metric
		if err := s.Write(&m); err != nil {
			t.Error(err)
			continue
		}
		key := ""
		for _, name := range names {
			for _, label := range m.GetLabel() {
				if label.GetName() == name {
					key += label.GetValue() + " "
				}
			}
		}
		if v := m.GetCounter().GetValue(); v != 0 {
			found[key[:max(len(key)-1, 0)]] = v
		}
	}
	return found
}

// histogram is what a histogram has observed.
func histogram(t *testing.T, h prometheus.Metric) *dto.Histogram {
	t.Helper()
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetHistogram()
}

func TestEachCallIsCountedOnceByWhatDecidedIt(t *testing.T) {
	lost := func(b *bench) { b.store.fail(store.ErrUnavailable) }
	for _, tc := range []struct {
		name               string
		change             func(*Options)
		do                 func(b *bench)
		decisions          map[string]float64 // tier, limit, unit, verdict, mode
		queries, exceeded  map[string]float64
		answeredFromMemory float64
	}{
		{
			name:      "admitted, twice, and past a shadow limit once",
			do:        func(b *bench) { b.decide(user("a", 2)); b.decide(user("a", 1)) },
			decisions: map[string]float64{"user minute requests allowed enforced": 2, "user second requests denied shadow": 1},
			queries:   map[string]float64{"allowed": 2},
		},
		{
			name: "denied by the store",
			do:   func(b *bench) { b.decide(user("a", 3)); b.decide(user("a", 2)) },
			decisions: map[string]float64{
				"user minute requests allowed enforced": 1, "user minute requests denied enforced": 1, "user second requests denied shadow": 2,
			},
			queries:  map[string]float64{"allowed": 1, "rate_limited": 1},
			exceeded: map[string]float64{"user minute requests": 1},
		},
		{
			name: "denied by an override's own limit, the second time from memory",
			do: func(b *bench) {
				b.decide(org("acme", 5))
				b.decide(org("acme", 1))
				b.decide(org("acme", 1))
			},
			decisions:          map[string]float64{"org own requests allowed enforced": 1, "org own requests denied enforced": 2},
			queries:            map[string]float64{"allowed": 1, "rate_limited": 2},
			exceeded:           map[string]float64{"org own requests": 2},
			answeredFromMemory: 1,
		},
		{
			name:      "let through while the store is away",
			do:        func(b *bench) { lost(b); b.decide(user("a", 1)) },
			decisions: map[string]float64{"user none none allowed failed_open": 1},
			queries:   map[string]float64{"allowed": 1},
		},
		{
			name:      "denied while the store is away",
			do:        func(b *bench) { lost(b); b.decide(org("acme", 1)) },
			decisions: map[string]float64{"org none none denied failed_shut": 1},
			queries:   map[string]float64{"rate_limited": 1},
			exceeded:  map[string]float64{"org none none": 1},
		},
		{
			name: "of another domain",
			do: func(b *bench) {
				call := policy.Call{Domain: "elsewhere", Descriptors: []policy.Descriptor{user("a", 1)}}
				if err := b.Decide(b.t.Context(), &call, new(Decision)); err != nil {
					b.t.Fatal(err)
				}
			},
			decisions: map[string]float64{"none none none allowed unmatched": 1},
			queries:   map[string]float64{"allowed": 1},
		},
		{
			name:      "switched off",
			change:    func(o *Options) { o.Disabled = true },
			do:        func(b *bench) { b.decide(user("a", 1)); b.reserve(of("a", 1, 1)) },
			decisions: map[string]float64{"none none none allowed disabled": 2},
			queries:   map[string]float64{"allowed": 2},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run(t, tc.change, func(t *testing.T, b *bench) {
				tc.do(b)
				m := b.opt.Metrics
				if got := counted(t, m.Decisions, "tier", "limit", "unit", "verdict", "mode"); !maps.Equal(got, tc.decisions) {
					t.Errorf("decisions: got %v, want %v", got, tc.decisions)
				}
				if got := counted(t, m.Queries, "status"); !maps.Equal(got, tc.queries) {
					t.Errorf("queries: got %v, want %v", got, tc.queries)
				}
				if got := counted(t, m.Exceeded, "tier", "limit", "unit"); !maps.Equal(got, tc.exceeded) {
					t.Errorf("exceeded: got %v, want %v", got, tc.exceeded)
				}
				if got := counted(t, m.LocalAnswers)[""]; got != tc.answeredFromMemory {
					t.Errorf("%v are answered from memory, want %v", got, tc.answeredFromMemory)
				}
			})
		})
	}
}

func TestSeriesOfPoliciesLongGoneEnd(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		known := map[series]tally{}
		for i := range mostSeries {
			s := series{tier: "user", limit: strconv.Itoa(i), denied: true}
			known[s] = b.counters.find(s)
			known[s].decisions.Inc()
			known[s].exceeded.Inc()
		}
		b.counters.known.Store(&known)
		b.decide(user("a", 1))
		for name, c := range map[string]prometheus.Collector{
			"decisions": b.opt.Metrics.Decisions, "exceeded": b.opt.Metrics.Exceeded,
		} {
			if got := len(counted(t, c, "limit")); got > 1 {
				t.Errorf("%s: %d limits have a series, want one at most: all begin anew", name, got)
			}
		}
	})
}

// TestAPolicyCannotNameALimitAsMetricsNameNone holds the names that a policy may give to those that metrics say in their place.
func TestAPolicyCannotNameALimitAsMetricsNameNone(t *testing.T) {
	for name, refused := range map[string]bool{telemetry.TierNone: true, "nobody": false} {
		text := "domain: a\nsubjects: {" + name + ": {key: k}}\n"
		if _, _, err := policy.Parse("p.yaml", []byte(text), policy.Adjustments{}); (err != nil) != refused {
			t.Errorf("a tier is called %s: %v; want it refused: %v", name, err, refused)
		}
	}
	for name, refused := range map[string]bool{telemetry.LimitOwn: true, telemetry.LimitNone: true, "hour": false} {
		text := "domain: a\nsubjects: {user: {key: k}}\nglobal: {limits: [{limit: 1/hour, name: " + name + "}]}\n"
		if _, _, err := policy.Parse("p.yaml", []byte(text), policy.Adjustments{}); (err != nil) != refused {
			t.Errorf("a limit is called %s: %v; want it refused: %v", name, err, refused)
		}
	}
}

func TestLimitsOfOneNameAreCountedApart(t *testing.T) {
	m := telemetry.NewMetrics(prometheus.NewRegistry())
	c := newCounters(m)
	for _, unit := range []store.Unit{store.Requests, store.USD} {
		limit := &policy.Limit{Name: "day", Unit: unit}
		c.count(&Decision{
			Denied: true, Deciding: Status{Tier: "user", Limit: limit}, Shadowed: []Shadowed{{Tier: "user", Limit: limit}},
		})
	}
	want := map[string]float64{
		"user day requests enforced": 1, "user day usd enforced": 1, "user day requests shadow": 1, "user day usd shadow": 1,
	}
	if got := counted(t, m.Decisions, "tier", "limit", "unit", "mode"); !maps.Equal(got, want) {
		t.Errorf("decisions: got %v, want %v", got, want)
	}
	want = map[string]float64{"user day requests": 1, "user day usd": 1}
	if got := counted(t, m.Exceeded, "tier", "limit", "unit"); !maps.Equal(got, want) {
		t.Errorf("exceeded: got %v, want %v", got, want)
	}
}

// TestWhatIsCountedIsWhatIsScraped has many goroutines count new limits while the series begin anew.
func TestWhatIsCountedIsWhatIsScraped(t *testing.T) {
	m := telemetry.NewMetrics(prometheus.NewRegistry())
	c := newCounters(m)
	for range 20 {
		full := map[series]tally{}
		for i := range mostSeries - 4 {
			full[series{limit: "old" + strconv.Itoa(i)}] = tally{}
		}
		c.known.Store(&full)
		var counting sync.WaitGroup
		for i := range 32 {
			counting.Go(func() { c.tally(series{tier: "user", limit: strconv.Itoa(i), denied: true}) })
		}
		counting.Wait()
		for s, known := range *c.known.Load() {
			if known.decisions != nil && known != c.find(s) {
				t.Fatalf("what is counted of %+v is not scraped: its series has ended", s)
			}
		}
	}
}
