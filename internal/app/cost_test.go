package app

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

func TestOneSlotIsReservedOverGRPCAndSeenOverHTTP(t *testing.T) {
	opt := testOptions()
	opt.Policy = filepath.Join(t.TempDir(), "policy.yaml")
	writePolicy(t, opt.Policy, "1 concurrent, 5 USD/day")
	a := start(t, opt)
	conn := dial(t, a.GRPCAddrs()[0])
	client := costv1.NewCostServiceClient(conn)
	held, err := client.Reserve(t.Context(), &costv1.ReserveRequest{UserId: "123", MaxCostUsd: "0.25"})
	if err != nil || held.GetHeldUsd() != "0.25" {
		t.Fatalf("reserve: %v, %v, want 0.25 held", held, err)
	}
	_, err = client.Reserve(t.Context(), &costv1.ReserveRequest{UserId: "123", MaxCostUsd: "0.25"})
	if reason := reasonOf(err); status.Code(err) != codes.ResourceExhausted || reason != "CONCURRENCY_LIMIT" {
		t.Errorf("a second reservation is answered %v for %s, want CONCURRENCY_LIMIT", err, reason)
	}
	code, body := get(t, a, "/v1/users/123/usage")
	var usage struct {
		Limits []struct{ Unit, Used, Held, Remaining string }
	}
	if err := json.Unmarshal([]byte(body), &usage); err != nil || code != http.StatusOK || len(usage.Limits) != 2 {
		t.Fatalf("usage is answered %d: %s", code, body)
	}
	for _, l := range usage.Limits {
		if (l.Unit == "usd" && (l.Held != "0.25" || l.Remaining != "4.75")) || (l.Unit == "concurrent" && l.Used != "1") {
			t.Errorf("usage is %+v", l)
		}
	}
	if code, body := get(t, a, "/api/v1/assistant/stats?user_id=123"); !strings.Contains(body, `"concurrent":{"current":1,`) ||
		!strings.Contains(body, `"cost":{"today":0.25,`) {
		t.Errorf("statistics are answered %d: %s", code, body)
	}
	health, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: "ratelimitd.cost.v1.CostService"})
	if err != nil || health.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("the health is %v, %v", health, err)
	}
	if code, body := get(t, a, "/openapi.yaml"); code != http.StatusOK || !strings.Contains(body, "/v1/reservations") {
		t.Errorf("the OpenAPI file is answered %d: %.80s", code, body)
	}
}

// TestTheStopDoesNotWaitForWaiters stops a daemon while a call has five minutes to wait for a slot.
func TestTheStopDoesNotWaitForWaiters(t *testing.T) {
	opt := testOptions()
	opt.Policy = filepath.Join(t.TempDir(), "policy.yaml")
	writePolicy(t, opt.Policy, "1 concurrent")
	a, err := New(opt, telemetry.NopLog())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := costv1.NewCostServiceClient(dial(t, a.GRPCAddrs()[0]))
	if _, err := client.Reserve(t.Context(), &costv1.ReserveRequest{UserId: "123", MaxCostUsd: "0.01", Ttl: durationpb.New(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := client.Reserve(t.Context(), &costv1.ReserveRequest{
			UserId: "123", MaxCostUsd: "0.01", WaitTimeout: durationpb.New(5 * time.Minute),
		})
		waited <- err
	}()
	eventually(t, "a call waits for the slot", func() bool {
		_, body := get(t, a, "/metrics")
		return strings.Contains(body, "ratelimitd_reservations_waiting 1")
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		t.Errorf("stop: %v, want no call cut off", err)
	}
	if err := <-waited; status.Code(err) != codes.Unavailable || reasonOf(err) != "SHUTTING_DOWN" {
		t.Errorf("the call that waited is answered %v, want SHUTTING_DOWN", err)
	}
}

func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// TestAnswersForgottenForWantOfMemoryAreCounted records more than the smallest store can remember.
func TestAnswersForgottenForWantOfMemoryAreCounted(t *testing.T) {
	opt := testOptions()
	opt.MemoryLimit = MinMemoryLimit
	opt.Policy = filepath.Join(t.TempDir(), "policy.yaml")
	writePolicy(t, opt.Policy, "1000 USD/day")
	a := start(t, opt)
	client := costv1.NewCostServiceClient(dial(t, a.GRPCAddrs()[0]))
	record := func(n int) bool {
		receipt, err := client.Record(t.Context(), &costv1.RecordRequest{
			UserId: "123", IdempotencyKey: strconv.Itoa(n), Usage: &costv1.Usage{}, ProviderCostUsd: "0.25",
		})
		if err != nil {
			t.Fatalf("record %d: %v", n, err)
		}
		return receipt.GetDuplicate()
	}
	forgotten := func() float64 { return testutil.ToFloat64(a.metrics.AnswersForgottenEarly) }
	record(0)
	if !record(0) || forgotten() != 0 {
		t.Fatalf("a record at once again is new, or %v answers are forgotten; want a duplicate, and none", forgotten())
	}
	for n := 1; forgotten() == 0; n++ {
		if n > MinMemoryLimit/100 {
			t.Fatalf("%d records fit in %d bytes", n, MinMemoryLimit)
		}
		record(n)
	}
	if record(0) {
		t.Error("the first record again is a duplicate: its answer was told to be forgotten")
	}
}
