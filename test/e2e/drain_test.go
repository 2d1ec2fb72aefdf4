package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestADaemonThatDrainsSaysSoAndAnswersOn sends SIGTERM: whoever asks for health is sent elsewhere, whoever has not heard
// of it yet is still answered.
func TestADaemonThatDrainsSaysSoAndAnswersOn(t *testing.T) {
	t.Parallel()
	d := harness.Daemon(t, harness.Env{"RATELIMITD_DRAIN_DELAY": "10m"})
	c := dial(t, d.GRPCAddr)
	d.Terminate()
	awaitDraining(t, d)
	if r := get(t, d.URL("/readyz"), ""); r.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %d, want 503: %s", r.status, r.body)
	}
	if r := get(t, d.URL("/healthz"), ""); r.status != http.StatusOK {
		t.Errorf("/healthz answers %d, want 200: a daemon that drains must not be killed for it: %s", r.status, r.body)
	}
	if res := c.mustAsk(t, "123"); !isOK(res) {
		t.Errorf("a call is answered %v, want OK", res)
	}
	d.Terminate()
	if err := d.Wait(); err != nil {
		t.Errorf("a second signal ends the daemon with %v, want status 0", err)
	}
}

// TestASecondSignalEndsAtOnce sends it while a call waits for a Redis that hangs, and may go on to for minutes.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	d, stream := hangingCall(t, harness.Env{"RATELIMITD_SHUTDOWN_TIMEOUT": "10m"})
	d.Terminate()
	awaitNotReady(t, d)
	d.Terminate()
	wantCutOff(t, d, stream)
}

// TestTheShutdownTimeoutEndsWhatHangs sends one signal: what Kubernetes would kill later ends by itself.
func TestTheShutdownTimeoutEndsWhatHangs(t *testing.T) {
	t.Parallel()
	d, stream := hangingCall(t, harness.Env{"RATELIMITD_SHUTDOWN_TIMEOUT": "100ms"})
	d.Terminate()
	wantCutOff(t, d, stream)
}

// hangingCall starts a daemon, and a call that waits for a Redis which does not answer.
func hangingCall(t *testing.T, env harness.Env) (*harness.DaemonProcess, grpc.ClientStream) {
	t.Helper()
	redis := harness.Redis(t)
	for name, value := range onRedis(redis) {
		env = with(env, name, value)
	}
	d := harness.Daemon(t, with(env, "RATELIMITD_DECISION_TIMEOUT", "1m"))
	c := dial(t, d.GRPCAddr)
	c.admitted(t, "123", 1)
	redis.Pause()
	t.Cleanup(redis.Resume)
	stream, err := c.startAsking(t, "123")
	if err != nil {
		t.Fatal(err)
	}
	return d, stream
}

// wantCutOff errs unless the daemon ends in order, though not with an answer to the call.
func wantCutOff(t *testing.T, d *harness.DaemonProcess, stream grpc.ClientStream) {
	t.Helper()
	if err := d.Wait(); err != nil {
		t.Errorf("the daemon ends with %v, want status 0", err)
	}
	if err := stream.RecvMsg(new(rls.RateLimitResponse)); err == nil {
		t.Error("the call was answered, so the daemon has waited for its timeout")
	}
	if !strings.Contains(d.Log(), "stopped before all calls had ended") {
		t.Errorf("the log does not say that a call was cut off:\n%s", d.Log())
	}
}

// awaitNotReady waits until a daemon's readiness ends.
func awaitNotReady(t *testing.T, d *harness.DaemonProcess) {
	t.Helper()
	harness.WaitFor(t, "the daemon is not ready", func(ctx context.Context) error {
		r, err := fetch(ctx, d.URL("/readyz"), "")
		if err == nil && r.status != http.StatusServiceUnavailable {
			err = fmt.Errorf("/readyz answers %d", r.status)
		}
		return err
	})
}

// awaitDraining waits until a daemon's health says that calls should go elsewhere.
func awaitDraining(t *testing.T, d *harness.DaemonProcess) {
	t.Helper()
	health := healthpb.NewHealthClient(connect(t, d.GRPCAddr))
	harness.WaitFor(t, "health is NOT_SERVING", func(ctx context.Context) error {
		res, err := health.Check(ctx, &healthpb.HealthCheckRequest{Service: rateLimitService})
		if err == nil && res.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
			err = fmt.Errorf("it is %s", res.GetStatus())
		}
		return err
	})
}
