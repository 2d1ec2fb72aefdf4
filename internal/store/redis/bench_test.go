package redis

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// BenchmarkAdmit decides for 10,000 users with three windows each and the global tier, 64 callers at once.
func BenchmarkAdmit(b *testing.B) {
	server := harness.Redis(b)
	var decisions, calls atomic.Int64
	s, err := New(Options{Addrs: []string{server.Addr}, OnBatch: func(n int) {
		decisions.Add(int64(n))
		calls.Add(1)
	}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() }) // nothing to lose
	user := []store.Limit{
		{Max: 4096, Period: time.Minute}, {Max: 4096, Period: time.Hour}, {Max: 4096, Period: 24 * time.Hour},
	}
	global := []store.Limit{{Max: store.MaxRequests, Period: time.Hour}}
	before, err := server.CPU(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var ans store.Answer
		for pb.Next() {
			req := store.Request{Deadline: time.Now().Add(time.Second), Checks: []store.Check{
				{Subject: store.Subject{Kind: "user", ID: strconv.FormatInt(next.Add(1)*7919%10_000, 10)}, Unit: store.Requests, Amount: 1, Limits: user},
				{Subject: store.Subject{Kind: "global"}, Unit: store.Requests, Amount: 1, Limits: global},
			}}
			if err := s.Admit(b.Context(), &req, &ans); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	after, err := server.CPU(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((after-before).Microseconds())/float64(b.N), "redis-us/op")
	b.ReportMetric(float64(decisions.Load())/float64(max(calls.Load(), 1)), "decisions/call")
}
