package main

import (
	"math"
	"slices"
	"time"
)

// latencies are exact percentiles of one run: every sample is kept, none is put in a bucket.
type latencies struct {
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	Max  time.Duration `json:"max_ns"`
}

// percentiles sorts the samples of all callers together and reads the percentiles by nearest rank.
func percentiles(callers [][]time.Duration) latencies {
	all := slices.Concat(callers...)
	if len(all) == 0 {
		return latencies{}
	}

	slices.Sort(all)

	return latencies{P50: rank(all, 0.50), P99: rank(all, 0.99), P999: rank(all, 0.999), Max: all[len(all)-1]}
}

// rank is the smallest sample that a share p of all sorted samples does not exceed.
func rank(sorted []time.Duration, p float64) time.Duration {
	i := int(math.Ceil(p*float64(len(sorted)))) - 1

	return sorted[max(i, 0)]
}
