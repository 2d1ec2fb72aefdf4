package telemetry

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// BenchmarkObserve is what the latency of one call costs: without traces, and for a call that is traced.
func BenchmarkObserve(b *testing.B) {
	sampled := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled,
	}))
	for _, bc := range []struct {
		name      string
		ctx       context.Context //nolint:containedctx // of the case
		exemplars bool
	}{
		{"without traces", context.Background(), false},
		{"not sampled", context.Background(), true},
		{"sampled", sampled, true},
	} {
		b.Run(bc.name, func(b *testing.B) {
			m := NewMetrics(prometheus.NewRegistry())
			m.Exemplars(bc.exemplars)
			latency := m.Latency(EdgeRLS)
			b.ReportAllocs()
			for took := 100 * time.Microsecond; b.Loop(); took = took%time.Millisecond + time.Microsecond {
				latency.Observe(bc.ctx, took, 80*time.Microsecond)
			}
		})
	}
	b.Run("classic buckets alone", func(b *testing.B) { // to compare with
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Help: "To compare with.", Buckets: latencyBuckets()})
		b.ReportAllocs()
		for took := 100 * time.Microsecond; b.Loop(); took = took%time.Millisecond + time.Microsecond {
			h.Observe(took.Seconds())
		}
	})
}
