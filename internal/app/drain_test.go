package app

import (
	"context"
	"net/http"
	"syscall"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

func TestDrain(t *testing.T) {
	t.Run("it says that it stops, and answers on", func(t *testing.T) {
		opt := testOptions()
		opt.DrainDelay = MaxDrainDelay
		r := run(t, opt)
		conn := dial(t, r.GRPCAddrs()[0])
		r.signals <- syscall.SIGTERM
		eventually(t, "health to be NOT_SERVING", func() bool {
			resp, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
			return err == nil && resp.GetStatus() == healthv1.HealthCheckResponse_NOT_SERVING
		})
		if code, _ := get(t, r.App, "/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("/readyz answers %d, want 503", code)
		}
		fresh := dial(t, r.GRPCAddrs()[0]) // takes a new connection
		resp, err := ratelimitv3.NewRateLimitServiceClient(fresh).ShouldRateLimit(t.Context(), request("a"))
		if err != nil || resp.GetOverallCode() != ratelimitv3.RateLimitResponse_OK {
			t.Errorf("a call is answered %v (%v), want OK", resp, err)
		}
		r.signals <- syscall.SIGTERM
		if err := r.wait(t); err != nil {
			t.Errorf("a second signal ends it with %v", err)
		}
	})
	t.Run("its HTTP clients are told to connect elsewhere", func(t *testing.T) {
		a := start(t, testOptions())
		for _, leaves := range []bool{false, true} {
			if leaves {
				a.withdraw()
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.HTTPAddr().String()+"/healthz", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close() // nothing in it
			if resp.Close != leaves {
				t.Errorf("draining is %v, and the answer closes its connection: %v", leaves, resp.Close)
			}
		}
	})
	t.Run("a server that ended by itself is not waited for", func(t *testing.T) {
		opt := testOptions()
		opt.DrainDelay = MaxDrainDelay
		r := run(t, opt)
		r.failed <- context.DeadlineExceeded
		if err := r.wait(t); err == nil {
			t.Error("it ended without an error")
		}
	})
}
