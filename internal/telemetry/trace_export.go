package telemetry

import (
	"context"
	"fmt"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exporter sends spans for one daemon: what goes wrong is in that daemon's log, where OpenTelemetry would tell the process as a
// whole, and nothing is on its way once the daemon has given up.
type exporter struct {
	inner sdktrace.SpanExporter
	log   *Log
	stop  context.Context //nolint:containedctx // ends every request that is on its way, whoever began it
	// giveUp ends what is on its way; nothing is sent any more.
	giveUp context.CancelFunc
}

func newBoundExporter(inner sdktrace.SpanExporter, log *Log) *exporter {
	x := &exporter{inner: inner, log: log}
	x.stop, x.giveUp = context.WithCancel(context.Background())
	return x
}

// ExportSpans sends spans, and logs what goes wrong: the spans are lost then. It never errs: an error would be told to the
// process as a whole.
func (x *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if x.stop.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(x.stop, cancel)()
	if err := x.inner.ExportSpans(ctx, spans); err != nil && x.stop.Err() == nil {
		x.log.LostSpans(err, len(spans))
	}
	return nil
}

// Shutdown closes the connection.
func (x *exporter) Shutdown(ctx context.Context) error {
	if err := x.inner.Shutdown(ctx); err != nil {
		return fmt.Errorf("end sending traces: %w", err)
	}
	return nil
}
