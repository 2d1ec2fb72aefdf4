package cost

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

const (
	day   = 24 * time.Hour
	theID = "AbC-_019"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// fakeEngine keeps what it was asked last, and answers with what it is given.
type fakeEngine struct {
	err    error
	do     func(ctx context.Context) error // called before an answer, if it is set
	limits []engine.LimitState

	mu    sync.Mutex
	asked any
	calls int
}

// ask notes a question and says how it fares.
func (f *fakeEngine) ask(ctx context.Context, asked any) error {
	f.mu.Lock()
	f.asked = asked
	f.calls++
	f.mu.Unlock()
	if f.do != nil {
		if err := f.do(ctx); err != nil {
			return err
		}
	}
	return f.err
}

func (f *fakeEngine) Quote(ctx context.Context, a *engine.QuoteAsk) (*engine.Quotation, error) {
	if err := f.ask(ctx, a); err != nil {
		return nil, err
	}
	return &engine.Quotation{
		ExpectedUSD: 200_600, MaximumUSD: 260_600, Binding: userBudget(), MaxOutputTokens: 44, Limits: f.limits,
		Warnings: []engine.Warning{{Code: engine.WarnShadow, Text: "a shadow"}},
	}, nil
}

func (f *fakeEngine) Reserve(ctx context.Context, r *engine.Reservation) (*engine.Grant, error) {
	if err := f.ask(ctx, r); err != nil {
		return nil, err
	}
	return &engine.Grant{
		ReservationID: theID, HeldUSD: 260_600, GrantedOutputTokens: 145, ExpiresAt: noon.Add(30 * time.Second),
		Heartbeat: 10 * time.Second, Limits: f.limits, Repeat: true, Status: store.Active,
		Warnings: []engine.Warning{{Code: engine.WarnPartial, Text: "less"}},
	}, nil
}

func (f *fakeEngine) Extend(ctx context.Context, x *engine.Extension) (*engine.Extended, error) {
	if err := f.ask(ctx, x); err != nil {
		return nil, err
	}
	return &engine.Extended{
		ExpiresAt: noon.Add(time.Minute), HeldUSD: 1, Heartbeat: 20 * time.Second, MustStop: true, Denial: userBudget(),
	}, nil
}

func (f *fakeEngine) receipt() *engine.Receipt {
	return &engine.Receipt{
		CostUSD: 260_600, Breakdown: budget.Breakdown{Input: 173_600, Output: 87_000, Total: 260_600},
		ReleasedUSD: 1_000_000_000, OverageUSD: 2, SavedUSD: 3, Duplicate: true, Late: true, Status: store.Closed,
		Warnings: []engine.Warning{{Code: engine.WarnUsageUnknown, Text: "unknown"}},
	}
}

func (f *fakeEngine) Settle(ctx context.Context, s *engine.Settlement) (*engine.Receipt, error) {
	return f.receipt(), f.ask(ctx, s)
}

func (f *fakeEngine) Release(ctx context.Context, id string) (*engine.Receipt, error) {
	r := f.receipt()
	r.Status = store.Released
	return r, f.ask(ctx, id)
}

func (f *fakeEngine) Record(ctx context.Context, r *engine.Record) (*engine.Receipt, error) {
	return f.receipt(), f.ask(ctx, r)
}

func (f *fakeEngine) CostUsage(ctx context.Context, id string) ([]engine.LimitState, error) {
	return f.limits, f.ask(ctx, id)
}

// userBudget is a denial by a budget that is back two hours after noon.
func userBudget() *engine.Denial {
	return &engine.Denial{
		Reason: engine.UserBudgetExhausted, Tier: "user", ID: "123",
		Limit: policy.Limit{Name: "day", Unit: store.USD, Max: 5_000_000_000, Period: day},
		Used:  4_990_000_000, Asked: 20_000_000, Wait: 2 * time.Hour, RetryIn: 2*time.Hour - 1, Available: noon.Add(2 * time.Hour),
	}
}

// someLimits are one limit of each unit.
func someLimits() []engine.LimitState {
	limit := func(name string, unit store.Unit, most int64, period time.Duration) policy.Limit {
		return policy.Limit{Name: name, Unit: unit, Max: most, Period: period}
	}
	return []engine.LimitState{
		{Tier: "user", ID: "123", Plan: "free", Limit: limit("minute", store.Requests, 10, time.Minute), Used: 12, Resets: noon},
		{Tier: "user", ID: "123", Plan: "free", Limit: limit("day", store.USD, 5_000_000_000, day), Used: 260_601, Held: 1, Resets: noon},
		{Tier: "global", Plan: "global", Limit: limit("concurrent", store.Concurrent, 100, 0), Used: 40},
	}
}

func newServer(t testing.TB, e Engine) *Server {
	t.Helper()
	s := New(Options{Engine: e, Metrics: telemetry.NewMetrics(prometheus.NewRegistry()), Log: telemetry.NopLog()})
	t.Cleanup(s.Refuse)
	return s
}
