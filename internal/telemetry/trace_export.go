package telemetry

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exporter sends spans for one daemon: what goes wrong is in that daemon's log, where OpenTelemetry would tell the process as a
// whole, and nothing is on its way once the daemon has given up.
type exporter struct {
	inner   sdktrace.SpanExporter
	room    *room // that the spans are in until they are sent
	log     *Log
	dropped prometheus.Counter // of spans that are not sent
	stop    context.Context    //nolint:containedctx // ends every request that is on its way, whoever began it
	// giveUp ends what is on its way; nothing is sent any more.
	giveUp context.CancelFunc
}

func newBoundExporter(inner sdktrace.SpanExporter, room *room, log *Log, dropped prometheus.Counter) *exporter {
	x := &exporter{inner: inner, room: room, log: log, dropped: dropped}
	x.stop, x.giveUp = context.WithCancel(context.Background())
	return x
}

// ExportSpans sends spans, and counts and logs what goes wrong: the spans are lost then. It never errs: an error would be told to
// the process as a whole.
func (x *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	defer x.room.free(len(spans))
	if x.stop.Err() != nil {
		x.dropped.Add(float64(len(spans)))
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(x.stop, cancel)()
	if err := x.inner.ExportSpans(ctx, spans); err != nil {
		lost := lostBy(err, len(spans))
		x.dropped.Add(float64(lost))
		if lost > 0 && x.stop.Err() == nil {
			x.log.LostSpans(err, lost)
		}
	}
	return nil
}

// partialSuccess is what OpenTelemetry's exporters err with when the collector has taken some spans, or all of them with a warning.
// The error's type is internal to them.
var partialSuccess = regexp.MustCompile(`OTLP partial success: (?s:.*) \(([0-9]+) spans rejected\)$`)

// lostBy is how many of the spans that were sent an error has lost.
func lostBy(err error, sent int) int {
	if found := partialSuccess.FindStringSubmatch(err.Error()); found != nil {
		if rejected, err := strconv.Atoi(found[1]); err == nil {
			return min(rejected, sent)
		}
	}
	return sent
}

// Shutdown closes the connection.
func (x *exporter) Shutdown(ctx context.Context) error {
	if err := x.inner.Shutdown(ctx); err != nil {
		return fmt.Errorf("end sending traces: %w", err)
	}
	return nil
}
