package telemetry

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// collector is a place that spans are sent to.
type collector struct {
	hangs  bool
	err    error
	spans  atomic.Int64
	closed atomic.Bool
}

func (c *collector) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if c.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	c.spans.Add(int64(len(spans)))
	return c.err
}

func (c *collector) Shutdown(context.Context) error {
	c.closed.Store(true)
	return nil
}

// tracingTo is a Tracing of small bounds, with its log.
func tracingTo(t *testing.T, to sdktrace.SpanExporter) (*Tracing, *observer.ObservedLogs) {
	t.Helper()
	core, lines := observer.New(zapcore.DebugLevel)
	tracing, err := newTracing(&TraceOptions{
		Sampler: sdktrace.AlwaysSample(), Queue: 32, Batch: 8, Delay: time.Millisecond, Limit: time.Hour,
	}, to, NewLog(zap.New(core)))
	if err != nil {
		t.Fatal(err)
	}
	return tracing, lines
}

func TestTheLastSpansAreSentWhenTheDaemonStops(t *testing.T) {
	c := new(collector)
	tracing, lines := tracingTo(t, c)
	for range 20 {
		_, span := tracing.Tracer().Start(t.Context(), "one")
		span.End()
	}
	if err := tracing.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.spans.Load() != 20 || !c.closed.Load() || lines.Len() != 0 {
		t.Errorf("%d of 20 spans were sent, with the log %v", c.spans.Load(), lines.All())
	}
}

func TestACollectorThatHangsDelaysNobodyAndEndsInTime(t *testing.T) {
	tracing, lines := tracingTo(t, &collector{hangs: true})
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
}

func TestSpansThatAreRefusedAreLoggedOncePerSecond(t *testing.T) {
	c := &collector{err: errors.New("refused")}
	tracing, lines := tracingTo(t, c)
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
}

func TestTheCallersPlaceIsReadAndItsBaggageIsNot(t *testing.T) {
	tracing, _ := tracingTo(t, new(collector))
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
