package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	coltracev1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/proto"
)

// collector is a place that spans are sent to.
type collector struct {
	hangs  bool
	gate   chan struct{} // nil, or closed when spans are taken
	err    error
	spans  atomic.Int64
	closed atomic.Bool
}

func (c *collector) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if c.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if c.gate != nil {
		<-c.gate
	}
	c.spans.Add(int64(len(spans)))
	return c.err
}

func (c *collector) Shutdown(context.Context) error {
	c.closed.Store(true)
	return nil
}

// tracingTo is a Tracing of small bounds, with its log and its count of lost spans.
func tracingTo(t *testing.T, to sdktrace.SpanExporter) (*Tracing, *observer.ObservedLogs, prometheus.Counter) {
	t.Helper()
	core, lines := observer.New(zapcore.DebugLevel)
	dropped := counter("dropped_total", "Dropped.")
	tracing, err := newTracing(&TraceOptions{
		Sampler: sdktrace.AlwaysSample(), Queue: 32, Batch: 8, Delay: time.Millisecond, Limit: time.Hour,
	}, to, NewLog(zap.New(core)), dropped)
	if err != nil {
		t.Fatal(err)
	}
	return tracing, lines, dropped
}

func TestTheLastSpansAreSentWhenTheDaemonStops(t *testing.T) {
	c := new(collector)
	tracing, lines, dropped := tracingTo(t, c)
	for range 20 {
		_, span := tracing.Tracer().Start(t.Context(), "one")
		span.End()
	}
	if err := tracing.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lost := testutil.ToFloat64(dropped); c.spans.Load() != 20 || lost != 0 || !c.closed.Load() || lines.Len() != 0 {
		t.Errorf("%d of 20 spans were sent, %v are counted as lost, with the log %v", c.spans.Load(), lost, lines.All())
	}
}

func TestACollectorThatHangsDelaysNobodyAndEndsInTime(t *testing.T) {
	tracing, lines, dropped := tracingTo(t, &collector{hangs: true})
	for range 10_000 { // hundreds of times what may wait: the rest is dropped
		_, span := tracing.Tracer().Start(t.Context(), "one")
		span.End()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := tracing.Close(ctx); err != nil {
		t.Errorf("the end errs with %v, want a line in the log", err)
	}
	if took := time.Since(began); took > flushTimeout {
		t.Errorf("the end takes %s, want no longer than its context", took)
	}
	if lines.FilterMessage("the last traces were not sent").Len() != 1 {
		t.Errorf("the log holds %v, want that the last traces were not sent", lines.All())
	} // that nothing goes on in the background is seen by goleak
	full := lines.FilterMessage("traces were not sent").Len()
	if got := testutil.ToFloat64(dropped); got < 10_000-40 || full == 0 || full > 10 {
		t.Errorf("%v spans are counted as lost, and %d lines tell of them; want all but the 40 that may wait, and a line a second", got, full)
	}
}

// TestSpansThatASlowCollectorHasNoTimeForAreCounted has a collector take spans so slowly that most find no room, and without an error.
func TestSpansThatASlowCollectorHasNoTimeForAreCounted(t *testing.T) {
	const all = 1000
	c := &collector{gate: make(chan struct{})}
	tracing, lines, dropped := tracingTo(t, c)
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range all / 4 {
				_, span := tracing.Tracer().Start(t.Context(), "one")
				span.End()
			}
		})
	}
	callers.Wait()
	if lost := testutil.ToFloat64(dropped); lost != all-40 {
		t.Errorf("%v of %d spans are counted as lost, want all but the 32 that may wait and the 8 that may be on their way", lost, all)
	}
	told := lines.FilterMessage("traces were not sent")
	if told.Len() == 0 || told.Len() > 10 || !strings.Contains(fmt.Sprint(told.All()[0].ContextMap()["error"]), "OTEL_BSP_MAX_QUEUE_SIZE") {
		t.Errorf("the log holds %v, want a line now and then that says why", lines.All())
	}
	close(c.gate)
	if err := tracing.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sent := c.spans.Load(); float64(sent)+testutil.ToFloat64(dropped) != all {
		t.Errorf("%d spans were sent and %v were lost, want %d together", sent, testutil.ToFloat64(dropped), all)
	}
}

// TestSpansThatTheCollectorTookAreNotLost has a collector answer that it took all spans but some, over OTLP.
func TestSpansThatTheCollectorTookAreNotLost(t *testing.T) {
	const all = 5
	for _, rejected := range []int64{0, 2, all} {
		answer, err := proto.Marshal(&coltracev1.ExportTraceServiceResponse{
			PartialSuccess: &coltracev1.ExportTracePartialSuccess{RejectedSpans: rejected, ErrorMessage: "a (warning)"},
		})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			_, _ = w.Write(answer) // a client that has gone fails the test itself
		}))
		core, lines := observer.New(zapcore.DebugLevel)
		dropped := counter("dropped_total", "Dropped.")
		tracing, err := NewTracing(&TraceOptions{
			Protocol: TraceHTTP, Endpoint: server.URL + "/v1/traces",
			Sampler: sdktrace.AlwaysSample(), Queue: 32, Batch: all, Delay: time.Hour, Limit: time.Hour,
		}, NewLog(zap.New(core)), dropped)
		if err != nil {
			t.Fatal(err)
		}
		for range all {
			_, span := tracing.Tracer().Start(t.Context(), "one")
			span.End()
		}
		if err := tracing.Close(t.Context()); err != nil {
			t.Error(err)
		}
		server.Close()
		if got := testutil.ToFloat64(dropped); got != float64(rejected) || (lines.Len() > 0) != (rejected > 0) {
			t.Errorf("%d of %d spans were rejected; %v are counted as lost, with the log %v", rejected, all, got, lines.All())
		}
	}
}

func TestSpansThatAreRefusedAreLoggedOncePerSecond(t *testing.T) {
	c := &collector{err: errors.New("refused")}
	tracing, lines, dropped := tracingTo(t, c)
	for range 100 {
		_, span := tracing.Tracer().Start(t.Context(), "one")
		span.End()
	}
	if err := tracing.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost := lines.FilterMessage("traces were not sent")
	if lost.Len() == 0 || lost.Len() > 3 {
		t.Errorf("the log holds %v, want a line or two", lines.All())
	}
	if got := testutil.ToFloat64(dropped); got != 100 {
		t.Errorf("%v spans are counted as lost, want 100", got)
	}
}

// TestAPanicIsNotWrittenIntoASpan has a span end by a panic, whose text may be a caller's.
func TestAPanicIsNotWrittenIntoASpan(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	tracing, _, _ := tracingTo(t, keeping{kept})
	func() {
		defer func() { _ = recover() }()
		_, span := tracing.Tracer().Start(t.Context(), "one")
		defer span.End()
		panic("alice-secret")
	}()
	if err := tracing.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if spans := kept.GetSpans(); len(spans) != 1 || len(spans[0].Events) > 0 || strings.Contains(spans[0].Status.Description, "alice") {
		t.Errorf("the spans are %+v, want one without events", spans)
	}
}

// keeping is an exporter that keeps what it has when it is closed.
type keeping struct{ *tracetest.InMemoryExporter }

func (keeping) Shutdown(context.Context) error { return nil }

func TestTheCallersPlaceIsReadAndItsBaggageIsNot(t *testing.T) {
	tracing, _, _ := tracingTo(t, new(collector))
	defer func() { _ = tracing.Close(t.Context()) }()
	header := propagation.MapCarrier{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "a=b"}
	ctx := tracing.Propagator().Extract(t.Context(), header)
	fields := zapcore.NewMapObjectEncoder()
	InTrace(ctx).AddTo(fields)
	if fields.Fields[FieldTraceID] != "0af7651916cd43dd8448eb211c80319c" || fields.Fields[FieldSpanID] != "b7ad6b7169203331" {
		t.Errorf("the line is in %v, want the caller's trace", fields.Fields)
	}
	later := OnlyTrace(ctx)
	fields = zapcore.NewMapObjectEncoder()
	InTrace(later).AddTo(fields)
	if len(fields.Fields) != 2 {
		t.Errorf("what goes on after the call is in %v, want its trace", fields.Fields)
	}
	if field := InTrace(t.Context()); field.Type != zapcore.SkipType {
		t.Errorf("a line outside of any trace has the field %v", field)
	}
}

func TestAStepIsASpanWithinOneThatIsRecorded(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	outer, end := provider.Tracer("test").Start(t.Context(), "outer")
	_, endStep := Step(outer, "step")
	endStep()
	end.End()
	if _, endNone := Step(t.Context(), "none"); endNone != nil {
		endNone()
	}
	if got := spans.Ended(); len(got) != 2 || got[0].Name() != "step" || got[0].Parent().SpanID() != got[1].SpanContext().SpanID() {
		t.Errorf("the spans are %v, want a step within the outer one", got)
	}
}
