package app

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
	adminv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/admin/v1"
)

// patience bounds every wait of these tests; none is expected to last.
const patience = 30 * time.Second

// testOptions are of a daemon on free ports that a busy machine does not make fail open.
func testOptions() Options {
	opt := DefaultOptions()
	opt.GRPCAddrs = []string{"127.0.0.1:0"}
	opt.HTTPAddr = "127.0.0.1:0"
	opt.DecisionTimeout = patience
	opt.ShutdownTimeout = patience
	return opt
}

// start starts a daemon that ends with the test.
func start(t *testing.T, opt Options) *App {
	t.Helper()
	a, err := New(opt, telemetry.NopLog())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := a.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return a
}

// dial connects to an address until the test ends.
func dial(t *testing.T, addr net.Addr) *grpc.ClientConn {
	t.Helper()
	target := "passthrough:///" + addr.String()
	if addr.Network() == "unix" {
		target = "unix:" + addr.String()
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func request(user string) *ratelimitv3.RateLimitRequest {
	return &ratelimitv3.RateLimitRequest{
		Domain: "assistant",
		Descriptors: []*ratelimit.RateLimitDescriptor{{
			Entries: []*ratelimit.RateLimitDescriptor_Entry{{Key: "user_id", Value: user}},
		}},
	}
}

// denied asks once and tells whether the call was denied.
func denied(t *testing.T, conn *grpc.ClientConn, user string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	resp, err := ratelimitv3.NewRateLimitServiceClient(conn).ShouldRateLimit(ctx, request(user), grpc.WaitForReady(true))
	if err != nil {
		t.Fatalf("ask for user %s: %v", user, err)
	}
	return resp.GetOverallCode() == ratelimitv3.RateLimitResponse_OVER_LIMIT
}

// admitted asks until a call is denied and tells how many were not.
func admitted(t *testing.T, conn *grpc.ClientConn, user string) int {
	t.Helper()
	for n := range 1000 {
		if denied(t, conn, user) {
			return n
		}
	}
	t.Fatalf("user %s was never denied", user)
	return 0
}

func get(t *testing.T, a *App, path string) (status int, body string) {
	t.Helper()
	return getAt(t, a.HTTPAddr(), path)
}

func getAt(t *testing.T, addr net.Addr, path string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return resp.StatusCode, string(text)
}

func writePolicy(t *testing.T, path, limit string) {
	t.Helper()
	text := "domain: assistant\nsubjects: {user: {key: user_id, default_plan: p}}\nplans: {p: {limits: [" + limit + "]}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}

func TestTenOfElevenCallsPassAndTheStatisticsShowIt(t *testing.T) {
	a := start(t, testOptions())
	conn := dial(t, a.GRPCAddrs()[0])
	if got := admitted(t, conn, "123"); got != 10 {
		t.Errorf("%d calls passed, want 10", got)
	}
	code, body := get(t, a, "/api/v1/assistant/stats?user_id=123")
	var stats struct {
		Limits map[string]struct{ Current, Limit, Remaining int }
		Global struct {
			Limits map[string]struct{ Current int }
		}
	}
	if err := json.Unmarshal([]byte(body), &stats); err != nil || code != http.StatusOK {
		t.Fatalf("status %d, body %s: %v", code, body, err)
	}
	if m := stats.Limits["minute"]; m.Current != 10 || m.Limit != 10 || m.Remaining != 0 {
		t.Errorf("the minute is %+v, want 10 of 10", m)
	}
	if h := stats.Global.Limits["hour"]; h.Current != 10 {
		t.Errorf("the global hour holds %d, want 10: a denied call consumes nothing", h.Current)
	}
	_, metrics := get(t, a, "/metrics")
	for _, line := range []string{
		`ratelimitd_decisions_total{limit="minute",mode="enforced",tier="user",unit="requests",verdict="allowed"} 10`,
		`ratelimitd_memory_subjects 2`, `ratelimitd_enabled 1`, `ratelimitd_build_info{`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if strings.Contains(metrics, "123\"") {
		t.Error("a label holds the user's id")
	}
}

func TestDaemonsOfOneProcessShareNothing(t *testing.T) {
	one, two := start(t, testOptions()), start(t, testOptions())
	if got := admitted(t, dial(t, one.GRPCAddrs()[0]), "1"); got != 10 {
		t.Errorf("%d calls passed the first, want 10", got)
	}
	if got := admitted(t, dial(t, two.GRPCAddrs()[0]), "1"); got != 10 {
		t.Errorf("%d calls passed the second, want 10", got)
	}
}

func TestHealthAndReflection(t *testing.T) {
	a := start(t, testOptions())
	conn := dial(t, a.GRPCAddrs()[0])
	health := healthv1.NewHealthClient(conn)
	for _, service := range []string{"", "envoy.service.ratelimit.v3.RateLimitService"} {
		resp, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil || resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("the health of %q is %v, %v; want SERVING", service, resp.GetStatus(), err)
		}
	}
	if _, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "x"}); status.Code(err) != codes.NotFound {
		t.Errorf("the health of an unknown service is %v, want NOT_FOUND", err)
	}
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready", "/api/v1/assistant/health": `"redis":"embedded"`,
	} {
		if code, body := get(t, a, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s answers %d %s, want 200 with %s", path, code, body, want)
		}
	}
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(resp.String(), "envoy.service.ratelimit.v3.RateLimitService") || strings.Contains(resp.String(), "admin") {
		t.Errorf("reflection lists %v, want the rate limit service and no administration", resp)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

func TestSwitchedOffEverythingPassesUncounted(t *testing.T) {
	opt := testOptions()
	opt.Disabled = true
	core, lines := observer.New(zapcore.WarnLevel)
	a, err := New(opt, telemetry.NewLog(zap.New(core)))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Stop(t.Context()) }()
	conn := dial(t, a.GRPCAddrs()[0])
	for range 30 {
		if denied(t, conn, "1") {
			t.Fatal("a call was denied")
		}
	}
	if got := testutil.ToFloat64(a.metrics.Enabled); got != 0 {
		t.Errorf("the metric reads %v, want 0", got)
	}
	if lines.FilterField(zap.String(telemetry.FieldSetting, "RATE_LIMITING_ENABLED")).Len() != 1 {
		t.Errorf("the log does not say it: %v", lines.All())
	}
}

func TestTheMetricsAddressTellsOfNoUser(t *testing.T) {
	opt := testOptions()
	opt.MetricsAddr = "127.0.0.1:0"
	a := start(t, opt)
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/metrics": 200,
		"/v1/usage": 404, "/v1/users/alice/usage": 404, "/openapi.yaml": 404,
		"/api/v1/assistant/stats?user_id=alice": 404, "/api/v1/assistant/health": 404,
	} {
		if got, body := getAt(t, a.MetricsAddr(), path); got != want {
			t.Errorf("GET %s: %d, want %d: %.200s", path, got, want, body)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/usage"} {
		if got, body := get(t, a, path); got != 200 {
			t.Errorf("GET %s at the HTTP address: %d, want 200: %.200s", path, got, body)
		}
	}
	if start(t, testOptions()).MetricsAddr() != nil {
		t.Error("metrics are served apart though no address says so")
	}
}

func TestAnOverrideByAdministrationHoldsAtOnce(t *testing.T) {
	opt := testOptions()
	opt.AdminAddr = "unix:" + filepath.Join(t.TempDir(), "admin.sock")
	a := start(t, opt)
	admin := adminv1.NewAdminServiceClient(dial(t, a.AdminAddr()))
	_, err := admin.SetOverride(t.Context(), &adminv1.SetOverrideRequest{
		Subject: &adminv1.Subject{Kind: "user", Id: "1"},
		Override: &adminv1.SetOverrideRequest_Limits{
			Limits: &adminv1.LimitList{Limits: []string{"3/minute"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, a.GRPCAddrs()[0])
	if got := admitted(t, conn, "1"); got != 3 {
		t.Errorf("%d calls of the user with 3 a minute passed", got)
	}
	if got := admitted(t, conn, "2"); got != 10 {
		t.Errorf("%d calls of another user passed, want 10", got)
	}
	_, err = admin.ResetSubject(t.Context(), &adminv1.ResetSubjectRequest{Subject: &adminv1.Subject{Kind: "user", Id: "1"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := admitted(t, conn, "1"); got != 3 {
		t.Errorf("%d calls passed after the reset, want 3", got)
	}
	_, err = adminv1.NewAdminServiceClient(conn).GetOverride(t.Context(), &adminv1.GetOverrideRequest{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("administration beside the rate limits answers %v, want UNIMPLEMENTED", err)
	}
}

func TestAReloadTakesEffectAndABadFileDoesNot(t *testing.T) {
	opt := testOptions()
	opt.Policy = filepath.Join(t.TempDir(), "policy.yaml")
	writePolicy(t, opt.Policy, "3/hour")
	a := start(t, opt)
	conn := dial(t, a.GRPCAddrs()[0])
	if got := admitted(t, conn, "1"); got != 3 {
		t.Errorf("%d calls passed, want 3", got)
	}
	writePolicy(t, opt.Policy, "5/hour")
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := admitted(t, conn, "1"); got != 2 {
		t.Errorf("%d more calls passed after the limit went from 3 to 5, want 2", got)
	}
	writePolicy(t, opt.Policy, "-1/hour")
	if err := a.Reload(); err == nil {
		t.Error("a bad policy is accepted")
	}
	if got := testutil.ToFloat64(a.metrics.PolicyReloadSuccess); got != 0 {
		t.Errorf("the metric reads %v after a bad policy, want 0", got)
	}
	if got := admitted(t, conn, "2"); got != 5 {
		t.Errorf("%d calls passed under the old policy, want 5", got)
	}
	writePolicy(t, opt.Policy, "6/hour") // found by the watch
	eventually(t, "the changed file to be read", func() bool { return testutil.ToFloat64(a.metrics.PolicyReloadSuccess) == 1 })
	if got := admitted(t, conn, "3"); got != 6 {
		t.Errorf("%d calls passed after the file changed, want 6", got)
	}
}

func TestWithRedisAwayTheDaemonStartsAnswersAndSaysSo(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opt := testOptions()
	opt.Store = StoreRedis
	opt.Redis.Addrs = []string{l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	opt.DecisionTimeout = 10 * time.Millisecond
	a := start(t, opt)
	conn := dial(t, a.GRPCAddrs()[0])
	for range 20 {
		if denied(t, conn, "1") {
			t.Fatal("a call was denied, want it let through: the policy says allow")
		}
	}
	if got := testutil.ToFloat64(a.metrics.FailOpens.WithLabelValues("user")); got != 20 {
		t.Errorf("%v fail-opens were counted, want 20", got)
	}
	code, body := get(t, a, "/api/v1/assistant/health")
	if code != http.StatusOK || !strings.Contains(body, `"status":"degraded"`) || !strings.Contains(body, `"redis":"unavailable"`) {
		t.Errorf("health answers %d %s, want 200 and degraded", code, body)
	}
	if code, _ := get(t, a, "/readyz"); code != http.StatusOK {
		t.Errorf("readiness answers %d, want 200: calls are answered", code)
	}
	if code, body := get(t, a, "/api/v1/assistant/stats?user_id=1"); code != http.StatusServiceUnavailable {
		t.Errorf("the statistics answer %d %s, want 503", code, body)
	}
}

func TestSockets(t *testing.T) {
	t.Run("one that a dead server left is taken over", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		old.SetUnlinkOnClose(false)
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		opt := testOptions()
		opt.GRPCAddrs = []string{"unix://" + path, "127.0.0.1:0"}
		a := start(t, opt)
		for _, addr := range a.GRPCAddrs() {
			if denied(t, dial(t, addr), "1") {
				t.Errorf("a call by %s is denied", addr)
			}
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o660 {
			t.Errorf("the socket is %v, %v; want rw-rw----", info, err)
		}
	})
	t.Run("one of a live server is refused", func(t *testing.T) {
		opt := testOptions()
		opt.GRPCAddrs = []string{"unix:" + filepath.Join(t.TempDir(), "s")}
		first := start(t, opt)
		wantNoStart(t, opt, "another server answers")
		if denied(t, dial(t, first.GRPCAddrs()[0]), "1") {
			t.Error("the first server is disturbed")
		}
	})
	t.Run("a file that is no socket is refused and kept", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		opt := testOptions()
		opt.HTTPAddr = "unix:" + path
		wantNoStart(t, opt, "no socket")
		if kept, err := os.ReadFile(path); err != nil || string(kept) != "precious" {
			t.Errorf("the file holds %q, %v", kept, err)
		}
	})
}

// wantNoStart starts a daemon that cannot start.
func wantNoStart(t *testing.T, opt Options, want string) {
	t.Helper()
	a, err := New(opt, telemetry.NopLog())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the start ended with %v, want %q", err, want)
	}
}

func TestAFailedStartLeavesNothingBehind(t *testing.T) {
	taken := start(t, testOptions())
	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	opt := testOptions()
	opt.HTTPAddr = free.Addr().String()
	opt.GRPCAddrs = []string{"unix:" + filepath.Join(t.TempDir(), "s"), taken.GRPCAddrs()[0].String()}
	wantNoStart(t, opt, "address already in use")
	again, err := new(net.ListenConfig).Listen(t.Context(), "tcp", opt.HTTPAddr)
	if err != nil {
		t.Fatalf("the HTTP address is still taken: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, path := splitAddr(opt.GRPCAddrs[0]); exists(path) {
		t.Error("the socket is still there")
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestWhatCannotBeMadeIsRefusedBeforeAnythingStarts(t *testing.T) {
	opt := testOptions()
	opt.Policy = "/nope.yaml"
	if _, err := New(opt, telemetry.NopLog()); err == nil || !strings.Contains(err.Error(), "/nope.yaml") {
		t.Errorf("a policy that does not exist gives %v", err)
	}
	opt = testOptions()
	opt.Store = "disk"
	if _, err := New(opt, telemetry.NopLog()); err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("a store that does not exist gives %v", err)
	}
}

// running is a daemon under Run.
type running struct {
	*App

	signals chan os.Signal
	done    chan error
}

func run(t *testing.T, opt Options) *running {
	t.Helper()
	a, err := New(opt, telemetry.NopLog())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &running{App: a, signals: make(chan os.Signal), done: make(chan error, 1)}
	go func() { r.done <- a.obey(context.Background(), r.signals) }()
	return r
}

func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		t.Fatalf("the daemon did not end within %s", patience)
		return nil
	}
}

// openCall begins a call that ends only when the server does: its message never comes.
func openCall(t *testing.T, a *App) {
	t.Helper()
	conn := dial(t, a.GRPCAddrs()[0])
	_, err := conn.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true},
		ratelimitv3.RateLimitService_ShouldRateLimit_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	denied(t, conn, "another") // the server takes what comes on a connection in turn: it knows of the first call, too
}

func TestSignals(t *testing.T) {
	t.Run("SIGHUP reloads and SIGTERM ends", func(t *testing.T) {
		opt := testOptions()
		opt.Policy = filepath.Join(t.TempDir(), "policy.yaml")
		writePolicy(t, opt.Policy, "3/hour")
		r := run(t, opt)
		writePolicy(t, opt.Policy, "-3/hour")
		r.signals <- syscall.SIGHUP
		r.signals <- syscall.SIGHUP // is taken only when the one before it is done
		if got := testutil.ToFloat64(r.metrics.PolicyReloadSuccess); got != 0 {
			t.Errorf("the metric reads %v after SIGHUP with a bad policy, want 0", got)
		}
		r.signals <- syscall.SIGTERM
		if err := r.wait(t); err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("a second signal cuts off what is in flight", func(t *testing.T) {
		opt := testOptions()
		opt.ShutdownTimeout = MaxShutdownTimeout
		r := run(t, opt)
		openCall(t, r.App)
		r.signals <- syscall.SIGTERM
		r.signals <- syscall.SIGINT
		if err := r.wait(t); err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("the shutdown timeout cuts off what is in flight", func(t *testing.T) {
		opt := testOptions()
		opt.ShutdownTimeout = MinShutdownTimeout
		r := run(t, opt)
		openCall(t, r.App)
		r.signals <- syscall.SIGTERM
		if err := r.wait(t); err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("the shutdown timeout cuts off a connection over HTTP", func(t *testing.T) {
		opt := testOptions()
		opt.ShutdownTimeout = MinShutdownTimeout
		r := run(t, opt)
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.HTTPAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		get(t, r.App, "/healthz") // the server took the connection before this one
		r.signals <- syscall.SIGTERM
		if err := r.wait(t); err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("what else goes wrong is told beside what was cut off", func(t *testing.T) {
		opt := testOptions()
		opt.ShutdownTimeout = MinShutdownTimeout
		r := run(t, opt)
		boom := errors.New("boom")
		r.push("close what cannot be closed", func(context.Context) error { return boom })
		openCall(t, r.App)
		r.signals <- syscall.SIGTERM
		if err := r.wait(t); !errors.Is(err, boom) || errors.Is(err, errCut) {
			t.Errorf("it ended with %v, want %v alone", err, boom)
		}
	})
	t.Run("while it drains it is not ready", func(t *testing.T) {
		opt := testOptions()
		opt.ShutdownTimeout = MaxShutdownTimeout
		r := run(t, opt)
		openCall(t, r.App)
		r.signals <- syscall.SIGTERM
		eventually(t, "readiness to end", func() bool {
			code, _ := get(t, r.App, "/readyz")
			return code == http.StatusServiceUnavailable
		})
		if code, _ := get(t, r.App, "/healthz"); code != http.StatusOK {
			t.Errorf("/healthz answers %d while draining, want 200", code)
		}
		r.signals <- syscall.SIGTERM
		if err := r.wait(t); err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("a server that ends by itself ends the daemon", func(t *testing.T) {
		r := run(t, testOptions())
		boom := errors.New("boom")
		r.failed <- boom
		if err := r.wait(t); !errors.Is(err, boom) {
			t.Errorf("it ended with %v, want %v", err, boom)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, testOptions(), telemetry.NopLog(), nil); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	opt := testOptions()
	opt.Policy = "/nope.yaml"
	if err := Run(t.Context(), opt, telemetry.NopLog(), nil); err == nil {
		t.Error("a daemon without a policy runs")
	}
}

func TestAPanicIsAnInternalErrorOfOneCall(t *testing.T) {
	metrics := telemetry.NewMetrics(prometheus.NewRegistry())
	core, lines := observer.New(zapcore.DebugLevel)
	panics := &panics{metrics: metrics, log: telemetry.NewLog(zap.New(core))}
	catch := panics.catch
	resp, err := catch(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/x/Y"},
		func(context.Context, any) (any, error) { panic("secret") })
	if resp != nil || status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("the caller gets %v, %v; want INTERNAL without the panic's text", resp, err)
	}
	if testutil.ToFloat64(metrics.Panics) != 1 || lines.Len() != 1 {
		t.Errorf("%v panics counted, %d logged, want 1 and 1", testutil.ToFloat64(metrics.Panics), lines.Len())
	}
	resp, err = catch(t.Context(), "a", &grpc.UnaryServerInfo{}, func(_ context.Context, req any) (any, error) { return req, nil })
	if resp != "a" || err != nil {
		t.Errorf("a call without a panic gives %v, %v", resp, err)
	}
	err = endWith(t.Context(), panics)(nil, stream{ctx: t.Context()}, &grpc.StreamServerInfo{FullMethod: "/x/Z"},
		func(any, grpc.ServerStream) error { panic("secret") })
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") || testutil.ToFloat64(metrics.Panics) != 2 {
		t.Errorf("the caller of a stream gets %v, and %v panics are counted; want INTERNAL without the panic's text, and 2",
			err, testutil.ToFloat64(metrics.Panics))
	}
}

// stream is a stream that nothing comes by.
type stream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // grpc's own streams have theirs, too
}

func (s stream) Context() context.Context { return s.ctx }
