package telemetry

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/trace"
)

// family returns a metric's series as a scrape sees them; nil if it has none.
func family(t *testing.T, reg prometheus.Gatherer, name string) []*dto.Metric {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()
		}
	}
	return nil
}

// with returns the series that has this label.
func with(t *testing.T, series []*dto.Metric, label, value string) *dto.Metric {
	t.Helper()
	for _, m := range series {
		for _, l := range m.GetLabel() {
			if l.GetName() == label && l.GetValue() == value {
				return m
			}
		}
	}
	t.Fatalf("no series has %s=%q", label, value)
	return nil
}

func TestALatencyIsShownAsAWholeAndWithoutTheStoresPart(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	rls := m.Latency(EdgeRLS)
	rls.Observe(t.Context(), 300*time.Microsecond, 260*time.Microsecond)
	rls.Observe(t.Context(), 100*time.Microsecond, 101*time.Microsecond) // clocks are read one after the other
	m.Stage(StageQueue).Observe(0.00001)

	whole := with(t, family(t, reg, "ratelimitd_decision_duration_seconds"), LabelEdge, EdgeRLS).GetHistogram()
	if whole.GetSampleCount() != 2 || !near(whole.GetSampleSum(), 400e-6) {
		t.Errorf("the calls took %v s in %d, want 0.0004 in 2", whole.GetSampleSum(), whole.GetSampleCount())
	}
	if whole.GetSchema() == 0 || len(whole.GetPositiveSpan()) == 0 || len(whole.GetBucket()) != len(latencyBuckets()) {
		t.Errorf("the histogram is not both native and classic: schema %d, %d spans, %d buckets",
			whole.GetSchema(), len(whole.GetPositiveSpan()), len(whole.GetBucket()))
	}
	stages := family(t, reg, "ratelimitd_decision_stage_duration_seconds")
	outside := with(t, stages, LabelStage, StageEdge).GetHistogram()
	if outside.GetSampleCount() != 2 || !near(outside.GetSampleSum(), 40e-6) {
		t.Errorf("outside the store they spent %v s in %d, want 0.00004 in 2", outside.GetSampleSum(), outside.GetSampleCount())
	}
	if queue := with(t, stages, LabelStage, StageQueue).GetHistogram(); queue.GetSampleCount() != 1 {
		t.Errorf("%d waits are counted, want 1", queue.GetSampleCount())
	}
}

func near(got, want float64) bool { return got > want-1e-9 && got < want+1e-9 }

func TestALatencyNamesTheTraceOfASampledCallWhereTracingIsOn(t *testing.T) {
	id := trace.TraceID{0xab, 15: 0xcd}
	inTrace := func(flags trace.TraceFlags) context.Context {
		return trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: id, SpanID: trace.SpanID{1}, TraceFlags: flags,
		}))
	}
	for _, tc := range []struct {
		name string
		on   bool
		ctx  context.Context //nolint:containedctx // of the case
		want string
	}{
		{"off", false, inTrace(trace.FlagsSampled), ""},
		{"not traced", true, t.Context(), ""},
		{"not sampled", true, inTrace(0), ""},
		{"sampled", true, inTrace(trace.FlagsSampled), id.String()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			m := NewMetrics(reg)
			m.Exemplars(tc.on)
			m.Latency(EdgeCost).Observe(tc.ctx, time.Millisecond, 0)
			got := ""
			for _, b := range with(t, family(t, reg, "ratelimitd_decision_duration_seconds"), LabelEdge, EdgeCost).GetHistogram().GetBucket() {
				for _, label := range b.GetExemplar().GetLabel() {
					got += label.GetName() + "=" + label.GetValue()
				}
			}
			if tc.want != "" {
				tc.want = "trace_id=" + tc.want
			}
			if got != tc.want {
				t.Errorf("the exemplar is %q, want %q", got, tc.want)
			}
		})
	}
}
