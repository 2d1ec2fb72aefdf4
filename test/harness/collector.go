package harness

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collectorConfig has the collector take OTLP at two addresses and hand on what it has taken at once to a third.
const collectorConfig = `
receivers:
  otlp:
    protocols:
      grpc: { endpoint: %q }
      http: { endpoint: %q }
exporters:
  otlp_http:
    endpoint: %q
    compression: none
    sending_queue: { enabled: false }
    retry_on_failure: { enabled: false }
service:
  telemetry:
    logs: { level: warn }
    metrics: { level: none }
  pipelines:
    traces: { receivers: [otlp], exporters: [otlp_http] }
`

// maxSpansBody bounds what the collector hands on at once, bytes.
const maxSpansBody = 16 << 20

// CollectorProcess is one OpenTelemetry Collector, and what it has taken.
type CollectorProcess struct {
	GRPCAddr string // of OTLP over gRPC, "127.0.0.1:port"
	HTTPAddr string // of OTLP over HTTP, likewise
	t        TB
	proc     *process

	mu    sync.Mutex
	spans []Span
}

// Span is one span as the collector has taken it, with all that it says. Its ids are hexadecimal digits; a root has no parent.
// Attributes are string, bool, int64, float64, []any or map[string]any; bytes are strings.
type Span struct {
	Service               string // of the process that made it
	Name                  string
	TraceID, ID, ParentID string
	State                 string // the trace state, as tracestate has it
	Kind                  tracev1.Span_SpanKind
	Error                 bool
	Message               string // of the status
	Attributes            map[string]any
	Events                []SpanEvent
	Links                 []SpanLink
	Scope                 map[string]any // of what made it: name, version and its attributes
	Resource              map[string]any // of the process
}

// SpanEvent is one event of a span.
type SpanEvent struct {
	Name       string
	Attributes map[string]any
}

// SpanLink is one link of a span to another.
type SpanLink struct {
	TraceID, ID, State string
	Attributes         map[string]any
}

// Collector starts a collector and returns when it takes spans.
func Collector(t TB) *CollectorProcess {
	t.Helper()
	c := &CollectorProcess{GRPCAddr: Addr(t), HTTPAddr: Addr(t), t: t}
	sink := httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(sink.Close)
	conf := filepath.Join(t.TempDir(), "collector.yaml")
	text := fmt.Sprintf(collectorConfig, c.GRPCAddr, c.HTTPAddr, sink.URL)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatalf("write the configuration of the collector: %v", err)
	}
	c.proc = &process{
		t: t, name: "otel-collector " + c.GRPCAddr, args: []string{"--config", "file:" + conf},
		path: tool(t, "otel-collector", func(string) error { return nil }),
		ready: func(ctx context.Context) error {
			return errors.Join(dialable(ctx, c.GRPCAddr), dialable(ctx, c.HTTPAddr))
		},
	}
	c.proc.register()
	c.proc.start()
	return c
}

// Kill ends the collector at once.
func (c *CollectorProcess) Kill() { c.proc.kill() }

// Spans returns what the collector has taken so far.
func (c *CollectorProcess) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// WaitFor waits until the collector has taken a span that a test looks for, and returns it. what says which.
func (c *CollectorProcess) WaitFor(what string, is func(*Span) bool) Span {
	c.t.Helper()
	var found Span
	err := waitFor(func(context.Context) error {
		for _, s := range c.Spans() {
			if is(&s) {
				found = s
				return nil
			}
		}
		return errors.New("it has not come")
	}, nil)
	if err != nil {
		c.t.Fatalf("%s: %v; the collector has taken %d spans: %+v", what, err, len(c.Spans()), c.Spans())
	}
	return found
}

// take takes what the collector hands on.
func (c *CollectorProcess) take(w http.ResponseWriter, r *http.Request) {
	var request collectorv1.ExportTraceServiceRequest
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSpansBody))
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range request.GetResourceSpans() {
		resource := attributesOf(of.GetResource().GetAttributes())
		for _, by := range of.GetScopeSpans() {
			scope := scopeOf(by.GetScope())
			for _, s := range by.GetSpans() {
				span := spanOf(s)
				span.Service, _ = resource["service.name"].(string)
				span.Scope, span.Resource = scope, resource
				c.spans = append(c.spans, span)
			}
		}
	}
}

func spanOf(s *tracev1.Span) Span {
	span := Span{
		Name: s.GetName(), Kind: s.GetKind(), State: s.GetTraceState(),
		TraceID: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()),
		ParentID:   hex.EncodeToString(s.GetParentSpanId()),
		Error:      s.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR,
		Message:    s.GetStatus().GetMessage(),
		Attributes: attributesOf(s.GetAttributes()),
	}
	for _, e := range s.GetEvents() {
		span.Events = append(span.Events, SpanEvent{Name: e.GetName(), Attributes: attributesOf(e.GetAttributes())})
	}
	for _, l := range s.GetLinks() {
		span.Links = append(span.Links, SpanLink{
			TraceID: hex.EncodeToString(l.GetTraceId()), ID: hex.EncodeToString(l.GetSpanId()),
			State: l.GetTraceState(), Attributes: attributesOf(l.GetAttributes()),
		})
	}
	return span
}

func scopeOf(s *commonv1.InstrumentationScope) map[string]any {
	scope := attributesOf(s.GetAttributes())
	scope["name"], scope["version"] = s.GetName(), s.GetVersion()
	return scope
}

func attributesOf(pairs []*commonv1.KeyValue) map[string]any {
	out := make(map[string]any, len(pairs))
	for _, p := range pairs {
		out[p.GetKey()] = valueOf(p.GetValue())
	}
	return out
}

func valueOf(v *commonv1.AnyValue) any {
	switch v := v.GetValue().(type) {
	case *commonv1.AnyValue_StringValue:
		return v.StringValue
	case *commonv1.AnyValue_BoolValue:
		return v.BoolValue
	case *commonv1.AnyValue_IntValue:
		return v.IntValue
	case *commonv1.AnyValue_DoubleValue:
		return v.DoubleValue
	case *commonv1.AnyValue_BytesValue:
		return string(v.BytesValue)
	case *commonv1.AnyValue_KvlistValue:
		return attributesOf(v.KvlistValue.GetValues())
	case *commonv1.AnyValue_ArrayValue:
		var list []any
		for _, item := range v.ArrayValue.GetValues() {
			list = append(list, valueOf(item))
		}
		return list
	default:
		return nil
	}
}

// dialable errs unless something listens at an address.
func dialable(ctx context.Context, addr string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", addr, err)
	}
	return conn.Close()
}
