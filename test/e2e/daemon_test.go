package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

const rateLimitService = "envoy.service.ratelimit.v3.RateLimitService"

// TestStats reads a user's statistics, which changes nothing.
func TestStats(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, env harness.Env) {
		d := harness.Daemon(t, with(env, "RATELIMITD_POLICY", "production"))
		dial(t, d.GRPCAddr).admitted(t, "123", 3)
		dial(t, d.GRPCAddr).admitted(t, "124", 2)
		for range 3 {
			s := statsOf(t, d, "123")
			if s.UserID != "123" {
				t.Errorf("user_id is %q, want 123", s.UserID)
			}
			for name, want := range map[string]usage{
				"minute": {Current: 3, Limit: 10, Remaining: 7}, "hour": {Current: 3, Limit: 100, Remaining: 97},
				"day": {Current: 3, Limit: 500, Remaining: 497},
			} {
				checkUsage(t, "the user's "+name, s.Limits[name], want)
			}
			checkUsage(t, "the system's hour", s.Global.Limits["hour"], usage{Current: 5, Limit: 1000, Remaining: 995})
			for field, want := range map[string]float64{"today": 0, "limit": 5, "remaining": 5} {
				if s.Cost[field] != want {
					t.Errorf("the user's cost: %s is %v, want %v", field, s.Cost[field], want)
				}
			}
		}
		byHeader := get(t, d.URL("/api/v1/assistant/stats"), "123")
		if byQuery := get(t, d.URL("/api/v1/assistant/stats?user_id=123"), ""); !sameStats(t, byHeader.body, byQuery.body) {
			t.Errorf("asked by header: %s; by query: %s", byHeader.body, byQuery.body)
		}
		if r := get(t, d.URL("/api/v1/assistant/stats"), ""); r.status != http.StatusBadRequest {
			t.Errorf("without a user the status is %d, want 400: %s", r.status, r.body)
		}
	})
}

func checkUsage(t *testing.T, what string, got, want usage) {
	t.Helper()
	if got.Current != want.Current || got.Limit != want.Limit || got.Remaining != want.Remaining || got.ResetsAt == nil {
		t.Errorf("%s is %+v, want %+v and a time in resets_at", what, got, want)
	}
}

// sameStats compares two statistics but for their times, which the store rounds anew each time.
func sameStats(t *testing.T, a, b string) bool {
	t.Helper()
	var got [2]stats
	for i, body := range []string{a, b} {
		if err := json.Unmarshal([]byte(body), &got[i]); err != nil {
			t.Fatalf("read the statistics: %v in %s", err, body)
		}
	}
	for name, one := range got[0].Limits {
		if two := got[1].Limits[name]; one.Current != two.Current || one.Limit != two.Limit {
			return false
		}
	}
	return got[0].UserID == got[1].UserID
}

// TestHealth asks every way that a platform may ask whether the daemon is well.
func TestHealth(t *testing.T) {
	t.Parallel()
	d := harness.Daemon(t, nil)
	for _, path := range []string{"/healthz", "/readyz"} {
		if r := get(t, d.URL(path), ""); r.status != http.StatusOK {
			t.Errorf("%s answers %d, want 200: %s", path, r.status, r.body)
		}
	}
	var health struct {
		Status string
		Checks map[string]string
	}
	r := get(t, d.URL("/api/v1/assistant/health"), "")
	if err := json.Unmarshal([]byte(r.body), &health); err != nil {
		t.Fatalf("read the health page: %v: %s", err, r.body)
	}
	if health.Status != "healthy" || health.Checks["assistant_service"] != "available" || health.Checks["redis"] != "embedded" {
		t.Errorf("the health page says %s, want healthy, available and embedded", r.body)
	}
	conn := connect(t, d.GRPCAddr)
	for _, service := range []string{"", rateLimitService} {
		res, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || res.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("gRPC health of %q is %v (%v), want SERVING", service, res.GetStatus(), err)
		}
	}
	out := harness.RunDaemon(t, harness.Env{"RATELIMITD_GRPC_ADDR": d.GRPCAddr, "RATELIMITD_HTTP_ADDR": d.HTTPAddr}, "health")
	if out.Code != 0 {
		t.Errorf("the health subcommand ends with %d, want 0: %s", out.Code, out.Text)
	}
	d.Kill()
	out = harness.RunDaemon(t, harness.Env{"RATELIMITD_GRPC_ADDR": d.GRPCAddr, "RATELIMITD_HTTP_ADDR": d.HTTPAddr}, "health")
	if out.Code == 0 {
		t.Errorf("the health subcommand ends with 0 though the daemon is dead: %s", out.Text)
	}
}

// TestReflection lists the services as a debugging client does.
func TestReflection(t *testing.T) {
	t.Parallel()
	d := harness.Daemon(t, nil)
	stream, err := reflectionpb.NewServerReflectionClient(connect(t, d.GRPCAddr)).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatalf("ask for the services: %v", err)
	}
	ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(ask); err != nil {
		t.Fatalf("ask for the services: %v", err)
	}
	res, err := stream.Recv()
	if err != nil {
		t.Fatalf("read the services: %v", err)
	}
	var names []string
	for _, s := range res.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if !strings.Contains(strings.Join(names, " "), rateLimitService) {
		t.Errorf("the services are %q, want %s among them", names, rateLimitService)
	}
}

// TestListensOnSeveralAddresses serves one daemon on a port and on a unix socket.
func TestListensOnSeveralAddresses(t *testing.T) {
	t.Parallel()
	addr, socket := harness.Addr(t), filepath.Join(t.TempDir(), "grpc.sock")
	harness.Daemon(t, harness.Env{"RATELIMITD_GRPC_ADDR": addr + ",unix:" + socket, "RATELIMITD_POLICY": "production"})
	if got := dial(t, addr).admitted(t, "123", 6) + dial(t, "unix:"+socket).admitted(t, "123", 6); got != 10 {
		t.Errorf("%d of 12 are admitted over both, want 10", got)
	}
}

// TestMetricsHoldNoRequestValue looks for a user's id on the metrics page.
func TestMetricsHoldNoRequestValue(t *testing.T) {
	t.Parallel()
	d := harness.Daemon(t, harness.Env{"RATELIMITD_POLICY": "production"})
	dial(t, d.GRPCAddr).admitted(t, "some-user-of-mine", 11)
	if page := get(t, d.URL("/metrics"), "").body; strings.Contains(page, "some-user-of-mine") {
		t.Error("the metrics hold a user's id")
	}
	const name = "ratelimitd_decisions_total"
	if got := metric(t, d, name, `verdict="allowed"`); got != 10 {
		t.Errorf("%s counts %v allowed, want 10", name, got)
	}
	if got := metric(t, d, name, `verdict="denied"`, `tier="user"`, `limit="minute"`); got != 1 {
		t.Errorf("%s counts %v denied by user:minute, want 1", name, got)
	}
}

// TestDisabled switches rate limiting off: everything passes, and the log and the metrics say so.
func TestDisabled(t *testing.T) {
	t.Parallel()
	d := harness.Daemon(t, harness.Env{"RATE_LIMITING_ENABLED": "false", "RATELIMITD_POLICY": "testing"})
	if got := dial(t, d.GRPCAddr).admitted(t, "123", 50); got != 50 {
		t.Errorf("%d of 50 pass, want all", got)
	}
	if got := metric(t, d, "ratelimitd_enabled"); got != 0 {
		t.Errorf("ratelimitd_enabled is %v, want 0", got)
	}
	if !strings.Contains(d.Log(), "RATE_LIMITING_ENABLED") {
		t.Errorf("the log does not name RATE_LIMITING_ENABLED:\n%s", d.Log())
	}
}

// TestStopAnswersCallsUnderWay asks for an orderly end while a call waits for its store: the call is answered first.
func TestStopAnswersCallsUnderWay(t *testing.T) {
	t.Parallel()
	redis := harness.Redis(t)
	d := harness.Daemon(t, with(onRedis(redis), "RATELIMITD_POLICY", "production"))
	c := dial(t, d.GRPCAddr)
	c.admitted(t, "123", 1)
	redis.Pause()
	type answer struct {
		res *rls.RateLimitResponse
		err error
	}
	stream, err := c.startAsking(t, "123")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan answer, 1)
	go func() {
		res := new(rls.RateLimitResponse)
		err := stream.RecvMsg(res)
		got <- answer{res, err}
	}()
	d.Terminate()
	harness.WaitFor(t, "the daemon takes no more connections", func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.GRPCAddr)
		if err != nil {
			return nil //nolint:nilerr // refused: that is what is waited for
		}
		_ = conn.Close() // nothing was written
		return errors.New("it still listens")
	})
	redis.Resume()
	a := <-got
	if a.err != nil || !isOK(a.res) || failedOpen(a.res) {
		t.Errorf("the call under way is answered %v (%v), want OK from the store", a.res, a.err)
	}
	if err := d.Wait(); err != nil {
		t.Errorf("the daemon ends with %v, want status 0", err)
	}
}

// startAsking sends a call and returns when it has left; its answer is yet to be read.
func (c caller) startAsking(t *testing.T, user string) (grpc.ClientStream, error) {
	t.Helper()
	desc := &grpc.StreamDesc{StreamName: "ShouldRateLimit"}
	stream, err := c.conn.NewStream(t.Context(), desc, rls.RateLimitService_ShouldRateLimit_FullMethodName)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(request(user)); err != nil {
		return nil, err
	}
	return stream, stream.CloseSend()
}
