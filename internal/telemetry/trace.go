package telemetry

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// The attributes that spans have besides those of OpenTelemetry's own conventions. None holds a request's value.
const (
	AttrVerdict      = attribute.Key("ratelimitd.verdict")       // VerdictAllowed or VerdictDenied
	AttrMode         = attribute.Key("ratelimitd.mode")          // where the decision came from, as engine.Mode spells it
	AttrTier         = attribute.Key("ratelimitd.tier")          // of the limit that decided
	AttrLimit        = attribute.Key("ratelimitd.limit")         // its name, as LabelLimit has it
	AttrUnit         = attribute.Key("ratelimitd.unit")          // what it counts, a Unit constant
	AttrTiers        = attribute.Key("ratelimitd.tiers")         // the tiers that were checked
	AttrShadowDenied = attribute.Key("ratelimitd.shadow_denied") // shadow limits that would have denied, as tier:limit:unit
	AttrRetryAfter   = attribute.Key("ratelimitd.retry_after")   // seconds until a denied call would pass; not if it never would
	AttrHeld         = attribute.Key("ratelimitd.held_usd")      // what a call holds from now on
	AttrEnd          = attribute.Key("ratelimitd.end")           // an End constant
	AttrCost         = attribute.Key("ratelimitd.cost_usd")      // what was settled or recorded
	AttrDuplicate    = attribute.Key("ratelimitd.duplicate")     // true: an earlier call had ended the reservation
	AttrChecks       = attribute.Key("ratelimitd.checks")        // how many checks the store was asked
)

// TraceProtocol is how spans are sent.
type TraceProtocol string

// The protocols, as OTEL_EXPORTER_OTLP_PROTOCOL spells them.
const (
	TraceGRPC TraceProtocol = "grpc"
	TraceHTTP TraceProtocol = "http/protobuf"
)

// Bounds of what waits to be sent. A span is a few KiB at most.
const (
	MaxTraceQueue = 65_536
	// flushTimeout is what the last spans have to be sent when the daemon stops.
	flushTimeout = 3 * time.Second
)

// TraceOptions say where spans go. Endpoint, Protocol and Sampler are required. Headers, certificates, compression and the
// timeout of a request are read from the environment by OpenTelemetry's exporter.
type TraceOptions struct {
	Protocol TraceProtocol
	Endpoint string // an http or https URL; over HTTP with its path
	Sampler  sdktrace.Sampler
	// Resource are attributes of the process: service.name and what OTEL_RESOURCE_ATTRIBUTES says.
	Resource []attribute.KeyValue

	Queue int           // spans that may wait, 1 to MaxTraceQueue, besides those of one request; more are dropped
	Batch int           // spans of one request, 1 to Queue
	Delay time.Duration // how long a span waits for others, from 1ms
	Limit time.Duration // how long one request may take, retries included, from 1ms
}

// Tracing makes spans and sends them. It belongs to one daemon, and sets nothing of the process as a whole.
type Tracing struct {
	provider *sdktrace.TracerProvider
	exporter *exporter
	log      *Log
}

// NewTracing returns what makes and sends spans; dropped counts those that are not sent. It connects to nobody yet. It errs when an
// exporter cannot be made of the options and the environment.
func NewTracing(opt *TraceOptions, log *Log, dropped prometheus.Counter) (*Tracing, error) {
	inner, err := newExporter(opt)
	if err != nil {
		return nil, fmt.Errorf("send traces to %s: %w", redacted(opt.Endpoint), err)
	}
	return newTracing(opt, inner, log, dropped)
}

// newTracing is NewTracing with what sends the spans.
func newTracing(opt *TraceOptions, inner sdktrace.SpanExporter, log *Log, dropped prometheus.Counter) (*Tracing, error) {
	res, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(opt.Resource...))
	if err != nil {
		return nil, fmt.Errorf("name the service of traces: %w", err)
	}
	most := opt.Queue + opt.Batch
	room := &room{most: int64(most)}
	exporter := newBoundExporter(inner, room, log, dropped)
	batches := sdktrace.NewBatchSpanProcessor(exporter,
		sdktrace.WithMaxQueueSize(most), sdktrace.WithMaxExportBatchSize(opt.Batch),
		sdktrace.WithBatchTimeout(opt.Delay), sdktrace.WithExportTimeout(opt.Limit))
	return &Tracing{
		exporter: exporter,
		log:      log,
		provider: sdktrace.NewTracerProvider(
			sdktrace.WithResource(res),
			sdktrace.WithSampler(opt.Sampler),
			sdktrace.WithoutPanicRecording(), // a panic's text may be a caller's; the log has it
			sdktrace.WithSpanProcessor(&bounded{batches, room, func() {
				dropped.Inc()
				log.NoRoomForSpan()
			}}),
		),
	}, nil
}

func newExporter(opt *TraceOptions) (sdktrace.SpanExporter, error) {
	if opt.Protocol == TraceGRPC {
		return otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpointURL(opt.Endpoint)) //nolint:wrapcheck // by the caller
	}
	return otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(opt.Endpoint)) //nolint:wrapcheck // by the caller
}

// redacted is a URL without the password that may stand in it.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "its endpoint"
	}
	return u.Redacted()
}

// Provider is where tracers come from.
func (t *Tracing) Provider() trace.TracerProvider { return t.provider }

// Tracer returns the tracer of this program's own spans.
func (t *Tracing) Tracer() trace.Tracer { return t.provider.Tracer(scope) }

// scope names what makes this program's own spans.
const scope = "github.com/ratelimitd/ratelimitd"

// Propagator reads the caller's place in a trace, as W3C Trace Context writes it. Baggage is left unread: this program calls
// nobody whom it could hand it on to.
func (*Tracing) Propagator() propagation.TextMapPropagator { return propagation.TraceContext{} }

// Close sends what waits to be sent, for a short while and not beyond ctx, and ends. What could not be sent is logged: it is no
// reason to end with an error.
func (t *Tracing) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	err := t.provider.Shutdown(ctx)
	t.exporter.giveUp()
	if err != nil {
		t.log.Warn("the last traces were not sent", zap.Error(err))
	}
	return nil
}

// NameRoute names the context's span, if it is recorded, by the route of a request: the path with names in place of what they
// stand for.
func NameRoute(ctx context.Context, method string, route fmt.Stringer) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		name := strings.ReplaceAll(route.String(), "=*}", "}") // a name alone is one segment of the path
		span.SetName(method + " " + name)
		span.SetAttributes(attrRoute.String(name))
	}
}

// attrRoute is OpenTelemetry's own.
const attrRoute = attribute.Key("http.route")

// Step begins a span within the context's, if that one is recorded. The step is over when end is called.
func Step(ctx context.Context, name string) (in context.Context, end func()) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, func() {}
	}
	in, span := parent.TracerProvider().Tracer(scope).Start(ctx, name)
	return in, func() { span.End() }
}
