package cost

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// waiting is an engine whose calls wait until their context ends; asked gets one for each.
func waiting() (e *fakeEngine, asked chan struct{}) {
	asked = make(chan struct{}, maxWaits+maxReserves)
	return &fakeEngine{do: func(ctx context.Context) error {
		asked <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}}, asked
}

func waitingCall() *costv1.ReserveRequest {
	return &costv1.ReserveRequest{UserId: "1", WaitTimeout: durationpb.New(engine.MaxWait)}
}

func TestTheDaemonsStopEndsTheWaits(t *testing.T) {
	e, asked := waiting()
	s := newServer(t, e)
	answered := make(chan error)
	reserve := func() {
		_, err := s.Reserve(t.Context(), waitingCall())
		answered <- err
	}
	go reserve()
	<-asked
	s.Refuse()
	if p := readProblem(<-answered); p.Reason != "SHUTTING_DOWN" || p.Status != 503 {
		t.Errorf("a call that waited is answered with %+v, want SHUTTING_DOWN", p)
	}
	go reserve()
	if p := readProblem(<-answered); p.Reason != "SHUTTING_DOWN" {
		t.Errorf("a call that came to wait is answered with %+v, want SHUTTING_DOWN", p)
	}
	if _, err := newServer(t, &fakeEngine{}).Reserve(t.Context(), waitingCall()); err != nil {
		t.Errorf("another server answers %v, want a reservation", err)
	}
}

func TestAnAnswerThatCameBeforeTheStopStands(t *testing.T) {
	e := &fakeEngine{}
	s := newServer(t, e)
	e.do = func(context.Context) error {
		s.Refuse()
		return nil
	}
	if resp, err := s.Reserve(t.Context(), waitingCall()); err != nil || resp.GetReservationId() != theID {
		t.Errorf("it is %v, %v, want the reservation", resp, err)
	}
	e.do = func(context.Context) error {
		return &engine.CostError{Reason: engine.ConcurrencyLimit, Text: "no slot"}
	}
	if _, err := s.Reserve(t.Context(), waitingCall()); readProblem(err).Reason != "CONCURRENCY_LIMIT" {
		t.Errorf("it is %v, want the engine's own error", err)
	}
}

func TestTheCallersEndIsNotTheDaemons(t *testing.T) {
	e, asked := waiting()
	s := newServer(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := s.Reserve(ctx, waitingCall()); readProblem(err).Reason != "CANCELLED" {
		t.Errorf("it is %v, want CANCELLED", err)
	}
}

func TestMoreWaitsThanMayBeAreTurnedAway(t *testing.T) {
	e, asked := waiting()
	s := newServer(t, e)
	done := make(chan struct{}, maxWaits)
	for range maxWaits {
		go func() {
			_, _ = s.Reserve(t.Context(), waitingCall())
			done <- struct{}{}
		}()
	}
	for range maxWaits {
		<-asked
	}
	if _, err := s.Reserve(t.Context(), waitingCall()); readProblem(err).Reason != "BUSY" {
		t.Errorf("one more is answered %v, want BUSY", err)
	}
	e.do = nil // nobody asks now
	if _, err := s.Reserve(t.Context(), &costv1.ReserveRequest{UserId: "1"}); err != nil {
		t.Errorf("a call that does not wait is answered %v, want a reservation", err)
	}
	s.Refuse()
	for range maxWaits {
		<-done
	}
}

func someRecords(n int) *costv1.RecordBatchRequest {
	batch := new(costv1.RecordBatchRequest)
	for range n {
		batch.Records = append(batch.Records, &costv1.RecordRequest{UserId: "1", IdempotencyKey: "k", Usage: &costv1.Usage{}})
	}
	return batch
}

func TestABatchStopsAtALostStoreAndSaysSo(t *testing.T) {
	e := &fakeEngine{}
	e.do = func(context.Context) error {
		if e.calls < 2 {
			return nil
		}
		return &engine.CostError{Reason: engine.StoreUnavailable, Text: "away"}
	}
	resp, err := newServer(t, e).RecordBatch(t.Context(), someRecords(5))
	if err != nil || len(resp.GetResults()) != 5 || e.calls != 2 {
		t.Fatalf("%v, %v after %d calls, want 5 results after 2", resp, err, e.calls)
	}
	for i, r := range resp.GetResults() {
		if (r.GetError() == nil) != (i == 0) || (i > 0 && r.GetError().GetReason() != "STORE_UNAVAILABLE") {
			t.Errorf("result %d is %v", i, r)
		}
	}
}

func TestABatchWhoseCallerHasGoneIsNotGoneOnWith(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	e := &fakeEngine{do: func(context.Context) error {
		cancel()
		return errors.New("cut")
	}}
	if _, err := newServer(t, e).RecordBatch(ctx, someRecords(5)); readProblem(err).Reason != "CANCELLED" || e.calls != 1 {
		t.Errorf("%v after %d calls, want CANCELLED after 1", err, e.calls)
	}
}

func TestEveryRecordOfABatchIsBooked(t *testing.T) {
	e := &fakeEngine{}
	resp, err := newServer(t, e).RecordBatch(t.Context(), someRecords(MaxRecords))
	if err != nil || len(resp.GetResults()) != MaxRecords || e.calls != MaxRecords {
		t.Errorf("%d results, %v after %d calls", len(resp.GetResults()), err, e.calls)
	}
}

func TestADecisionIsTimedAndNothingElse(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := New(Options{Engine: &fakeEngine{}, Metrics: telemetry.NewMetrics(reg), Log: telemetry.NopLog()})
	t.Cleanup(s.Refuse)
	for _, wrong := range []func() error{
		func() error { _, err := s.Quote(t.Context(), &costv1.QuoteRequest{MaxCostUsd: "-1"}); return err },
		func() error { _, err := s.Extend(t.Context(), &costv1.ExtendRequest{}); return err },
		func() error { _, err := s.Settle(t.Context(), &costv1.SettleRequest{}); return err },
		func() error { _, err := s.Release(t.Context(), &costv1.ReleaseRequest{}); return err },
		func() error { _, err := s.Record(t.Context(), &costv1.RecordRequest{}); return err },
		func() error { _, err := s.RecordBatch(t.Context(), someRecords(MaxRecords+1)); return err },
	} {
		if p := readProblem(wrong()); p.Reason != "INVALID_ARGUMENT" {
			t.Fatalf("a wrong call is answered %+v", p)
		}
	}
	if n := timedCalls(t, reg); n != 0 {
		t.Errorf("%d wrong calls are timed, want none", n)
	}
	if _, err := s.RecordBatch(t.Context(), someRecords(3)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetUsage(t.Context(), &costv1.GetUsageRequest{UserId: "1"}); err != nil {
		t.Fatal(err)
	}
	if n := timedCalls(t, reg); n != 4 {
		t.Errorf("a batch of 3 records and a look at usage are timed %d times, want 4", n)
	}
}

// timedCalls is how many decisions' times there are.
func timedCalls(t *testing.T, reg *prometheus.Registry) uint64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for _, f := range families {
		if f.GetName() == "ratelimitd_decision_duration_seconds" {
			for _, m := range f.GetMetric() {
				n += m.GetHistogram().GetSampleCount()
			}
		}
	}
	return n
}
