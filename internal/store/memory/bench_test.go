package memory

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// benchLimits are the windows of a user, none of which is ever full, and of the global subject.
var (
	benchUser = []store.Limit{
		{Max: 4000, Period: time.Millisecond}, {Max: 1 << 30, Period: time.Hour}, {Max: 1 << 31, Period: 24 * time.Hour},
	}
	benchGlobal = []store.Limit{{Max: 1 << 31, Period: time.Minute}}
)

// benchUsers is how many users the benchmarks choose from.
const benchUsers = 10_000

func benchAdmit(b *testing.B, user []store.Limit) {
	s := New(Options{})
	ids := make([]string, benchUsers)
	for i := range ids {
		ids[i] = fmt.Sprintf("user-%d", i)
	}
	var worker atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		req := &store.Request{Checks: []store.Check{
			{Subject: store.Subject{Kind: "user"}, Unit: store.Requests, Amount: 1, Limits: user},
			{Subject: store.Subject{Kind: "global"}, Unit: store.Requests, Amount: 1, Limits: benchGlobal},
		}}
		ans := new(store.Answer)
		for n := uint64(worker.Add(1)); pb.Next(); n += 7919 {
			req.Checks[0].Subject.ID = ids[n%benchUsers]
			if err := s.Admit(context.Background(), req, ans); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(s.Stats().Bytes)/benchUsers, "B/user")
}

// BenchmarkAdmit admits: three windows of a user and one of the global subject.
func BenchmarkAdmit(b *testing.B) { benchAdmit(b, benchUser) }

// BenchmarkDeny denies nearly always.
func BenchmarkDeny(b *testing.B) {
	benchAdmit(b, []store.Limit{
		{Max: 10, Period: time.Minute}, {Max: 100, Period: time.Hour}, {Max: 500, Period: 24 * time.Hour},
	})
}
