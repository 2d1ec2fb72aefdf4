package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// BenchmarkTraces asks a daemon over gRPC, one call after the other: without traces, with traces of which none is kept, and with
// traces that are all kept.
func BenchmarkTraces(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer collector.Close()
	for _, bc := range []struct {
		name string
		env  env
	}{
		{"off", env{}},
		{"none-kept", env{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_TRACES_SAMPLER": "always_off"}},
		{"all-kept", env{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_TRACES_SAMPLER": "always_on"}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			settings, err := ReadSettings(nil, bc.env.lookup)
			if err != nil {
				b.Fatal(err)
			}
			opt := testOptions()
			opt.Tracing = settings.Tracing
			a, err := New(opt, telemetry.NopLog())
			if err != nil {
				b.Fatal(err)
			}
			if err := a.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			defer func() { _ = a.Stop(context.Background()) }()
			conn, err := grpc.NewClient("passthrough:///"+a.GRPCAddrs()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			client, req := ratelimitv3.NewRateLimitServiceClient(conn), request("a")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.ShouldRateLimit(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
