package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	storeredis "github.com/ratelimitd/ratelimitd/internal/store/redis"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

const (
	// historyPairs is how many reservations a user with spend has settled before the measurement begins.
	historyPairs = 10
	// historySpan is the time over which they are spread, up to the present. No window loses one of them during a benchmark.
	historySpan = 12 * time.Hour
	// storeWithin bounds an answer of the store in a prefill.
	storeWithin = 10 * time.Second
)

// spender is ratelimitd's engine over a Redis, under a clock that can be set back.
type spender struct {
	*engine.Engine

	store *storeredis.Store
	now   int64 // microseconds since the Unix epoch
}

// newSpender opens the store.
func newSpender(server *redisServer) (*spender, error) {
	snapshot, _, err := policy.Parse("the benchmark's policy", []byte(costPolicy()), policy.Adjustments{})
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}

	s := &spender{now: time.Now().UnixMicro()}
	opt := storeredis.Options{Addrs: []string{server.addr}}

	if s.store, err = storeredis.New(*opt.WithClock(func() int64 { return s.now })); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}

	s.Engine = engine.New(engine.Options{
		Store: s.store, Policy: func() *policy.Snapshot { return snapshot }, Timeout: storeWithin,
		Metrics: telemetry.NewMetrics(prometheus.NewRegistry()), Log: telemetry.NopLog(),
	})

	return s, nil
}

// close ends the store. Nothing is in flight.
func (s *spender) close() { _ = s.store.Close() }

// reserve makes a reservation and returns its id.
func (s *spender) reserve(ctx context.Context, user string, number int) (string, error) {
	grant, err := s.Reserve(ctx, &engine.Reservation{
		Spender: engine.Spender{UserID: user, Model: pairModel}, Key: "history-" + strconv.Itoa(number),
		Ask: engine.Ask{InputTokens: pairInput, MaxOutputTokens: pairMaxOutput},
	})

	switch {
	case err != nil:
		return "", fmt.Errorf("reserve for %s: %w", user, err)
	case len(grant.Warnings) > 0:
		return "", fmt.Errorf("reserve for %s: %v", user, grant.Warnings)
	default:
		return grant.ReservationID, nil
	}
}

// spend makes pairs at moments of the past, the oldest first.
func (s *spender) spend(ctx context.Context, user string, ages []time.Duration) error {
	began := time.Now()

	for number, age := range ages {
		s.now = began.Add(-age).UnixMicro()

		id, err := s.reserve(ctx, user, number)
		if err != nil {
			return err
		}

		output := int64(number) % (pairMaxOutput + 1)

		receipt, err := s.Settle(ctx, &engine.Settlement{
			ReservationID: id, Usage: &budget.Usage{Input: pairInput, Output: output}, Outcome: "success",
		})

		switch {
		case err != nil:
			return fmt.Errorf("settle for %s: %w", user, err)
		case receipt.CostUSD != costOf(output):
			return fmt.Errorf("settle for %s: %d nano-USD, want %d", user, receipt.CostUSD, costOf(output))
		}
	}

	return nil
}

// agesOver spreads n moments evenly over the time before the present, the oldest first. Users of different phases have others.
func agesOver(span time.Duration, n, user int) []time.Duration {
	apart := span / time.Duration(n)

	ages := make([]time.Duration, n)
	for i := range ages {
		ages[i] = apart*time.Duration(n-1-i) + apart*time.Duration(user%phases+1)/(phases+1)
	}

	return ages
}

// prefillSpend gives every user some settled reservations. The first users of all phases reserve and settle; the others are
// copies of what their limits count, without what is kept for repeats.
func prefillSpend(ctx context.Context, server *redisServer, users int) error {
	s, err := newSpender(server)
	if err != nil {
		return err
	}
	defer s.close()

	for first := range min(phases, users) {
		if err := s.spend(ctx, userName(first), agesOver(historySpan, historyPairs, first)); err != nil {
			return fmt.Errorf("prefill %s: %w", server.name, err)
		}

		keys, err := server.keysOf(ctx, userName(first))
		if err != nil {
			return err
		}

		keys = slices.DeleteFunc(keys, func(key string) bool { return partOf(key) == recordPart })
		if len(keys) == 0 {
			return errors.New("a user with settled reservations has no key that counts them")
		}

		if err := server.copyKeys(ctx, keys, first, users); err != nil {
			return err
		}
	}

	return nil
}

// part is what a key of a subject is for.
type part string

// The parts.
const (
	usagePart  part = "usage"  // what limits count
	openPart   part = "open"   // open reservations
	recordPart part = "record" // what is known of one reservation, kept for repeats
)

// partOf tells what a key of the store is for: rl:{subject}:h has the open reservations, rl:{subject}:h:ID one record.
func partOf(key string) part {
	_, suffix, _ := strings.Cut(key, "}:")

	switch {
	case suffix == "h":
		return openPart
	case strings.HasPrefix(suffix, "h:"):
		return recordPart
	default:
		return usagePart
	}
}
