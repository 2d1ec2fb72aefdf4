package app

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/proto"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

func TestTracesAreOffUnlessTheirVariablesSayWhere(t *testing.T) {
	const endpoint = "http://collector:4318"
	for _, tc := range []struct {
		name string
		env  env
		on   bool
	}{
		{"nothing", env{}, false},
		{"an endpoint", env{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, true},
		{"an endpoint of traces", env{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint}, true},
		{"an endpoint of metrics", env{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": endpoint}, false},
		{"an exporter", env{"OTEL_TRACES_EXPORTER": "otlp"}, true},
		{"no exporter", env{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, false},
		{"disabled", env{"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, false},
		{"disabled, whatever else is wrong", env{"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "smoke signals"}, false},
		{"not disabled", env{"OTEL_SDK_DISABLED": "false", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, true},
		{"a name alone", env{"OTEL_SERVICE_NAME": "x"}, false},
	} {
		opt, err := ReadSettings(nil, tc.env.lookup)
		if err != nil || (opt.Tracing != nil) != tc.on {
			t.Errorf("%s: traces are %+v, %v; want on: %v", tc.name, opt.Tracing, err, tc.on)
		}
	}
}

func TestWhereAndHowTracesAreSent(t *testing.T) {
	for _, tc := range []struct {
		env      env
		protocol telemetry.TraceProtocol
		endpoint string
		sampler  string
	}{
		{env{"OTEL_TRACES_EXPORTER": "otlp"}, telemetry.TraceHTTP, "http://localhost:4318/v1/traces", "ParentBased{root:AlwaysOnSampler"},
		{
			env{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_TRACES_SAMPLER": "always_off"},
			telemetry.TraceGRPC, "http://localhost:4317/v1/traces", "AlwaysOffSampler",
		},
		{
			env{
				"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/base/", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
				"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25",
			},
			telemetry.TraceHTTP, "https://c/base/v1/traces", "TraceIDRatioBased{0.25}",
		},
		{
			env{
				"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:2",
				"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0",
			},
			telemetry.TraceHTTP, "http://b:2/", "ParentBased{root:",
		},
	} {
		opt, err := ReadSettings(nil, tc.env.lookup)
		if err != nil {
			t.Errorf("%v: %v", tc.env, err)
			continue
		}
		got := opt.Tracing
		if got.Protocol != tc.protocol || got.Endpoint != tc.endpoint || !strings.HasPrefix(got.Sampler.Description(), tc.sampler) {
			t.Errorf("%v: traces go by %s to %s with %s", tc.env, got.Protocol, got.Endpoint, got.Sampler.Description())
		}
		if len(opt.Ignored) > 0 || got.Queue != traceQueue || got.Batch != traceBatch || got.Delay != traceDelay || got.Limit != traceLimit {
			t.Errorf("%v: %+v, ignored %q", tc.env, got, opt.Ignored)
		}
	}
}

func TestWhatSaysWhereTracesGoMustBeRight(t *testing.T) {
	for _, tc := range []struct {
		env  env
		want string // part of the message
	}{
		{env{"OTEL_TRACES_EXPORTER": "jaeger"}, `OTEL_TRACES_EXPORTER="jaeger" is not known: write otlp or none`},
		{
			env{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
			`OTEL_EXPORTER_OTLP_PROTOCOL="http/json" is not spoken: write grpc or http/protobuf`,
		},
		{
			env{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "foo"},
			`OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="foo" is not spoken`,
		},
		{env{"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"},
		{env{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not a URL"},
		{env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:hunter2@c"}, "OTEL_EXPORTER_OTLP_HEADERS"},
	} {
		_, err := ReadSettings(nil, tc.env.lookup)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v ends with %v, want %q", tc.env, err, tc.want)
		}
	}
}

func TestWhatElseIsWrongIsIgnoredWithAWarning(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_SDK_DISABLED": "maybe", "OTEL_TRACES_SAMPLER": "coin", "OTEL_RESOURCE_ATTRIBUTES": "a=b,c", "OTEL_BSP_MAX_QUEUE_SIZE": "-1",
		"OTEL_BSP_SCHEDULE_DELAY": "soon", "OTEL_TRACES_SAMPLER_ARG": "2",
	} {
		env := env{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "traceidratio", name: value}
		opt, err := ReadSettings(nil, env.lookup)
		if err != nil || opt.Tracing == nil || len(opt.Ignored) != 1 || !strings.HasPrefix(opt.Ignored[0], name+"=") {
			t.Errorf("%s=%s: %v, ignored %q; want one warning that names it", name, value, err, opt.Ignored)
			continue
		}
		if got := opt.Tracing; got.Queue != traceQueue || got.Delay != traceDelay || len(got.Resource) != 2 {
			t.Errorf("%s=%s is in force: %+v", name, value, got)
		}
	}
}

// receiver is a collector of OTLP over HTTP, in this process.
type receiver struct {
	url  string
	mu   sync.Mutex
	seen []string // names of spans, each behind its service's
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	c := new(receiver)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var request collectorv1.ExportTraceServiceRequest
		body, err := io.ReadAll(r.Body)
		if err != nil || proto.Unmarshal(body, &request) != nil {
			t.Errorf("what was sent cannot be read: %v", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range request.GetResourceSpans() {
			for _, by := range of.GetScopeSpans() {
				for _, span := range by.GetSpans() {
					c.seen = append(c.seen, of.GetResource().GetAttributes()[0].GetValue().GetStringValue()+" "+span.GetName())
				}
			}
		}
	}))
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

// TestTwoDaemonsOfOneProcessSendTheirTracesApart has each of two send to a collector of its own, and all of it before it ends.
func TestTwoDaemonsOfOneProcessSendTheirTracesApart(t *testing.T) {
	var collectors []*receiver
	for range 2 {
		c := newReceiver(t)
		collectors = append(collectors, c)
		opt := testOptions()
		settings, err := ReadSettings(nil, env{"OTEL_EXPORTER_OTLP_ENDPOINT": c.url}.lookup)
		if err != nil {
			t.Fatal(err)
		}
		opt.Tracing = settings.Tracing
		a, err := New(opt, telemetry.NopLog())
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		denied(t, dial(t, a.GRPCAddrs()[0]), "alice")
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := a.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		cancel()
	}
	for _, c := range collectors {
		if got := strings.Join(c.seen, "; "); len(c.seen) != 2 || !strings.Contains(got, "admit memory") || !strings.Contains(got, "/ShouldRateLimit") {
			t.Errorf("a daemon that answered one call has sent %q, want the call and its question to the store", c.seen)
		}
	}
}

// TestWithoutTracesNothingLooksForThem guards that traces which are off cost nothing: no handler is in the way of a call.
func TestWithoutTracesNothingLooksForThem(t *testing.T) {
	a := start(t, testOptions())
	if got := a.traceGRPC(); got != nil {
		t.Errorf("the gRPC server has %d options of traces", len(got))
	}
	if a.seenStore() != a.store {
		t.Error("the engine asks the store through something")
	}
	next := new(notFound)
	if a.traceHTTP(next) != http.Handler(next) {
		t.Error("requests go through something")
	}
}

// notFound is a handler that can be compared.
type notFound struct{ http.ServeMux }

func TestOnlyCallsOfTheServicesAreSpans(t *testing.T) {
	traced := tracedMethods()
	for method, want := range map[string]bool{
		"/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit":    true,
		"/ratelimitd.cost.v1.CostService/Reserve":                         true,
		"/ratelimitd.admin.v1.AdminService/GetOverride":                   true,
		"/grpc.health.v1.Health/Check":                                    false,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":       false,
		"/ratelimitd.cost.v1.CostService/" + strings.Repeat("x", 100_000): false,
	} {
		if got := traced(&stats.RPCTagInfo{FullMethodName: method}); got != want {
			t.Errorf("%.60s is a span: %v, want %v", method, got, want)
		}
	}
}

// TestLinesOfACallAreInItsTrace has a call denied that is in a trace.
func TestLinesOfACallAreInItsTrace(t *testing.T) {
	core, lines := observer.New(zapcore.InfoLevel)
	opt := testOptions()
	opt.Policy = "testing"
	settings, err := ReadSettings(nil, env{"OTEL_EXPORTER_OTLP_ENDPOINT": newReceiver(t).url}.lookup)
	if err != nil {
		t.Fatal(err)
	}
	opt.Tracing = settings.Tracing
	a, err := New(opt, telemetry.NewLog(zap.New(core)))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	const trace = "0af7651916cd43dd8448eb211c80319c"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	conn := dial(t, a.GRPCAddrs()[0])
	for until := time.Now().Add(patience); lines.FilterMessage("denied a call").Len() == 0; {
		if time.Now().After(until) {
			t.Fatal("nobody is denied")
		}
		if _, err := ratelimitv3.NewRateLimitServiceClient(conn).ShouldRateLimit(ctx, request("alice")); err != nil {
			t.Fatal(err)
		}
	}
	if got := lines.FilterMessage("denied a call").All()[0].ContextMap()["trace_id"]; got != trace {
		t.Errorf("the line is in the trace %v, want %s", got, trace)
	}
}
