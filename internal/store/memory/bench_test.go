package memory

import (
	"context"
	"fmt"
	"strconv"
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

// BenchmarkReserveAndSettle takes a request, a slot and money of a user and of the global subject, and settles them.
func BenchmarkReserveAndSettle(b *testing.B) {
	s := New(Options{})
	day := []store.Limit{{Max: store.MaxAmount, Period: 24 * time.Hour}}
	slots := []store.Limit{{Max: 1000}}
	user, global := store.Subject{Kind: "user"}, store.Subject{Kind: "global"}
	req := &store.Request{
		Checks: []store.Check{
			{Unit: store.Requests, Amount: 1, Limits: benchUser},
			{Unit: store.USD, Amount: 10, Limits: day},
			{Unit: store.Concurrent, Amount: 1, Limits: slots},
			{Subject: global, Unit: store.USD, Amount: 10, Limits: day},
			{Subject: global, Unit: store.Concurrent, Amount: 1, Limits: slots},
		},
		Hold: &store.Hold{Lease: 30 * time.Second, Slot: true, USD: 10},
	}
	st := &store.Settlement{USD: 7, Parts: []store.Part{{USD: 24 * time.Hour}, {Subject: global, USD: 24 * time.Hour}}}
	ans, out := new(store.Answer), new(store.Settled)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		user.ID = fmt.Sprintf("user-%d", n%benchUsers)
		for i := range 3 {
			req.Checks[i].Subject = user
		}
		req.Hold.ID = strconv.Itoa(n)
		st.Parts[0].Subject, st.ID = user, req.Hold.ID
		if err := s.Admit(context.Background(), req, ans); err != nil || !ans.Admitted {
			b.Fatal(ans, err)
		}
		if err := s.Settle(context.Background(), st, out); err != nil {
			b.Fatal(err)
		}
	}
}
