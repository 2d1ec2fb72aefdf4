package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// auditors is how many users are asked for at once when the books are compared.
const auditors = 16

// books compare what ratelimitd says that was spent with what its callers were told.
type books struct {
	Contender string        `json:"contender"`
	Settled   int64         `json:"settled_nano_usd"` // what the callers were told, added up
	Pairs     int           `json:"pairs"`
	Users     int64         `json:"users_nano_usd"`  // what the users have spent more than at first, by GetUsage
	Global    int64         `json:"global_nano_usd"` // likewise of the system as a whole
	Held      int64         `json:"held_nano_usd"`   // what is still held
	Slots     int64         `json:"slots"`           // what is still in use
	Took      time.Duration `json:"took_ns"`         // how long it took to ask for all users
	users     int           // that are asked for
	at        spent         // at first
}

// spent is what all users together, and the system as a whole, have spent and hold, nano-USD.
type spent struct{ users, global, held, slots int64 }

// openBooks takes down what was spent before the first load.
func openBooks(ctx context.Context, c *contender, users int) (*books, error) {
	at, err := readSpent(ctx, c, users)
	if err != nil {
		return nil, err
	}

	return &books{Contender: c.name, users: users, at: at}, nil
}

// add takes down what a load generator saw.
func (k *books) add(t *tally) {
	k.Settled += t.Settled
	k.Pairs += t.Asked
}

// close reads what was spent in all.
func (k *books) close(ctx context.Context, c *contender) error {
	began := time.Now()

	now, err := readSpent(ctx, c, k.users)
	if err != nil {
		return err
	}

	k.Users, k.Global, k.Took = now.users-k.at.users, now.global-k.at.global, time.Since(began)
	k.Held, k.Slots = now.held, now.slots

	return nil
}

// exact tells whether nothing was lost, booked twice, or is still held.
func (k *books) exact() bool {
	return k.Users == k.Settled && k.Global == k.Settled && k.Held == 0 && k.Slots == 0
}

// String says how the books stand.
func (k *books) String() string {
	if k.exact() {
		return fmt.Sprintf("%s: exact: %s USD settled by %d pairs, and GetUsage says the same of its %d users and of all together",
			k.Contender, budget.FormatMoney(k.Settled), k.Pairs, k.users)
	}

	return fmt.Sprintf("%s: WRONG: %s USD settled by %d pairs, and GetUsage says %s of its %d users and %s of all together; "+
		"%s USD and %d slots are still held", k.Contender, budget.FormatMoney(k.Settled), k.Pairs,
		budget.FormatMoney(k.Users), k.users, budget.FormatMoney(k.Global), budget.FormatMoney(k.Held), k.Slots)
}

// readSpent asks for every user, and for the system as a whole.
func readSpent(ctx context.Context, c *contender, users int) (spent, error) {
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return spent{}, fmt.Errorf("connect to %s: %w", c.addr, err)
	}
	defer conn.Close() // nothing is in flight

	var (
		client = costv1.NewCostServiceClient(conn)
		sums   [auditors]spent
		errs   [auditors]error
		all    sync.WaitGroup
	)

	for i := range auditors {
		all.Go(func() {
			for user := i; user < users && errs[i] == nil; user += auditors {
				errs[i] = sums[i].add(ctx, client, userName(user))
			}
		})
	}

	all.Wait()

	total := spent{}
	err = errors.Join(append(errs[:], total.add(ctx, client, ""))...)

	for i := range sums {
		total.users += sums[i].users
		total.held += sums[i].held
	}

	if err != nil {
		return spent{}, fmt.Errorf("read the books of %s: %w", c.name, err)
	}

	return total, nil
}

// add asks for one user, or for the system as a whole if there is no name.
func (s *spent) add(ctx context.Context, client costv1.CostServiceClient, user string) error {
	resp, err := client.GetUsage(ctx, &costv1.GetUsageRequest{UserId: user})
	if err != nil {
		return fmt.Errorf("GetUsage of %q: %w", user, err)
	}

	is, err := readStand(resp)
	if err != nil {
		return err
	}

	s.held += is.held
	s.slots += is.slots

	if user == "" {
		s.global += is.spent
	} else {
		s.users += is.spent
	}

	return nil
}

// stand is how a subject's budget stands, nano-USD, and how many slots are in use.
type stand struct{ spent, held, slots int64 }

// readStand reads the one budget and the slots in an answer.
func readStand(resp *costv1.GetUsageResponse) (stand, error) {
	var (
		is      stand
		budgets int
		errs    []error
	)

	keep := func(n int64, err error) int64 {
		errs = append(errs, err)

		return n
	}

	for _, limit := range resp.GetLimits() {
		switch limit.GetUnit() {
		case "usd":
			budgets++
			is.spent, is.held = keep(budget.ParseMoney(limit.GetSpent())), keep(budget.ParseMoney(limit.GetHeld()))
		case "concurrent":
			is.slots = keep(strconv.ParseInt(limit.GetUsed(), 10, 64))
		}
	}

	if err := errors.Join(errs...); err != nil {
		return stand{}, fmt.Errorf("GetUsage of %q: %w", resp.GetUserId(), err)
	}

	if budgets != 1 {
		return stand{}, fmt.Errorf("GetUsage of %q: %d budgets, want 1", resp.GetUserId(), budgets)
	}

	return is, nil
}
