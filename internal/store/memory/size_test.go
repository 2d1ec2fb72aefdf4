package memory_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/memory"
)

// TestHoldsTakeWhatIsCounted compares the bytes that the store counts for holds with those that the heap has grown by: the count
// must not be lower by more than the heap's own waste, nor so much higher that room is left unused.
func TestHoldsTakeWhatIsCounted(t *testing.T) {
	for _, tt := range []struct {
		what     string
		hold     bool // else what was spent is booked without one
		settle   bool
		subjects []store.Subject
	}{
		{"settled", true, true, []store.Subject{user(1), global}},
		{"booked without a hold", false, true, []store.Subject{user(1), global}},
		{"open", true, false, []store.Subject{user(1), global}},
		{"open, of many subjects", true, false, []store.Subject{user(1), user(2), user(3), user(4), global}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			const many = 50_000
			s := memory.New(memory.Options{MaxBytes: 1 << 40})
			before := heapBytes()
			for n := range many {
				id := fmt.Sprintf("%016d", n)
				if tt.hold {
					holdOf(t, s, tt.subjects, id)
				}
				if tt.settle {
					settleOf(t, s, tt.subjects, id)
				}
			}
			took, counted := heapBytes()-before, s.Stats().Bytes
			runtime.KeepAlive(s)
			t.Logf("%d bytes each, counted as %d", took/many, counted/many)
			if ratio := float64(took) / float64(counted); ratio < 0.8 || ratio > 1.05 {
				t.Errorf("%d bytes are taken where %d are counted: %.2f of them, want 0.8 to 1.05", took, counted, ratio)
			}
		})
	}
}

// holdOf holds a slot and money of subjects.
func holdOf(t *testing.T, s *memory.Store, subjects []store.Subject, id string) {
	t.Helper()
	req := &store.Request{Hold: &store.Hold{ID: id, Lease: time.Hour, Slot: true, USD: 10}}
	for _, subject := range subjects {
		req.Checks = append(req.Checks,
			store.Check{Subject: subject, Unit: store.USD, Amount: 10, Limits: []store.Limit{{Max: store.MaxAmount, Period: time.Hour}}},
			store.Check{Subject: subject, Unit: store.Concurrent, Amount: 1, Limits: []store.Limit{{Max: store.MaxAmount}}})
	}
	if ans := new(store.Answer); s.Admit(t.Context(), req, ans) != nil || !ans.Admitted {
		t.Fatalf("Admit of hold %s: %+v, want it admitted", id, ans)
	}
}

// settleOf settles a hold of subjects, or books what was spent without one, with a memo.
func settleOf(t *testing.T, s *memory.Store, subjects []store.Subject, id string) {
	t.Helper()
	st := &store.Settlement{ID: id, USD: 7, Book: 1e15, Memo: []byte("what a receipt says")}
	for _, subject := range subjects {
		st.Parts = append(st.Parts, store.Part{Subject: subject, USD: time.Hour})
	}
	if err := s.Settle(t.Context(), st, new(store.Settled)); err != nil {
		t.Fatalf("Settle of hold %s: %v", id, err)
	}
}

// heapBytes is what lives on the heap.
func heapBytes() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
