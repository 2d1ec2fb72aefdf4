package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// verdicts are the answers to many calls at once: how many were answered by each reason, "" for those that passed.
type verdicts struct {
	mu     sync.Mutex
	counts map[string]int
	passed []*costv1.ReserveResponse
}

// reserveAtOnce has n reservations made at once, each through the next daemon.
func (s *spenders) reserveAtOnce(t *testing.T, n int, ask func(i int) *costv1.ReserveRequest) *verdicts {
	t.Helper()
	v := &verdicts{counts: map[string]int{}}
	ctx := patient(t)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			res, err := s.clients[i%len(s.clients)].Reserve(ctx, ask(i))
			v.mu.Lock()
			defer v.mu.Unlock()
			v.counts[reason(err)]++
			if err == nil {
				v.passed = append(v.passed, res)
			}
		})
	}
	close(start)
	wg.Wait()
	return v
}

// TestCostLastCent has a user with one cent left make 50 reservations at once, through four daemons: as many pass as fit.
func TestCostLastCent(t *testing.T) {
	t.Parallel()
	const users, calls, fit = 5, 50, 6
	env := withPolicy(t, onRedis(harness.Redis(t)), spendPolicy(limits{user: "5 USD/day", global: "100 USD/day"}))
	s := newSpenders(t, 4, env)
	for u := range users {
		user := fmt.Sprintf("user-%d", u)
		mustSettle(t, s.clients[0], costing(mustReserve(t, s.clients[0], worth(user, "5")).GetReservationId(), "4.99"))
		v := s.reserveAtOnce(t, calls, func(int) *costv1.ReserveRequest { return worth(user, "0.0015") })
		if v.counts[""] != fit || v.counts[noUserMoney] != calls-fit {
			t.Errorf("%s: answers by reason are %v, want %d that pass and the others %s", user, v.counts, fit, noUserMoney)
		}
		checkSpent(t, s.clients[1], user, "4.99", "0.009")
		for i, held := range v.passed {
			mustSettle(t, s.clients[i%len(s.clients)], costing(held.GetReservationId(), "0.0015"))
		}
		checkSpent(t, s.clients[2], user, "4.999", "0")
	}
}

// TestCostNeverAboveBudget has 200 users spend at once what each of them may have, and one of them more, through four daemons:
// neither the user's 5 USD a day nor the system's 100 are ever passed, and both are used to the last call that fits.
func TestCostNeverAboveBudget(t *testing.T) {
	t.Parallel()
	const users, calls, greedy, price = 200, 7, 60, 130_000_000 // a call costs 0.13 USD: 38 fit into 5 USD, 769 into 100
	const userFits, systemFits = 5_000_000_000 / price, 100_000_000_000 / price
	env := withPolicy(t, onRedis(harness.Redis(t)), spendPolicy(limits{user: "5 USD/day", global: "100 USD/day"}))
	s := newSpenders(t, 4, env)
	ctx := patient(t)
	var passed [users]atomic.Int64
	spend := func(user, call int) error {
		c := s.clients[(user+call)%len(s.clients)]
		res, err := c.Reserve(ctx, worth(fmt.Sprintf("user-%d", user), usd(price)))
		if r := reason(err); r == noUserMoney || r == noMoney {
			return nil
		}
		if err == nil {
			passed[user].Add(1)
			_, err = c.Settle(ctx, costing(res.GetReservationId(), usd(price)))
		}
		return err
	}

	var wg sync.WaitGroup
	for user := range users {
		n := calls
		if user == 0 {
			n = greedy
		}
		wg.Go(func() {
			for call := range n {
				if err := spend(user, call); err != nil {
					t.Errorf("user %d, call %d: %v", user, call, err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	s.neverAbove(ctx, t, done, "user-0", "")

	var sum int64
	for user := range users {
		n := passed[user].Load()
		sum += n
		if n > userFits {
			t.Errorf("%d calls of user %d pass, want at most %d", n, user, userFits)
		}
	}
	if sum != systemFits {
		t.Errorf("%d calls pass, want the %d that fit into 100 USD", sum, systemFits)
	}
	checkSpent(t, s.clients[0], "", usd(systemFits*price), "0")
	checkSpent(t, s.clients[1], "user-0", usd(passed[0].Load()*price), "0")
}

// neverAbove looks at limits until done, and checks that no more than they admit is ever used.
func (s *spenders) neverAbove(ctx context.Context, t *testing.T, done <-chan struct{}, users ...string) {
	t.Helper()
	for look := 0; ; look++ {
		for _, user := range users {
			all, err := balances(ctx, s.clients[look%len(s.clients)], user)
			if err != nil {
				t.Error(err)
			}
			for name, b := range all {
				if b.used > b.limit {
					t.Errorf("look %d: %d are used of user %q's %s, of at most %d", look, b.used, user, name, b.limit)
				}
			}
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// TestCostSlots starts 300 calls at once, again and again, through four daemons: never more than 100 are in flight.
func TestCostSlots(t *testing.T) {
	t.Parallel()
	const slots, calls, rounds = 100, 300, 3
	env := withPolicy(t, onRedis(harness.Redis(t)), spendPolicy(limits{user: "1000 USD/day", global: "100 concurrent"}))
	s := newSpenders(t, 4, env)
	user := func(i int) *costv1.ReserveRequest { return worth(fmt.Sprintf("user-%d", i), "0.001") }
	for round := range rounds {
		v := s.reserveAtOnce(t, calls, user)
		if v.counts[""] != slots || v.counts[noSlot] != calls-slots {
			t.Fatalf("round %d: answers by reason are %v, want %d that pass and the others %s", round, v.counts, slots, noSlot)
		}
		res, err := s.clients[0].Reserve(patient(t), &costv1.ReserveRequest{
			UserId: "no-slot", MaxCostUsd: "0.001", Slot: new(false),
		})
		if err != nil {
			t.Fatalf("round %d: a call that takes no slot: %v (%v)", round, err, res)
		}
		for i, held := range v.passed {
			c := s.clients[i%len(s.clients)]
			if i%2 == 0 {
				mustSettle(t, c, costing(held.GetReservationId(), "0.001"))
			} else if _, err := c.Release(patient(t), &costv1.ReleaseRequest{ReservationId: held.GetReservationId()}); err != nil {
				t.Fatalf("round %d: release: %v", round, err)
			}
		}
	}
	all, err := balances(patient(t), s.clients[0], "")
	if err != nil || all["concurrent concurrent"].used != 0 {
		t.Errorf("after all have ended the slots stand at %v (%v), want none in use", all, err)
	}
}

// TestCostWaiters has 20 calls wait for the one slot, through two daemons: they get it in the order of their arrival. One that
// has waited long enough is denied and holds up none behind it.
func TestCostWaiters(t *testing.T) {
	t.Parallel()
	const waiters = 20
	env := withPolicy(t, onRedis(harness.Redis(t)), spendPolicy(limits{user: "1000 USD/day", global: "1 concurrent"}))
	s := newSpenders(t, 2, env)
	ctx := patient(t)
	first := mustReserve(t, s.clients[0], worth("holder", "0.001"))

	impatient := worth("impatient", "0.001")
	impatient.WaitTimeout = durationpb.New(50 * time.Millisecond)
	if _, err := s.clients[0].Reserve(ctx, impatient); reason(err) != noSlot {
		t.Fatalf("a call that waits a little is answered %v, want %s", err, noSlot)
	}

	served := make(chan int, waiters)
	var wg sync.WaitGroup
	for i := range waiters {
		c := s.clients[i%len(s.clients)]
		wg.Go(func() {
			req := worth(fmt.Sprintf("user-%d", i), "0.001")
			req.WaitTimeout = durationpb.New(harness.Patience)
			res, err := c.Reserve(ctx, req)
			served <- i // while it has the only slot
			if err == nil {
				_, err = c.Settle(ctx, costing(res.GetReservationId(), "0.001"))
			}
			if err != nil {
				t.Errorf("waiter %d: %v", i, err)
			}
		})
		harness.WaitFor(t, "the next one stands in line", func(context.Context) error {
			const name = "ratelimitd_reservations_waiting"
			if n := metric(t, s.daemons[0], name) + metric(t, s.daemons[1], name); n != float64(i+1) {
				return fmt.Errorf("%v stand in line", n)
			}
			return nil
		})
	}
	mustSettle(t, s.clients[0], costing(first.GetReservationId(), "0.001"))
	wg.Wait()
	for want := range waiters {
		if got := <-served; got != want {
			t.Errorf("waiter %d is served in place %d", got, want)
		}
	}
	checkSpent(t, s.clients[1], "user-19", "0.001", "0")
}

// TestCostSettledAtOnce settles one reservation 1,000 times at once through four daemons: it is booked once, and each caller
// has the same answer.
func TestCostSettledAtOnce(t *testing.T) {
	t.Parallel()
	const times = 1000
	env := withPolicy(t, onRedis(harness.Redis(t)), spendPolicy(limits{user: "5 USD/day", global: "100 USD/day, 100 concurrent"}))
	s := newSpenders(t, 4, env)
	ctx := patient(t)
	held := mustReserve(t, s.clients[0], &costv1.ReserveRequest{
		UserId: "123", Model: llama, InputTokens: 868, MaxOutputTokens: 1000,
	})
	ask := &costv1.SettleRequest{
		ReservationId: held.GetReservationId(), Usage: &costv1.Usage{InputTokens: 868, OutputTokens: 145}, Outcome: "success",
	}
	answers := make([]*costv1.SettleResponse, times)
	var firsts atomic.Int64
	var wg sync.WaitGroup
	for i := range times {
		wg.Go(func() {
			res, err := s.clients[i%len(s.clients)].Settle(ctx, ask)
			if err != nil {
				t.Errorf("settlement %d: %v", i, err)
				return
			}
			if !res.GetDuplicate() {
				firsts.Add(1)
			}
			res.Duplicate = false // but for this all answers are the same
			answers[i] = res
		})
	}
	wg.Wait()
	if firsts.Load() != 1 {
		t.Errorf("%d settlements are said to be the first, want 1", firsts.Load())
	}
	for i, res := range answers {
		if res.GetCostUsd() != "0.0002606" || res.GetReleasedUsd() != "0.000513" || !proto.Equal(res, answers[0]) {
			t.Fatalf("settlement %d is answered %v, want a cost of 0.0002606 USD, as the first one: %v", i, res, answers[0])
		}
	}
	checkSpent(t, s.clients[3], "123", "0.0002606", "0")
	checkSpent(t, s.clients[2], "", "0.0002606", "0")
}
