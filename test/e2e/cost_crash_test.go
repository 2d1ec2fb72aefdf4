package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestCostLedgerOfKilledDaemons kills one daemon after the other in the middle of a random run, and starts it again later. Calls
// under way on it fail and are repeated by their ids through another one: no settled dollar is missing at the end, and
// none is booked twice.
func TestCostLedgerOfKilledDaemons(t *testing.T) {
	t.Parallel()
	const kills = 3
	ops := ledgerSize(t) / 3
	l := newLedgerRun(t, ops, newSpenders(t, 4, ledgerPolicy(t, onRedis(harness.Redis(t)), ops, "charge")), "charge")
	const parts = 2*kills + 1 // of the run: at the end of each but the last one a daemon is killed or started
	l.marks = map[int64]chan struct{}{}
	for part := range int64(parts - 1) {
		l.marks[ops*(part+1)/parts] = make(chan struct{})
	}
	done := make(chan struct{})
	ctx := patientFor(t, ops)
	go func() { l.run(ctx); close(done) }()
	defer func() { <-done }()
	reached := func(left int64) {
		select {
		case <-l.marks[left]:
		case <-ctx.Done():
			t.Fatalf("more than %d operations are left when the time is over", left)
		}
	}
	for kill, d := range l.s.daemons[:kills] {
		left := int64(parts - 1 - 2*kill)
		reached(ops * left / parts)
		d.Kill()
		reached(ops * (left - 1) / parts)
		d.Start()
	}
	<-done
	if l.seen["asked again"] == 0 {
		t.Error("no call has failed though daemons were killed")
	}
	l.compare(t)
}

// TestCostSlotsOfAKilledDaemon has a daemon give all slots and die, and its callers with it: the slots are free when their leases
// are over, and not before. What the calls have cost is settled late, through another daemon, once.
func TestCostSlotsOfAKilledDaemon(t *testing.T) {
	t.Parallel()
	const slots, lease = 5, 2 * time.Second
	env := withPolicy(t, onRedis(harness.Redis(t)), spendPolicy(limits{
		user: "5 USD/day", global: fmt.Sprintf("100 USD/day, %d concurrent", slots),
	}))
	s := newSpenders(t, 2, env)
	ask := func(user string) *costv1.ReserveRequest {
		return &costv1.ReserveRequest{UserId: user, Model: llama, InputTokens: 1000, MaxOutputTokens: 1000, Ttl: durationpb.New(lease)}
	}
	var lost []*costv1.ReserveResponse
	for range slots {
		lost = append(lost, mustReserve(t, s.clients[0], ask("123")))
	}
	s.daemons[0].Kill()
	if _, err := s.clients[0].Settle(patient(t), costing(lost[0].GetReservationId(), "0.0005")); !isAway(err) {
		t.Fatalf("a dead daemon answers %v", err)
	}

	ends := lost[0].GetExpiresAt().AsTime()
	if _, err := s.clients[1].Reserve(patient(t), ask("124")); time.Now().Before(ends) && reason(err) != noSlot {
		t.Errorf("while the slots of the dead daemon are leased, another call is answered %v, want %s", err, noSlot)
	}
	for i := range slots {
		user := fmt.Sprintf("next-%d", i)
		harness.WaitFor(t, "a slot is free", func(ctx context.Context) error {
			_, err := s.clients[1].Reserve(ctx, worth(user, "0.001"))
			return err
		})
		if now := time.Now(); now.Before(ends) {
			t.Errorf("slot %d is given again %s before the end of its lease", i, ends.Sub(now))
		}
	}
	if _, err := s.clients[1].Reserve(patient(t), worth("one-more", "0.001")); reason(err) != noSlot {
		t.Errorf("one call more than there are slots is answered %v, want %s", err, noSlot)
	}

	checkSpent(t, s.clients[1], "123", "0.004", "0") // the policy charges what has expired
	for i, held := range lost {
		res := mustSettle(t, s.clients[1], costing(held.GetReservationId(), "0.0005"))
		if !res.GetLate() || res.GetDuplicate() || res.GetCostUsd() != "0.0005" {
			t.Errorf("the late settlement of call %d is answered %v", i, res)
		}
	}
	checkSpent(t, s.clients[1], "123", "0.0025", "0")
	s.daemons[0].Start()
	harness.WaitFor(t, "the daemon that was killed answers again", func(ctx context.Context) error {
		res, err := s.clients[0].Settle(ctx, costing(lost[0].GetReservationId(), "0.0005"))
		if err == nil && !res.GetDuplicate() {
			t.Errorf("a repeat through it is answered %v, want a duplicate", res)
		}
		return err
	})
	checkSpent(t, s.clients[0], "123", "0.0025", "0")
}

// TestCostSettlementUnderWayAtAKill kills a daemon while it waits for the store to acknowledge a settlement. The caller has no
// answer and repeats it through another daemon: it is booked once.
func TestCostSettlementUnderWayAtAKill(t *testing.T) {
	t.Parallel()
	redis := harness.Redis(t)
	s := newSpenders(t, 2, withPolicy(t, onRedis(redis), spendPolicy(limits{
		user: "5 USD/day", global: "100 USD/day, 1 concurrent",
	})))
	held := mustReserve(t, s.clients[0], worth("123", "0.01"))
	ctx := patient(t)
	// Redis takes commands that write, and neither runs nor answers them; others it answers.
	if err := redis.Client.Do(ctx, "CLIENT", "PAUSE", harness.Patience.Milliseconds(), "WRITE").Err(); err != nil {
		t.Fatalf("pause the store: %v", err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := s.clients[0].Settle(ctx, costing(held.GetReservationId(), "0.004"))
		answered <- err
	}()
	harness.WaitFor(t, "the settlement has reached the store", func(ctx context.Context) error {
		info, err := redis.Client.InfoMap(ctx, "clients").Result()
		if err == nil && info["Clients"]["blocked_clients"] != "1" {
			err = fmt.Errorf("the store says %v", info)
		}
		return err
	})
	s.daemons[0].Kill()
	if err := <-answered; !isAway(err) {
		t.Errorf("the caller of the killed daemon is answered %v, want that nobody is there", err)
	}
	if err := redis.Client.Do(ctx, "CLIENT", "UNPAUSE").Err(); err != nil {
		t.Fatalf("let the store go on: %v", err)
	}
	if res := mustSettle(t, s.clients[1], costing(held.GetReservationId(), "0.004")); res.GetCostUsd() != "0.004" {
		t.Errorf("the repeat is answered %v, want a cost of 0.004 USD", res)
	}
	checkSpent(t, s.clients[1], "123", "0.004", "0")
	mustReserve(t, s.clients[1], worth("124", "0.01")) // in the slot that is free again
}
