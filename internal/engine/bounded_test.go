package engine

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store/memory"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// crowd is who calls in TestSeriesStayBoundedWhateverIsAsked: a million users, none of them twice.
const (
	crowdUsers   = 1_000_000
	crowdCallers = 4
)

// hostile is a text that a client may send in the place of a name: each another one, and none fit for a label.
func hostile(i int) string {
	return strconv.Itoa(i) + "\"} 1\nratelimitd_up{x=\"\xff\x00"
}

// TestSeriesStayBoundedWhateverIsAsked has a million users call with models, descriptors, domains and limits that nobody has heard of.
func TestSeriesStayBoundedWhateverIsAsked(t *testing.T) {
	t.Parallel()
	mem := memory.New(memory.Options{MaxBytes: 4 << 20})
	defer func() { _ = mem.Close() }()
	reg := prometheus.NewRegistry()
	text := costPolicy + "  on_unknown_price: allow_and_flag\n"
	snapshot := parse(t, replaceOnce(text, "global: {limits: [10 USD/day, 3 concurrent]", "global: {limits: [10 USD/second]"))
	e := New(Options{
		Store: mem, Policy: func() *policy.Snapshot { return snapshot }, Timeout: MaxTTL,
		Metrics: telemetry.NewMetrics(reg), Log: telemetry.NopLog(),
	})
	defer func() {
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	ask := func(from, to int) {
		var callers sync.WaitGroup
		for c := range crowdCallers {
			callers.Go(func() {
				var dec Decision
				for i := from + c; i < to; i += crowdCallers {
					e.askAsAStranger(t, i, &dec)
				}
			})
		}
		callers.Wait()
	}
	const first = crowdUsers / 4 // after which there has been every kind of answer: the store is full, too
	ask(0, first)
	before := seriesOf(t, reg)
	ask(first, crowdUsers)
	after := seriesOf(t, reg)
	for name, n := range after {
		if n > before[name] {
			t.Errorf("%s has %d series after %d users, and had %d after %d", name, n, crowdUsers, before[name], first)
		}
	}
	if len(after) == 0 || after["ratelimitd_decisions_total"] == 0 || after["ratelimitd_cost_usd_total"] == 0 {
		t.Errorf("the calls have left no series: %v", after)
	}
}

// askAsAStranger makes the calls of one user, who is another for each i.
func (e *Engine) askAsAStranger(t *testing.T, i int, dec *Decision) {
	id := hostile(i)
	call := policy.Call{Domain: "assistant", Descriptors: []policy.Descriptor{{
		Entries: []policy.Entry{{Key: "user_id", Value: id}, {Key: "plan", Value: id}},
	}}}
	ctx := context.Background()
	switch i % 32 { // most only look, which is counted all the same
	case 0:
		call.Descriptors[0].Amount = 1
	case 1:
		call.Domain = id
	case 2:
		call.Descriptors[0].Entries = []policy.Entry{{Key: id, Value: id}}
	case 3:
		call.Descriptors[0].Own = &policy.Limit{Name: id, Max: int64(i), Period: time.Second}
	case 4:
		call.Descriptors[0].Amount = 1
		call.Descriptors[0].Entries = append(call.Descriptors[0].Entries,
			policy.Entry{Key: "request_id", Value: id}, policy.Entry{Key: "model", Value: id})
	case 5:
		e.EndStream(ctx, &StreamEnd{Domain: "assistant", Entries: call.Descriptors[0].Entries, Model: id, Outcome: id, Cost: new(int64(1))})
		return
	case 6:
		r := Reservation{Spender: Spender{UserID: id, Plan: id, Model: id, Subjects: map[string]string{"org_id": id}}}
		if g, err := e.Reserve(ctx, &r); err == nil {
			_, _ = e.Settle(ctx, &Settlement{ReservationID: g.ReservationID, Model: id + "2", Outcome: id, Usage: &budget.Usage{Input: 1}})
		}
		return
	case 7:
		_, _ = e.Record(ctx, &Record{Spender: Spender{UserID: id, Model: id}, Key: "k", Usage: budget.Usage{Output: 1}})
		return
	}
	if err := e.Decide(ctx, &call, dec); err != nil {
		t.Errorf("user %d: %v", i, err)
	}
}

// seriesOf is how many series each metric has; none may have a caller's text.
func seriesOf(t *testing.T, reg prometheus.Gatherer) map[string]int {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, f := range families {
		n[f.GetName()] = len(f.GetMetric())
		for _, series := range f.GetMetric() {
			for _, label := range series.GetLabel() {
				if strings.Contains(label.GetValue(), "ratelimitd_up") {
					t.Errorf("%s has the label %s=%q, which is a caller's", f.GetName(), label.GetName(), label.GetValue())
				}
			}
		}
	}
	return n
}
