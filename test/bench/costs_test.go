package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// fakeCosts answers as it is told to.
type fakeCosts struct {
	costv1.CostServiceClient

	reserve func(*costv1.ReserveRequest) (*costv1.ReserveResponse, error)
	settle  func(*costv1.SettleRequest) (*costv1.SettleResponse, error)
}

func (f *fakeCosts) Reserve(_ context.Context, r *costv1.ReserveRequest, _ ...grpc.CallOption) (*costv1.ReserveResponse, error) {
	return f.reserve(r)
}

func (f *fakeCosts) Settle(_ context.Context, r *costv1.SettleRequest, _ ...grpc.CallOption) (*costv1.SettleResponse, error) {
	return f.settle(r)
}

// rightCosts grants and settles as ratelimitd must.
func rightCosts() *fakeCosts {
	return &fakeCosts{
		reserve: func(*costv1.ReserveRequest) (*costv1.ReserveResponse, error) { return rightGrant(), nil },
		settle: func(r *costv1.SettleRequest) (*costv1.SettleResponse, error) {
			return rightReceipt(costOf(r.GetUsage().GetOutputTokens())), nil
		},
	}
}

func rightGrant() *costv1.ReserveResponse {
	return &costv1.ReserveResponse{
		ReservationId: "r", State: "ACTIVE", HeldUsd: budget.FormatMoney(pairHeld), GrantedOutputTokens: pairMaxOutput,
		Limits: []*costv1.LimitState{{}},
	}
}

func rightReceipt(cost int64) *costv1.SettleResponse {
	return &costv1.SettleResponse{
		CostUsd: budget.FormatMoney(cost), ReleasedUsd: budget.FormatMoney(pairHeld - cost), State: "SETTLED",
	}
}

func TestTheCostOfAPairIsThatOfThePolicy(t *testing.T) {
	t.Parallel()

	snapshot, warnings, err := policy.Parse("the benchmark's policy", []byte(costPolicy()), policy.Adjustments{})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("the policy: %v, warnings %v", err, warnings)
	}

	price, _, ok := snapshot.Prices().Find(pairModel, time.Now().Unix())
	if !ok {
		t.Fatalf("the policy has no price of %s", pairModel)
	}

	for _, output := range []int64{0, 145, pairMaxOutput} {
		got, err := price.Cost(budget.Usage{Input: pairInput, Output: output})
		if err != nil || got.Total != costOf(output) {
			t.Errorf("%d tokens of output: %d nano-USD, %v; want %d", output, got.Total, err, costOf(output))
		}
	}

	if got := budget.FormatMoney(costOf(145)); got != "0.0002606" {
		t.Errorf("868 tokens of input and 145 of output: %s USD, want 0.0002606", got)
	}
}

func TestAPairIsRightOnlyIfBothAnswersAre(t *testing.T) {
	t.Parallel()

	grants := []struct {
		name   string
		change func(*costv1.ReserveResponse)
	}{
		{"a fail-open", func(g *costv1.ReserveResponse) { g.State, g.Warnings = "NONE", []*costv1.Warning{{}} }},
		{"a repeat", func(g *costv1.ReserveResponse) { g.Duplicate = true }},
		{"a nano-USD too much held", func(g *costv1.ReserveResponse) { g.HeldUsd = budget.FormatMoney(pairHeld + 1) }},
		{"no amount", func(g *costv1.ReserveResponse) { g.HeldUsd = "" }},
		{"fewer tokens", func(g *costv1.ReserveResponse) { g.GrantedOutputTokens-- }},
		{"no limits", func(g *costv1.ReserveResponse) { g.Limits = nil }},
	}
	for _, test := range grants {
		grant := rightGrant()
		if err := checkGrant(grant); err != nil {
			t.Fatalf("a right grant: %v", err)
		}

		if test.change(grant); checkGrant(grant) == nil {
			t.Errorf("%s for a reservation is taken for right", test.name)
		}
	}

	receipts := []struct {
		name   string
		change func(*costv1.SettleResponse)
	}{
		{"a nano-USD too little", func(r *costv1.SettleResponse) { r.CostUsd = budget.FormatMoney(costOf(1) - 1) }},
		{"a nano-USD kept", func(r *costv1.SettleResponse) { r.ReleasedUsd = budget.FormatMoney(pairHeld - costOf(1) - 1) }},
		{"no amount", func(r *costv1.SettleResponse) { r.CostUsd = "" }},
		{"a late one", func(r *costv1.SettleResponse) { r.Late = true }},
		{"a release", func(r *costv1.SettleResponse) { r.State = "RELEASED" }},
	}
	for _, test := range receipts {
		receipt := rightReceipt(costOf(1))
		if err := checkReceipt(receipt, costOf(1)); err != nil {
			t.Fatalf("a right receipt: %v", err)
		}

		if test.change(receipt); checkReceipt(receipt, costOf(1)) == nil {
			t.Errorf("%s for a settlement is taken for right", test.name)
		}
	}
}

func TestAPairAddsUpWhatItsSettlementsCost(t *testing.T) {
	t.Parallel()

	var (
		keys []string
		want int64
		fake = rightCosts()
		said = rightCosts().settle
	)

	fake.settle = func(r *costv1.SettleRequest) (*costv1.SettleResponse, error) {
		keys = append(keys, r.GetIdempotencyKey())
		want += costOf(r.GetUsage().GetOutputTokens())

		return said(r)
	}

	pairs := newPairAsker(fake, admitted, "p-", 1)
	for range 100 {
		if err := pairs.ask("user"); err != nil {
			t.Fatal(err)
		}
	}

	var sum tally
	if pairs.addTo(&sum); sum.Settled != want || sum.Settled == 100*costOf(0) {
		t.Errorf("100 pairs have settled %d nano-USD, want %d, and not all of them the least", sum.Settled, want)
	}

	slices.Sort(keys)

	if n := len(slices.Compact(keys)); n != 100 {
		t.Errorf("100 pairs used %d idempotency keys", n)
	}
}

func TestAPairThatFailedOpenIsWrongAndIsSettled(t *testing.T) {
	t.Parallel()

	fake := rightCosts()
	fake.reserve = func(*costv1.ReserveRequest) (*costv1.ReserveResponse, error) {
		return &costv1.ReserveResponse{ReservationId: "r", State: "NONE", Warnings: []*costv1.Warning{{}}}, nil
	}

	pairs := newPairAsker(fake, admitted, "p-", 1)
	if err := pairs.ask("user"); err == nil || pairs.settled == 0 {
		t.Errorf("error %v and %d nano-USD settled, want an error and a settlement", err, pairs.settled)
	}
}

func TestASettlementIsRepeatedUntilTheStoreHasIt(t *testing.T) {
	t.Parallel()

	for _, test := range []struct {
		name  string
		lost  int
		code  codes.Code
		calls int
		right bool
	}{
		{"lost at first", 2, codes.Unavailable, 3, true},
		{"lost for good", 1 << 20, codes.Unavailable, settleTries, false},
		{"refused", 1 << 20, codes.AlreadyExists, 1, false},
	} {
		calls, fake, said := 0, rightCosts(), rightCosts().settle
		fake.settle = func(r *costv1.SettleRequest) (*costv1.SettleResponse, error) {
			if calls++; calls <= test.lost {
				return nil, status.Error(test.code, "no")
			}

			return said(r)
		}

		pairs := newPairAsker(fake, admitted, "p-", 1)
		if err := pairs.ask("user"); (err == nil) != test.right || calls != test.calls || (pairs.settled > 0) != test.right {
			t.Errorf("%s: error %v after %d calls and %d nano-USD settled, want it right: %t after %d",
				test.name, err, calls, pairs.settled, test.right, test.calls)
		}
	}
}

func TestTheBareServerIsAskedLikeRatelimitd(t *testing.T) {
	t.Parallel()

	bare := newBareCosts()
	grant, errReserve := bare.Reserve(t.Context(), nil)
	receipt, errSettle := bare.Settle(t.Context(), nil)

	if err := errors.Join(errReserve, errSettle); err != nil {
		t.Fatal(err)
	}

	if grant.GetReservationId() == "" || grant.GetState() != "ACTIVE" || receipt.GetState() != "SETTLED" {
		t.Errorf("the bare answers are %v and %v", grant, receipt)
	}

	usage, err := bare.GetUsage(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}

	if _, err := readStand(usage); err != nil {
		t.Errorf("the bare usage: %v", err)
	}
}

func TestHowASubjectStands(t *testing.T) {
	t.Parallel()

	usd := &costv1.LimitState{Unit: "usd", Spent: "0.0002606", Held: "0.000000001", Used: "0.000260601"}
	slots := &costv1.LimitState{Unit: "concurrent", Used: "7"}
	other := &costv1.LimitState{Unit: "requests", Used: "x"}

	got, err := readStand(&costv1.GetUsageResponse{Limits: []*costv1.LimitState{other, usd, slots}})
	if want := (stand{spent: 260_600, held: 1, slots: 7}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}

	for name, limits := range map[string][]*costv1.LimitState{
		"no budget":   {slots},
		"two budgets": {usd, usd},
		"no amount":   {{Unit: "usd"}},
		"no number":   {usd, {Unit: "concurrent", Used: "many"}},
	} {
		if got, err := readStand(&costv1.GetUsageResponse{Limits: limits}); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

func TestTheBooksAreExactToTheNanoDollar(t *testing.T) {
	t.Parallel()

	right := books{Contender: "c", Settled: 260_600, Pairs: 1, Users: 260_600, Global: 260_600}
	if r := (&report{Books: []*books{&right}}); r.audit() != nil || !strings.Contains(right.String(), "exact") {
		t.Errorf("right books: %v", r.audit())
	}

	for name, change := range map[string]func(*books){
		"lost at a user":       func(k *books) { k.Users-- },
		"booked twice for all": func(k *books) { k.Global++ },
		"still held":           func(k *books) { k.Held = 1 },
		"a slot in use":        func(k *books) { k.Slots = 1 },
	} {
		wrong := right
		change(&wrong)

		if r := (&report{Books: []*books{&right, &wrong}}); r.audit() == nil || !strings.Contains(wrong.String(), "WRONG") {
			t.Errorf("%s: the books pass as exact", name)
		}
	}
}

func TestWhatKeysOfAUserAreFor(t *testing.T) {
	t.Parallel()

	for key, want := range map[string]part{
		"rl:{user:h}:r": usagePart, "rl:{user:h}:u": usagePart, "rl:{user:h}:t": usagePart, "rl:{user:h}:o": usagePart,
		"rl:{user:h}:h": openPart, "rl:{user:h}:h:\x00}:u": recordPart,
	} {
		if got := partOf(key); got != want {
			t.Errorf("%q: got %s, want %s", key, got, want)
		}
	}
}

func TestAHistoryIsSpreadOverItsSpan(t *testing.T) {
	t.Parallel()

	for user := range phases {
		ages := agesOver(historySpan, historyPairs, user)
		if len(ages) != historyPairs || ages[0] >= historySpan || ages[len(ages)-1] <= 0 ||
			!slices.IsSortedFunc(ages, func(a, b time.Duration) int { return int(b - a) }) {
			t.Errorf("user %d: %v, want %d moments within %v, the oldest first", user, ages, historyPairs, historySpan)
		}

		if got := agesOver(day, hitsOfDay, user); got[0] != ageOf(user, hitsOfDay-1) || got[hitsOfDay-1] != ageOf(user, 0) {
			t.Errorf("user %d: a day of settlements is not spread like a day of hits", user)
		}
	}
}

func TestTargetsOfReservations(t *testing.T) {
	t.Parallel()

	l := leg{Shape: pairShape}
	r := &report{
		Rounds: 1,
		Runs: []*run{
			{Contender: ceilingName, Leg: l, tally: tally{}, PerSecond: 100},
			{Contender: costRedisName, Leg: l, PerSecond: 46},
			{Contender: costMemoryName, Leg: l, PerSecond: 10},
		},
		Trips: []trips{{Call: "Reserve", Scripts: 1, Reads: 1.002}, {Call: "Settle", Scripts: 2, Reads: 1}},
	}

	var reached []bool
	for _, target := range r.judge() {
		reached = append(reached, target.Reached)
	}

	if want := []bool{true, true, false}; !slices.Equal(reached, want) {
		t.Errorf("reached %v, want %v: pairs on Redis, trips of Reserve, trips of Settle; none of the embedded store", reached, want)
	}
}

func TestARunWithAStoreErrorDoesNotCount(t *testing.T) {
	t.Parallel()

	c := &contender{http: "addr", expect: admitted}
	r := &run{Leg: leg{Shape: pairShape}, tally: tally{Asked: 10}, Stored: 10}

	if fault := r.fault(c); fault != "" {
		t.Errorf("a right run does not count: %s", fault)
	}

	if r.Errors = 1; r.fault(c) == "" {
		t.Error("a run with a store error counts")
	}
}

func TestSizesAddUp(t *testing.T) {
	t.Parallel()

	s := sizes{Usage: 100, Open: 30, Record: 20}
	if got := s.over(10); got != (sizes{Usage: 10, Open: 3, Record: 2}) || got.sum() != 15 {
		t.Errorf("a tenth of %+v: %+v", s, got)
	}

	f := footprint{OpenUser: s, Day: sizes{Usage: 7, Record: 9}}
	if text := f.lines(); !strings.Contains(text, "150: 100 that limits count, 30 open, 20 kept for repeats") ||
		!strings.Contains(text, "16: 7 that limits count, 0 open, 9 kept for repeats") {
		t.Errorf("the bytes are told as\n%s", text)
	}
}
