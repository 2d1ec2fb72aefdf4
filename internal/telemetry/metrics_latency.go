package telemetry

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Bounds of the native histogram beside the classic buckets: neighbours differ by at most a tenth, and when there are more than so
// many buckets, they are made wider or begin anew.
const (
	nativeFactor  = 1.1
	nativeBuckets = 100
	nativeReset   = time.Hour
)

// latencyBuckets span 50 microseconds to 50 milliseconds: Envoy's own default timeout is 20 ms.
func latencyBuckets() []float64 {
	return []float64{
		50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 750e-6, 1e-3, 2e-3, 3e-3, 5e-3, 7.5e-3, 10e-3, 15e-3, 20e-3, 50e-3,
	}
}

// stageBuckets begin at 5 microseconds: that is what is spent outside the store.
func stageBuckets() []float64 {
	return append([]float64{5e-6, 10e-6, 25e-6}, latencyBuckets()...)
}

func (m *Metrics) makeLatency() {
	m.latency = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                            "ratelimitd_decision_duration_seconds",
		Help:                            "Time from a decoded call to its answer.",
		Buckets:                         latencyBuckets(),
		NativeHistogramBucketFactor:     nativeFactor,
		NativeHistogramMaxBucketNumber:  nativeBuckets,
		NativeHistogramMinResetDuration: nativeReset,
	}, []string{LabelEdge})
	m.stages = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ratelimitd_decision_stage_duration_seconds",
		Help: "Parts of the decisions' time: outside the store (each call), waiting to be sent to it (each decision), " +
			"and its trip (each trip, which may carry several decisions).",
		Buckets: stageBuckets(),
	}, []string{LabelStage})
}

// Latency observes how long the calls of one edge took. It is safe for concurrent use.
type Latency struct {
	total, outside prometheus.Observer
	exemplars      *atomic.Bool
}

// Latency returns the observer of an edge, an Edge constant.
func (m *Metrics) Latency(edge string) *Latency {
	return &Latency{
		total: m.latency.WithLabelValues(edge), outside: m.stages.WithLabelValues(StageEdge), exemplars: &m.exemplars,
	}
}

// Stage returns the observer of a part of the decisions' time, in seconds; stage is a Stage constant.
func (m *Metrics) Stage(stage string) prometheus.Observer { return m.stages.WithLabelValues(stage) }

// Exemplars says whether latencies carry the trace ids of calls that are sampled. They do not until it is called.
func (m *Metrics) Exemplars(on bool) { m.exemplars.Store(on) }

// Observe notes a call that took so long in all, of which it spent inStore waiting for the store. ctx is the call's: where its
// span is sampled and exemplars are on, its trace id goes with the observation.
func (l *Latency) Observe(ctx context.Context, took, inStore time.Duration) {
	l.outside.Observe(max(took-inStore, 0).Seconds())
	if l.exemplars.Load() {
		if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
			if with, ok := l.total.(prometheus.ExemplarObserver); ok {
				with.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": span.TraceID().String()})
				return
			}
		}
	}
	l.total.Observe(took.Seconds())
}
