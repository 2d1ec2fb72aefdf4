package app

import (
	"context"
	"net"
	"net/http"
	"slices"
	"syscall"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
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
	t.Run("who has said nothing holds nothing up", func(t *testing.T) {
		opt := testOptions()
		opt.ShutdownTimeout = MaxShutdownTimeout
		r := run(t, opt)
		silent, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.GRPCAddrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = silent.Close() }()
		denied(t, dial(t, r.GRPCAddrs()[0]), "a") // the server took the connection before this one
		r.signals <- syscall.SIGTERM
		if err := r.wait(t); err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("a stream without an end is told, and holds nothing up", func(t *testing.T) {
		opt := testOptions()
		opt.ShutdownTimeout = MaxShutdownTimeout
		r := run(t, opt)
		watch, err := healthv1.NewHealthClient(dial(t, r.GRPCAddrs()[0])).Watch(t.Context(), &healthv1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		r.signals <- syscall.SIGTERM
		if err := r.wait(t); err != nil {
			t.Errorf("it ended with %v", err)
		}
		for err == nil { // perhaps it has heard that the daemon is not serving first
			_, err = watch.Recv()
		}
		if status.Code(err) != codes.Unavailable {
			t.Errorf("the stream ended with %v, want Unavailable", err)
		}
	})
	t.Run("what is left is done after calls were cut off", func(t *testing.T) {
		for _, hurried := range []bool{false, true} {
			opt := testOptions()
			opt.ShutdownTimeout = MinShutdownTimeout
			if hurried {
				opt.ShutdownTimeout = MaxShutdownTimeout
			}
			a := start(t, opt)
			var left error
			a.onStop = slices.Insert(a.onStop, 0, stopStep{"write what is left", func(ctx context.Context) error {
				left = ctx.Err()
				return nil
			}})
			openCall(t, a)
			ctx, cancel := context.WithTimeout(t.Context(), opt.ShutdownTimeout)
			if hurried {
				cancel()
			}
			_, err := a.stop(ctx)
			cancel()
			if err != nil || (left != nil) != hurried {
				t.Errorf("hurried is %v, and what is left finds its time over: %v (%v)", hurried, left, err)
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
