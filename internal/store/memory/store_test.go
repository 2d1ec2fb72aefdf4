package memory_test

import (
	"sync/atomic"
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/memory"
	"github.com/ratelimitd/ratelimitd/internal/store/storetest"
)

// fixture opens an embedded store.
func fixture(t *testing.T, opt memory.Options) *storetest.Fixture {
	t.Helper()
	s := memory.New(opt)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &storetest.Fixture{
		Store:   s,
		Another: func() store.Store { return s },
		Keys:    func() int { return int(s.Stats().Subjects) },
	}
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storetest.Fixture {
		t.Helper()
		clock := new(atomic.Int64)
		f := fixture(t, memory.Options{Now: clock.Load, Shards: 4})
		f.Set = clock.Store
		return f
	})
}

func TestConformanceRealTime(t *testing.T) {
	storetest.RunRealTime(t, func(t *testing.T) *storetest.Fixture {
		t.Helper()
		return fixture(t, memory.Options{})
	})
}
