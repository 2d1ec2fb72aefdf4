package monitoring

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	rlcommon "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// Load is what users do to an assistant: rate limit calls, and reservations of several models in each way that they end. Errors
// are part of it, so nothing here fails.
type Load struct {
	limits []rls.RateLimitServiceClient
	costs  []costv1.CostServiceClient
	// Pace is how many calls a second begin, by the time since the load began.
	Pace func(since time.Duration) float64
	// Think is how long a model takes at least, by the same time.
	Think func(since time.Duration) time.Duration
	// Users says how many users there are, about: a few of them do much, and most do little.
	Users float64

	began time.Time
}

// NewLoad connects to the daemons of a stack.
func NewLoad(t harness.TB, s *Stack) *Load {
	t.Helper()
	l := &Load{
		Pace:  func(time.Duration) float64 { return 60 },
		Think: func(time.Duration) time.Duration { return 50 * time.Millisecond },
		Users: 100,
	}
	for _, d := range s.Daemons {
		conn, err := grpc.NewClient(d.GRPCAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatalf("connect to a daemon: %v", err)
		}
		t.Cleanup(func() { _ = conn.Close() }) // the load has ended
		l.limits = append(l.limits, rls.NewRateLimitServiceClient(conn))
		l.costs = append(l.costs, costv1.NewCostServiceClient(conn))
	}
	return l
}

// mostAtOnce bounds the calls in flight: what is more waits.
const mostAtOnce = 96

// Run makes calls until the context is over, and returns when the last one has been answered.
func (l *Load) Run(ctx context.Context) {
	var flight sync.WaitGroup
	room := make(chan struct{}, mostAtOnce)
	l.began = time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(float64(time.Second) / max(l.Pace(time.Since(l.began)), 1))):
		}
		room <- struct{}{}
		flight.Go(func() {
			defer func() { <-room }()
			l.one(ctx, n)
		})
	}
	flight.Wait()
}

// one makes the n-th call: of five, two are rate limit calls and three are reservations.
func (l *Load) one(ctx context.Context, n int) {
	user := fmt.Sprintf("user-%d", int(rand.ExpFloat64()*l.Users/4))
	at := n % len(l.limits)
	switch {
	case n%485 == 0: // a call that says nothing
		_, _ = l.limits[at].ShouldRateLimit(ctx, &rls.RateLimitRequest{})
	case n%41 == 0: // nobody whom the policy knows
		l.ask(ctx, at, "team_id", "red", nil)
	case n%97 == 0: // a limit that the proxy brings
		l.ask(ctx, at, "user_id", "guest", &rlcommon.RateLimitDescriptor_RateLimitOverride{
			RequestsPerUnit: 1, Unit: typev3.RateLimitUnit_MINUTE,
		})
	case n%5 < 1:
		l.ask(ctx, at, "user_id", user, nil)
	case n%5 < 2:
		l.ask(ctx, at, "org_id", "acme", nil)
	default:
		l.spend(ctx, at, n, user)
	}
}

// ask makes a rate limit call, with a limit of its own if one is given.
func (l *Load) ask(ctx context.Context, at int, key, value string, own *rlcommon.RateLimitDescriptor_RateLimitOverride) {
	_, _ = l.limits[at].ShouldRateLimit(ctx, &rls.RateLimitRequest{
		Domain: "assistant",
		Descriptors: []*rlcommon.RateLimitDescriptor{{
			Entries: []*rlcommon.RateLimitDescriptor_Entry{{Key: key, Value: value}},
			Limit:   own,
		}},
	})
}

// model is one that users call, and how much.
type model struct {
	name          string
	input, output float64 // tokens of a call, on average
}

// models are what users call, by how much they are liked.
func models() []model {
	return []model{
		{"llama-3.2-3b-instruct", 2000, 400},
		{"claude-sonnet-4-5", 2500, 500},
		{"gpt-4o", 3000, 600},
		{"llama-3.2-3b-instruct", 2000, 400},
		{"gpt-4o", 2000, 300},
	}
}

// spend reserves, lets the model run, and ends the reservation in one of the ways that they end.
func (l *Load) spend(ctx context.Context, at, n int, user string) {
	called := models()[rand.IntN(len(models()))]
	if n%590 == 4 {
		called.name = "a-model-that-nobody-knows"
	}
	client := l.costs[at]
	input, output := int64(called.input*(0.5+rand.Float64())), int64(called.output*(0.5+rand.Float64()))
	lease := 30 * time.Second
	if n%215 == 2 {
		lease = time.Second
	}
	reserved, err := client.Reserve(ctx, &costv1.ReserveRequest{
		UserId: user, Model: called.name, InputTokens: input, MaxOutputTokens: int64(called.output * 1.4),
		Ttl: durationpb.New(lease), WaitTimeout: durationpb.New(time.Second),
	})
	if err != nil {
		return // denied
	}
	l.wait(ctx, time.Duration(float64(l.Think(time.Since(l.began)))*(1+rand.ExpFloat64())))
	settled := &costv1.SettleRequest{
		ReservationId: reserved.GetReservationId(), Outcome: "success",
		Usage: &costv1.Usage{InputTokens: input, OutputTokens: output},
	}
	switch {
	case n%430 == 2: // the caller has died
		return
	case n%215 == 2: // longer than its lease
		l.wait(ctx, 2*lease)
	case n%23 == 3:
		_, _ = client.Release(ctx, &costv1.ReleaseRequest{ReservationId: reserved.GetReservationId()})
		return
	case n%11 == 4:
		settled.ResponseCacheHit = true
	}
	_, _ = client.Settle(ctx, settled)
	if n%155 == 4 { // the answer was lost
		_, _ = client.Settle(ctx, settled)
	}
}

// wait waits for a time, or for the end of the load.
func (l *Load) wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
