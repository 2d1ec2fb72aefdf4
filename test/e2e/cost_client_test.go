package e2e

import (
	"context"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// llama is the model of most calls: 0.0000002 USD an input token, 0.0000006 an output token.
const llama = "llama-3.2-3b-instruct"

// The leases of reservations: one that no test waits for, and the shortest.
const (
	longLease  = time.Hour
	shortLease = time.Second
)

// The reasons of denials, as ErrorInfo names them.
const (
	noSlot      = "CONCURRENCY_LIMIT"
	noUserMoney = "USER_BUDGET_EXHAUSTED"
	noMoney     = "GLOBAL_BUDGET_EXHAUSTED"
	noStore     = "STORE_UNAVAILABLE"
	notFound    = "RESERVATION_NOT_FOUND"
	notActive   = "RESERVATION_NOT_ACTIVE"
	mismatch    = "IDEMPOTENCY_MISMATCH"
)

// spendPolicy is the text of a policy with prices: llama's, and "fine", whose tokens cost less than a nano-dollar. More are
// further lines of its section cost.
func spendPolicy(l limits, more ...string) string {
	text := l.text() + "cost:\n  prices:\n" +
		"    " + llama + ": {input: 0.0000002, output: 0.0000006}\n" +
		"    fine: {input: 0.00000000015, output: 0.00000000045}\n"
	for _, line := range more {
		text += "  " + line + "\n"
	}
	return text
}

// spenders are daemons of one policy over one store, and a client of each.
type spenders struct {
	daemons []*harness.DaemonProcess
	clients []costv1.CostServiceClient
}

// newSpenders starts n daemons.
func newSpenders(t *testing.T, n int, env harness.Env) *spenders {
	t.Helper()
	s := &spenders{}
	for range n {
		d := harness.Daemon(t, env)
		s.daemons = append(s.daemons, d)
		s.clients = append(s.clients, costv1.NewCostServiceClient(connect(t, d.GRPCAddr)))
	}
	return s
}

// patient is the context of calls that a test waits for.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	t.Cleanup(cancel)
	return ctx
}

// worth is a reservation of this much money, for a lease that no test waits for.
func worth(user, usd string) *costv1.ReserveRequest {
	return &costv1.ReserveRequest{UserId: user, MaxCostUsd: usd, Ttl: durationpb.New(longLease)}
}

// mustReserve reserves for a test that cannot go on without.
func mustReserve(t *testing.T, c costv1.CostServiceClient, req *costv1.ReserveRequest) *costv1.ReserveResponse {
	t.Helper()
	res, err := c.Reserve(patient(t), req)
	if err != nil {
		t.Fatalf("reserve %v: %v", req, err)
	}
	return res
}

// costing settles a reservation at what a provider says that it costs.
func costing(id, usd string) *costv1.SettleRequest {
	return &costv1.SettleRequest{ReservationId: id, Usage: &costv1.Usage{InputTokens: 1}, ProviderCostUsd: usd}
}

// mustSettle settles for a test that cannot go on without.
func mustSettle(t *testing.T, c costv1.CostServiceClient, req *costv1.SettleRequest) *costv1.SettleResponse {
	t.Helper()
	res, err := c.Settle(patient(t), req)
	if err != nil {
		t.Fatalf("settle %v: %v", req, err)
	}
	return res
}

// reason is the reason of a call's error; empty for none, the code of one that has no reason.
func reason(err error) string {
	if err == nil {
		return ""
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return status.Code(err).String()
}

// isAway tells whether nobody answered: the daemon or its store is away.
func isAway(err error) bool { return status.Code(err) == codes.Unavailable }

// nano reads an amount of USD, in nano-dollars. What is no such amount reads -1.
func nano(usd string) int64 {
	r, ok := new(big.Rat).SetString(usd)
	if !ok {
		return -1
	}
	r.Mul(r, big.NewRat(1_000_000_000, 1))
	if !r.IsInt() || r.Sign() < 0 {
		return -1
	}
	return r.Num().Int64()
}

// usd writes nano-dollars as USD.
func usd(nano int64) string { return big.NewRat(nano, 1_000_000_000).FloatString(9) }

// balance is how one limit stands, in nano-dollars if it is one of money.
type balance struct{ limit, used, spent, held int64 }

// balances reads how the limits of a user stand, those of the system for an empty one, by their unit and name: "usd day".
func balances(ctx context.Context, c costv1.CostServiceClient, user string) (map[string]balance, error) {
	res, err := c.GetUsage(ctx, &costv1.GetUsageRequest{UserId: user})
	if err != nil {
		return nil, fmt.Errorf("read the usage of %q: %w", user, err)
	}
	all := map[string]balance{}
	for _, l := range res.GetLimits() {
		read := nano
		if l.GetUnit() != "usd" {
			read = whole
		}
		all[l.GetUnit()+" "+l.GetName()] = balance{
			limit: read(l.GetLimit()), used: read(l.GetUsed()), spent: read(l.GetSpent()), held: read(l.GetHeld()),
		}
	}
	return all, nil
}

// whole reads a whole number. What is none reads -1.
func whole(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// checkSpent checks what a user, or the system, has spent and holds of the limit "usd day".
func checkSpent(t *testing.T, c costv1.CostServiceClient, user, spent, held string) {
	t.Helper()
	all, err := balances(patient(t), c, user)
	if err != nil {
		t.Fatal(err)
	}
	got := all["usd day"]
	if got.spent != nano(spent) || got.held != nano(held) || got.used != got.spent+got.held {
		t.Errorf("user %q: %s USD are spent, %s held and %s used, want %s and %s: %v",
			user, usd(got.spent), usd(got.held), usd(got.used), spent, held, all)
	}
}

// post sends a body of JSON to the HTTP side of a daemon.
func post(t *testing.T, d *harness.DaemonProcess, path, body string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(patient(t), http.MethodPost, d.URL(path), strings.NewReader(body))
	if err != nil {
		t.Fatalf("ask %s: %v", path, err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := httpClient.Do(req)
	if err != nil {
		t.Fatalf("ask %s: %v", path, err)
	}
	defer func() { _ = res.Body.Close() }() // read only
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read the answer of %s: %v", path, err)
	}
	return reply{status: res.StatusCode, header: res.Header, body: string(text)}
}
