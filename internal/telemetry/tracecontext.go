package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// InTrace is a line's place in a trace: the fields FieldTraceID and FieldSpanID of the context's span; none without one.
func InTrace(ctx context.Context) zap.Field {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return zap.Skip()
	}
	return zap.Inline(place(span))
}

// place writes a span's ids.
type place trace.SpanContext

// MarshalLogObject adds the ids as hexadecimal digits, as W3C writes them.
func (p place) MarshalLogObject(to zapcore.ObjectEncoder) error {
	span := trace.SpanContext(p)
	to.AddString(FieldTraceID, span.TraceID().String())
	to.AddString(FieldSpanID, span.SpanID().String())
	return nil
}

// OnlyTrace is an empty context in the trace of another: for what goes on when the call is over, and must not keep what the call
// held.
func OnlyTrace(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(context.Background(), trace.SpanContextFromContext(ctx))
}
