package app

import (
	"context"
	"net/http"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/traced"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
	adminv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/admin/v1"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// startTracing begins to make spans if the options say so.
func (a *App) startTracing() error {
	if a.opt.Tracing == nil {
		return nil
	}
	t, err := telemetry.NewTracing(a.opt.Tracing, a.log, a.metrics.LostSpans)
	if err != nil {
		return err
	}
	a.tracing = t
	a.push("send the last traces", t.Close)
	return nil
}

// seenStore is the store as the engine asks it: with its calls in the traces of their callers, if there are traces.
func (a *App) seenStore() store.Store {
	if a.tracing == nil {
		return a.store
	}
	return traced.New(a.store, a.tracing.Tracer(), string(a.opt.Store), engine.KindOf)
}

// traceGRPC are the options of a server whose calls are spans; none without traces.
func (a *App) traceGRPC() []grpc.ServerOption {
	if a.tracing == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(wordless{otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(a.tracing.Provider()),
		otelgrpc.WithPropagators(a.tracing.Propagator()),
		otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()),
		otelgrpc.WithFilter(tracedMethods()),
	)})}
}

// wordless hands a handler the errors of calls by their codes alone. It would else write the texts of some into spans, those of
// gRPC itself too, which repeat what a caller has sent.
type wordless struct{ stats.Handler }

// HandleRPC hands on what happens in a call.
func (w wordless) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if end, ok := s.(*stats.End); ok && end.Error != nil {
		bare := *end // the server's other handlers see the one that it was
		bare.Error = status.Error(status.Code(end.Error), "")
		s = &bare
	}
	w.Handler.HandleRPC(ctx, s)
}

// tracedMethods lets the calls of the services through that this program is for. Health checks and reflection are left out, and
// methods that do not exist: a span's name is then never the caller's text.
func tracedMethods() otelgrpc.Filter {
	known := map[string]bool{}
	for _, service := range []grpc.ServiceDesc{
		ratelimitv3.RateLimitService_ServiceDesc, costv1.CostService_ServiceDesc, adminv1.AdminService_ServiceDesc,
	} {
		for _, m := range service.Methods {
			known["/"+service.ServiceName+"/"+m.MethodName] = true
		}
	}
	return func(info *stats.RPCTagInfo) bool { return known[info.FullMethodName] }
}

// The attributes of OpenTelemetry's conventions for HTTP. The path is not among them: it holds users' ids.
const (
	attrMethod = attribute.Key("http.request.method")
	attrScheme = attribute.Key("url.scheme")
	attrStatus = attribute.Key("http.response.status_code")
)

// traceHTTP makes the requests of a handler spans, if there are traces. A span is named by its method, until who answers it
// names its route.
func (a *App) traceHTTP(next http.Handler) http.Handler {
	if a.tracing == nil {
		return next
	}
	tracer, propagator := a.tracing.Tracer(), a.tracing.Propagator()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := knownMethod(r.Method)
		ctx, span := tracer.Start(propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header)), method,
			trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attrMethod.String(method), attrScheme.String("http")))
		defer span.End()
		answer := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r.WithContext(ctx))
		span.SetAttributes(attrStatus.Int(answer.status))
		if answer.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
	})
}

// knownMethod is a method that exists, or _OTHER: it is the caller's text else.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "_OTHER"
	}
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter

	status int
	begun  bool
}

// Unwrap is what http.ResponseController asks for.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader begins the answer.
func (w *statusWriter) WriteHeader(status int) {
	if !w.begun {
		w.status, w.begun = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write writes a part of the answer.
func (w *statusWriter) Write(b []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(b) //nolint:wrapcheck // a writer's error is the writer's
}
