package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	adminv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/admin/v1"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

const secret = "someone-secret"

// TestSpansOfFailuresNameNobody has calls of all services fail for a user: the store holds what is damaged, the store is away, and
// messages cannot be read. The spans are errors, and hold nothing of the user, of the store's keys, or of what the store, the network
// and the protocol said; the log does.
func TestSpansOfFailuresNameNobody(t *testing.T) {
	t.Parallel()
	c, redis := harness.Collector(t), harness.Redis(t)
	calls := failingCalls{admin: harness.Addr(t)}
	env := with(tracedTo(c, "http/protobuf", onRedis(redis)), "RATELIMITD_ADMIN_ADDR", calls.admin)
	calls.daemon = harness.Daemon(t, withPolicy(t, env, limits{
		user: "1000/hour, 5 USD/day", global: "100 USD/day", userOnStoreFailure: "deny", globalOnStoreFault: "deny",
	}.text()))

	for _, suffix := range []string{"o", "r", "u"} { // the override, the requests and the money
		if err := redis.Client.Set(t.Context(), "rl:{user:"+secret+"}:"+suffix, "?", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	calls.make(t)
	redis.Kill()
	calls.make(t)
	calls.send(t, "/ratelimitd.cost.v1.CostService/Quote", secret, nil)
	calls.send(t, "/ratelimitd.cost.v1.CostService/Quote", "", []byte("\x0a\x0f"+secret+"\xff"))
	calls.send(t, "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", "", []byte("\x0a\x0f"+secret+"\xff"))
	calls.send(t, "/ratelimitd.cost.v1.CostService/"+secret, "", nil)
	calls.daemon.Terminate()
	if err := calls.daemon.Wait(); err != nil { // all spans have been taken then
		t.Fatal(err)
	}

	failed := map[string]int{}
	for _, s := range c.Spans() {
		if s.Error {
			failed[s.Name]++
		}
		kinds := []string{"", "timeout", "unavailable", "corrupt", "full", "other"}
		if !slices.Contains(kinds, s.Message) || len(s.Events) > 0 || len(s.Links) > 0 {
			t.Errorf("a span says more than a kind of error: %+v", s)
		}
	}
	for name, least := range map[string]int{
		"ratelimitd.admin.v1.AdminService/GetOverride": 2, "ratelimitd.admin.v1.AdminService/SetOverride": 1,
		"ratelimitd.admin.v1.AdminService/DeleteOverride": 1, "ratelimitd.admin.v1.AdminService/ResetSubject": 1,
		"ratelimitd.cost.v1.CostService/Reserve": 2, "ratelimitd.cost.v1.CostService/GetUsage": 2,
		"ratelimitd.cost.v1.CostService/Quote": 2, "POST /v1/reservations": 2, "GET /v1/usage": 2, "admit redis": 2,
	} {
		if failed[name] < least {
			t.Errorf("%d spans of %s are errors, want at least %d; all: %v", failed[name], name, least, failed)
		}
	}
	for _, text := range []string{secret, "rl:{", redis.Addr, "refused", "too short", "grpc:", "proto:"} {
		checkNothingSays(t, c, text)
	}
	for _, text := range []string{"rl:{user:" + secret + "}:o", "refused"} {
		if !strings.Contains(calls.daemon.Log(), text) {
			t.Errorf("the log does not say %q:\n%s", text, calls.daemon.Log())
		}
	}
}

// failingCalls calls a daemon whose store does not answer. What it answers is told by other tests.
type failingCalls struct {
	daemon *harness.DaemonProcess
	admin  string
}

// make makes one call of each kind, all of them for one user.
func (f failingCalls) make(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	conn := connect(t, f.daemon.GRPCAddr)
	admin, cost := adminv1.NewAdminServiceClient(connect(t, f.admin)), costv1.NewCostServiceClient(conn)
	who := &adminv1.Subject{Kind: "user", Id: secret}
	_, getErr := admin.GetOverride(ctx, &adminv1.GetOverrideRequest{Subject: who})
	_, reserveErr := cost.Reserve(ctx, &costv1.ReserveRequest{UserId: secret, MaxCostUsd: "0.01"})
	for call, err := range map[string]error{"GetOverride": getErr, "Reserve": reserveErr} {
		if err == nil {
			t.Errorf("%s succeeds, want it to fail with the store", call)
		}
	}
	_, _ = cost.GetUsage(ctx, &costv1.GetUsageRequest{UserId: secret})
	_, _ = dial(t, f.daemon.GRPCAddr).ask(ctx, secret)
	traced(t, http.MethodPost, f.daemon.URL("/v1/reservations"), "", clientParent, `{"user_id":"`+secret+`","max_cost_usd":"0.01"}`)
	traced(t, http.MethodGet, f.daemon.URL("/v1/users/"+secret+"/usage"), "", clientParent, "")
	// These write, so they go last: a damaged override is as good as none to them.
	_, _ = admin.SetOverride(ctx, &adminv1.SetOverrideRequest{
		Subject: who, Override: &adminv1.SetOverrideRequest_Limits{Limits: &adminv1.LimitList{Limits: []string{"1/day"}}},
	})
	_, _ = admin.ResetSubject(ctx, &adminv1.ResetSubjectRequest{Subject: who})
	_, _ = admin.DeleteOverride(ctx, &adminv1.DeleteOverrideRequest{Subject: who})
}

// send sends one gRPC message as it is, as no client of Go would: with an encoding, if one is named, that nobody knows.
func (f failingCalls) send(t *testing.T, method, encoding string, message []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	flag := byte(0)
	if encoding != "" {
		flag = 1
	}
	frame := append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message))), message...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.daemon.GRPCAddr+method, bytes.NewReader(frame))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("Traceparent", clientParent)
	if encoding != "" {
		req.Header.Set("Grpc-Encoding", encoding)
	}
	only2 := new(http.Protocols)
	only2.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: only2}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	if status := res.Trailer.Get("Grpc-Status") + res.Header.Get("Grpc-Status"); status == "0" || status == "" {
		t.Errorf("%s with a message that cannot be read ends with the status %q, want an error", method, status)
	}
}
