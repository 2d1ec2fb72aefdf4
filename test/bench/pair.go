package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// What the model calls of the benchmark ask for and cost. The prices stand in the policy, too.
const (
	pairModel     = "llama-3.2-3b-instruct"
	pairInput     = 868 // tokens
	pairMaxOutput = 300 // tokens
	inputPrice    = 200 // nano-USD a token
	outputPrice   = 600
	pairHeld      = pairInput*inputPrice + pairMaxOutput*outputPrice // nano-USD
)

// settleTries is how often a settlement is sent that the store did not acknowledge: what it came to must be known for the
// books to be compared.
const settleTries = 10

// costOf is what a pair costs, nano-USD: computed here, and not by the code that is measured.
func costOf(output int64) int64 { return pairInput*inputPrice + output*outputPrice }

// pairAsker reserves and settles.
type pairAsker struct {
	client  costv1.CostServiceClient
	expect  verdict
	reserve *costv1.ReserveRequest
	settle  *costv1.SettleRequest
	prefix  string // of its idempotency keys
	rand    *rand.Rand
	asked   int64
	settled int64 // nano-USD
	bytes   int   // of the two answers of the first pair
}

// newPairAsker returns an asker whose idempotency keys begin with a prefix that no other has.
func newPairAsker(client costv1.CostServiceClient, expect verdict, prefix string, seed int) *pairAsker {
	return &pairAsker{
		client: client, expect: expect, prefix: prefix,
		reserve: &costv1.ReserveRequest{Model: pairModel, InputTokens: pairInput, MaxOutputTokens: pairMaxOutput},
		settle:  &costv1.SettleRequest{Usage: &costv1.Usage{InputTokens: pairInput}, Outcome: "success"},
		rand:    rand.New(rand.NewPCG(uint64(seed), 2)), //nolint:gosec // what a call costs is no secret
	}
}

// ask makes one pair: a reservation, and its settlement at a cost that differs from pair to pair. A reservation that is not as
// it must be is settled all the same: its cost is part of the books.
func (a *pairAsker) ask(user string) error {
	id, wrong := a.hold(user)
	if id == "" {
		return wrong
	}

	return errors.Join(wrong, a.end(id))
}

// hold makes the next reservation and returns its id, also with an error if there is one.
func (a *pairAsker) hold(user string) (string, error) {
	a.asked++
	a.reserve.IdempotencyKey = a.prefix + strconv.FormatInt(a.asked, 10)
	a.reserve.UserId = user

	grant, err := a.client.Reserve(context.Background(), a.reserve)
	if err != nil {
		return "", fmt.Errorf("Reserve: %w", err)
	}

	if a.asked == 1 {
		a.bytes += proto.Size(grant)
	}

	if a.expect == admitted {
		err = checkGrant(grant)
	}

	return grant.GetReservationId(), err
}

// end settles a reservation.
func (a *pairAsker) end(id string) error {
	output := a.rand.Int64N(pairMaxOutput + 1)
	a.settle.ReservationId, a.settle.IdempotencyKey = id, a.reserve.GetIdempotencyKey()
	a.settle.Usage.OutputTokens = output

	receipt, err := a.client.Settle(context.Background(), a.settle)
	for tries := 1; tries < settleTries && status.Code(err) == codes.Unavailable; tries++ {
		receipt, err = a.client.Settle(context.Background(), a.settle)
	}

	if err != nil {
		return fmt.Errorf("Settle: %w", err)
	}

	if a.settled == 0 {
		a.bytes += proto.Size(receipt)
	}

	a.settled += costOf(output)

	if a.expect == admitted {
		return checkReceipt(receipt, costOf(output))
	}

	return nil
}

func (a *pairAsker) addTo(t *tally) {
	t.Settled += a.settled
	t.AnswerBytes = max(t.AnswerBytes, a.bytes)
}

// checkGrant errs unless a reservation was admitted by the store and holds exactly what it must.
func checkGrant(grant *costv1.ReserveResponse) error {
	held, err := budget.ParseMoney(grant.GetHeldUsd())

	switch {
	case err != nil:
		return fmt.Errorf("Reserve: held_usd: %w", err)
	case grant.GetState() != "ACTIVE" || grant.GetDuplicate() || len(grant.GetWarnings()) > 0:
		return fmt.Errorf("Reserve: state %s, duplicate %t, warnings %v; want ACTIVE without a warning (a fail-open has one)",
			grant.GetState(), grant.GetDuplicate(), grant.GetWarnings())
	case held != pairHeld || grant.GetGrantedOutputTokens() != pairMaxOutput:
		return fmt.Errorf("Reserve: %d nano-USD for %d tokens of output are held, want %d for %d",
			held, grant.GetGrantedOutputTokens(), pairHeld, pairMaxOutput)
	case len(grant.GetLimits()) == 0:
		return errors.New("Reserve: no limits are told")
	default:
		return nil
	}
}

// checkReceipt errs unless a settlement ended its reservation in time and costs exactly what it must.
func checkReceipt(receipt *costv1.SettleResponse, want int64) error {
	cost, errCost := budget.ParseMoney(receipt.GetCostUsd())
	released, errReleased := budget.ParseMoney(receipt.GetReleasedUsd())

	switch {
	case errCost != nil || errReleased != nil:
		return fmt.Errorf("Settle: cost_usd %q, released_usd %q: not amounts of USD", receipt.GetCostUsd(), receipt.GetReleasedUsd())
	case cost != want || released != pairHeld-want:
		return fmt.Errorf("Settle: %d nano-USD spent and %d released, want %d and %d", cost, released, want, pairHeld-want)
	case receipt.GetState() != "SETTLED" || receipt.GetLate() || len(receipt.GetWarnings()) > 0:
		return fmt.Errorf("Settle: state %s, late %t, warnings %v; want SETTLED in time",
			receipt.GetState(), receipt.GetLate(), receipt.GetWarnings())
	default:
		return nil
	}
}

// usageAsker asks how a user's limits stand.
type usageAsker struct {
	client costv1.CostServiceClient
	expect verdict
	bytes  int // of the first answer
}

func (a *usageAsker) ask(user string) error {
	resp, err := a.client.GetUsage(context.Background(), &costv1.GetUsageRequest{UserId: user})
	if err != nil {
		return fmt.Errorf("GetUsage: %w", err)
	}

	if a.bytes == 0 {
		a.bytes = proto.Size(resp)
	}

	if a.expect != admitted {
		return nil
	}

	if resp.GetUserId() != user {
		return fmt.Errorf("GetUsage: the answer is of %q, not of %q", resp.GetUserId(), user)
	}

	stands, err := readStand(resp)
	if err != nil {
		return err
	}

	if stands.spent < historyPairs*costOf(0) {
		return fmt.Errorf("GetUsage: %s has spent %d nano-USD, and must have spent %d at least", user, stands.spent,
			historyPairs*costOf(0))
	}

	return nil
}

func (a *usageAsker) addTo(t *tally) { t.AnswerBytes = max(t.AnswerBytes, a.bytes) }
