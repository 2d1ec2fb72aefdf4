package telemetry

import (
	"sync/atomic"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// room bounds the spans that wait to be sent or are on their way. It is safe for concurrent use.
type room struct {
	most  int64
	taken atomic.Int64
}

// take takes the place of one span, if there is one.
func (r *room) take() bool {
	if r.taken.Add(1) > r.most {
		r.taken.Add(-1)
		return false
	}
	return true
}

// free gives back the places of so many spans.
func (r *room) free(spans int) { r.taken.Add(-int64(spans)) }

// bounded is a processor of spans that tells of each span that finds no room. OpenTelemetry's own queue has a bound, too, but what
// it drops is told to nobody: it has a place for every span that finds room here.
type bounded struct {
	sdktrace.SpanProcessor

	room    *room
	dropped func()
}

// OnEnd hands on a span that is over, if there is room for it.
func (b *bounded) OnEnd(span sdktrace.ReadOnlySpan) {
	switch {
	case !span.SpanContext().IsSampled(): // nobody wants it
	case b.room.take():
		b.SpanProcessor.OnEnd(span)
	default:
		b.dropped()
	}
}
