package app

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestTheHeapGrowsWithinABoundUnlessTheEnvironmentSaysOtherwise(t *testing.T) {
	const store = 100 << 20
	for _, tc := range []struct {
		name           string
		gogc, memLimit string
		percent        int
		bound          int64
	}{
		{"nothing set", "", "", 400, 456 << 20},
		{"GOGC set", "50", "", 77, 456 << 20},
		{"GOMEMLIMIT set", "", "1GiB", 400, math.MaxInt64},
		{"both set", "off", "off", 77, math.MaxInt64},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("GOGC", tc.gogc)
			t.Setenv("GOMEMLIMIT", tc.memLimit)
			percent, bound := debug.SetGCPercent(77), debug.SetMemoryLimit(math.MaxInt64)
			TuneRuntime(store)
			if got := debug.SetMemoryLimit(bound); got != tc.bound {
				t.Errorf("the heap's bound is %d bytes, want %d", got, tc.bound)
			}
			if got := debug.SetGCPercent(percent); got != tc.percent {
				t.Errorf("the percentage is %d, want %d", got, tc.percent)
			}
		})
	}
}
