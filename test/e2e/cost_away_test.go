package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// absence is a way of Redis to be away.
type absence struct {
	name        string
	leave, back func(r *harness.RedisServer)
}

func absences() []absence {
	return []absence{
		{name: "it hangs", leave: (*harness.RedisServer).Pause, back: (*harness.RedisServer).Resume},
		{name: "it is dead", leave: (*harness.RedisServer).Kill, back: (*harness.RedisServer).Start},
	}
}

// newAway starts two daemons that do not wait long for their Redis.
func newAway(t *testing.T, l limits) (*spenders, *harness.RedisServer) {
	t.Helper()
	redis := harness.Redis(t)
	env := with(onRedis(redis), "RATELIMITD_DECISION_TIMEOUT", shortTimeout)
	return newSpenders(t, 2, withPolicy(t, env, spendPolicy(l))), redis
}

// recover waits until every daemon has found the store again.
func (s *spenders) recover(t *testing.T) {
	t.Helper()
	for _, d := range s.daemons {
		harness.WaitFor(t, "the daemon has its store again", func(ctx context.Context) error {
			return healthIs(ctx, d, "healthy")
		})
	}
}

// settleUntilBooked repeats a settlement by its id until a daemon has the store's word.
func settleUntilBooked(t *testing.T, c costv1.CostServiceClient, ask *costv1.SettleRequest) *costv1.SettleResponse {
	t.Helper()
	var res *costv1.SettleResponse
	harness.WaitFor(t, "the settlement is acknowledged", func(ctx context.Context) (err error) {
		res, err = c.Settle(ctx, ask)
		return err
	})
	return res
}

// usedTokens settles by tokens: 868 of input and 145 of output cost 0.0002606 USD.
func usedTokens(id string) *costv1.SettleRequest {
	return &costv1.SettleRequest{ReservationId: id, Usage: &costv1.Usage{InputTokens: 868, OutputTokens: 145}, Outcome: "success"}
}

// TestCostAllowedWhileAway takes Redis away where the policy lets calls through then: a reservation is granted with a warning,
// and what its call has cost is booked after the recovery, once, however often it was told.
func TestCostAllowedWhileAway(t *testing.T) {
	t.Parallel()
	for _, away := range absences() {
		t.Run(away.name, func(t *testing.T) {
			t.Parallel()
			s, redis := newAway(t, limits{user: "5 USD/day", global: "100 USD/day, 10 concurrent"})
			away.leave(redis)
			grant := mustReserve(t, s.clients[0], &costv1.ReserveRequest{
				IdempotencyKey: "a call", UserId: "123", Model: llama, InputTokens: 868, MaxOutputTokens: 1000,
			})
			warned := slices.ContainsFunc(grant.GetWarnings(), func(w *costv1.Warning) bool { return w.GetCode() == noStore })
			if !warned || grant.GetState() != "NONE" || grant.GetHeldUsd() != "0" || grant.GetGrantedOutputTokens() != 1000 ||
				len(grant.GetLimits()) > 0 {
				t.Errorf("without the store a reservation is answered %v, want a grant of nothing with a warning", grant)
			}
			_, err := s.clients[0].Extend(patient(t), &costv1.ExtendRequest{ReservationId: grant.GetReservationId()})
			if err != nil && !isAway(err) {
				t.Errorf("without the store an extension is answered %v", err)
			}
			ask := usedTokens(grant.GetReservationId())
			for _, c := range s.clients {
				if _, err := c.Settle(patient(t), ask); !isAway(err) || reason(err) != noStore {
					t.Errorf("without the store a settlement is answered %v, want %s", err, noStore)
				}
			}

			away.back(redis)
			s.recover(t)
			for i, c := range []costv1.CostServiceClient{s.clients[1], s.clients[0], s.clients[1]} {
				res := settleUntilBooked(t, c, ask)
				if res.GetCostUsd() != "0.0002606" || res.GetState() != "SETTLED" || i > 0 && !res.GetDuplicate() {
					t.Errorf("after the recovery settlement %d is answered %v", i, res)
				}
			}
			checkSpent(t, s.clients[0], "123", "0.0002606", "0")
			checkSpent(t, s.clients[1], "", "0.0002606", "0")
			free := s.reserveAtOnce(t, 11, func(int) *costv1.ReserveRequest { return worth("124", "0.01") })
			if free.counts[""] != 10 || free.counts[noSlot] != 1 {
				t.Errorf("of 11 calls at once the answers by reason are %v, want that all 10 slots are free", free.counts)
			}
		})
	}
}

// TestCostDeniedWhileAway takes Redis away where the policy denies then: the answer is that the store is away, over gRPC and
// HTTP, and a call that is repeated by its key after the recovery is admitted once.
func TestCostDeniedWhileAway(t *testing.T) {
	t.Parallel()
	for _, away := range absences() {
		t.Run(away.name, func(t *testing.T) {
			t.Parallel()
			s, redis := newAway(t, limits{user: "5 USD/day", global: "100 USD/day", userOnStoreFailure: "deny"})
			held := mustReserve(t, s.clients[0], worth("122", "0.01"))
			away.leave(redis)
			ask := worth("123", "0.01")
			ask.IdempotencyKey = "a call"
			for _, c := range s.clients {
				if res, err := c.Reserve(patient(t), ask); !isAway(err) || reason(err) != noStore {
					t.Errorf("without the store a reservation is answered %v (%v), want %s", err, res, noStore)
				}
			}
			for _, call := range []struct{ path, body string }{
				{"/v1/reservations", `{"user_id": "123", "max_cost_usd": "0.01"}`},
				{"/v1/reservations/" + held.GetReservationId() + "/settle", `{"usage": {"input_tokens": 1}, "model": "` + llama + `"}`},
				{"/v1/reservations/" + held.GetReservationId() + "/release", `{}`},
				{"/v1/records", `{"idempotency_key": "1", "user_id": "123", "model": "` + llama + `", "usage": {}}`},
			} {
				checkStoreAway(t, call.path, post(t, s.daemons[1], call.path, call.body))
			}

			away.back(redis)
			s.recover(t)
			for i := range 3 {
				harness.WaitFor(t, "the reservation is admitted", func(ctx context.Context) error {
					res, err := s.clients[i%2].Reserve(ctx, ask)
					if err == nil && (res.GetHeldUsd() != "0.01" || i > 0 && !res.GetDuplicate()) {
						t.Errorf("after the recovery reservation %d is answered %v", i, res)
					}
					return err
				})
			}
			all, err := balances(patient(t), s.clients[0], "123")
			// A reservation over HTTP without a key, whose answer was lost, may hold as much again until its lease is over.
			if got := all["usd day"]; err != nil || got.spent != 0 || got.held != nano("0.01") && got.held != nano("0.02") {
				t.Errorf("after the recovery the user stands at %v (%v)", all, err)
			}
		})
	}
}

// checkStoreAway checks the problem document of a store that is away.
func checkStoreAway(t *testing.T, path string, r reply) {
	t.Helper()
	var problem struct{ Reason string }
	if err := json.Unmarshal([]byte(r.body), &problem); err != nil {
		t.Errorf("%s: read the problem: %v: %s", path, err, r.body)
	}
	if r.status != http.StatusServiceUnavailable || problem.Reason != noStore || r.header.Get("Retry-After") == "" ||
		r.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("without the store %s answers %d with %v: %s", path, r.status, r.header, r.body)
	}
}

// TestCostForgottenHolds restarts a Redis that keeps nothing on disk while calls are under way: their settlements are booked
// all the same, by what their ids tell, and once each.
func TestCostForgottenHolds(t *testing.T) {
	t.Parallel()
	const calls = 6
	s, redis := newAway(t, limits{user: "5 USD/day", global: "100 USD/day, 10 concurrent"})
	var held []*costv1.ReserveResponse
	for i := range calls {
		held = append(held, mustReserve(t, s.clients[i%2], &costv1.ReserveRequest{
			UserId: "123", Model: llama, InputTokens: 868, MaxOutputTokens: 1000,
		}))
	}
	redis.Restart()
	s.recover(t)
	checkSpent(t, s.clients[0], "123", "0", "0") // what a store has lost it has lost

	_, err := s.clients[0].Release(patient(t), &costv1.ReleaseRequest{ReservationId: held[calls-1].GetReservationId()})
	if reason(err) != notFound {
		t.Errorf("the release of a hold that is forgotten is answered %v, want %s", err, notFound)
	}
	for i, grant := range held[:calls-1] {
		var first *costv1.SettleResponse
		for n, c := range s.clients {
			res := settleUntilBooked(t, c, usedTokens(grant.GetReservationId()))
			if n == 0 {
				first = proto.CloneOf(res)
				first.Duplicate = true
			}
			if res.GetCostUsd() != "0.0002606" || res.GetOverageUsd() != "0" || n > 0 && !proto.Equal(res, first) {
				t.Errorf("settlement %d of call %d is answered %v, the first one %v", n, i, res, first)
			}
		}
	}
	checkSpent(t, s.clients[1], "123", "0.001303", "0")
	checkSpent(t, s.clients[0], "", "0.001303", "0")
}

// TestCostQuestionsWhileAway asks without the store what only the store knows: nothing is made up.
func TestCostQuestionsWhileAway(t *testing.T) {
	t.Parallel()
	s, redis := newAway(t, limits{user: "5 USD/day", global: "100 USD/day"})
	redis.Kill()
	_, err := s.clients[0].GetUsage(patient(t), &costv1.GetUsageRequest{UserId: "123"})
	if !isAway(err) {
		t.Errorf("without the store the usage is answered %v, want %s", err, noStore)
	}
	checkStoreAway(t, "/v1/usage", get(t, s.daemons[0].URL("/v1/usage"), ""))
	harness.WaitFor(t, "the page of health says it", func(ctx context.Context) error {
		return errors.Join(healthIs(ctx, s.daemons[0], "degraded"))
	})
}
