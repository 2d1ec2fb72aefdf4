package redis

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// BenchmarkHoldAndSettle holds and settles for 1,000 users with three windows of requests and a budget each, and the global tier
// with requests, money and slots; 64 callers at once.
func BenchmarkHoldAndSettle(b *testing.B) {
	server := harness.Redis(b)
	s, err := New(Options{Addrs: []string{server.Addr}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() }) // nothing to lose
	day := 24 * time.Hour
	windows := []store.Limit{{Max: 4096, Period: time.Minute}, {Max: 4096, Period: time.Hour}, {Max: 4096, Period: day}}
	requests := []store.Limit{{Max: store.MaxRequests, Period: time.Hour}}
	money, slots := []store.Limit{{Max: store.MaxAmount, Period: day}}, []store.Limit{{Max: store.MaxRequests}}
	before, err := server.CPU(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	const held = 1_000_000
	var next atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var ans store.Answer
		var out store.Settled
		global := store.Subject{Kind: "global"}
		for pb.Next() {
			n := next.Add(1)
			user, id := store.Subject{Kind: "user", ID: strconv.FormatInt(n*7919%1_000, 10)}, strconv.FormatInt(n, 10)
			req := store.Request{
				Deadline: time.Now().Add(time.Second),
				Hold:     &store.Hold{ID: id, Lease: time.Minute, Slot: true, USD: held},
				Checks: []store.Check{
					{Subject: user, Unit: store.Requests, Amount: 1, Limits: windows},
					{Subject: user, Unit: store.USD, Amount: held, Limits: money},
					{Subject: global, Unit: store.Requests, Amount: 1, Limits: requests},
					{Subject: global, Unit: store.USD, Amount: held, Limits: money},
					{Subject: global, Unit: store.Concurrent, Amount: 1, Limits: slots},
				},
			}
			if err := s.Admit(b.Context(), &req, &ans); err != nil || !ans.Admitted {
				b.Error(err, ans)
				return
			}
			st := store.Settlement{
				ID: id, USD: held / 2, Deadline: time.Now().Add(time.Second),
				Parts: []store.Part{{Subject: user, USD: day}, {Subject: global, USD: day}},
			}
			if err := s.Settle(b.Context(), &st, &out); err != nil || out.USD != held/2 {
				b.Error(err, out)
				return
			}
		}
	})
	b.StopTimer()

	after, err := server.CPU(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((after-before).Microseconds())/float64(b.N), "redis-us/pair")
}
