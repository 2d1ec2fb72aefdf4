package engine

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// BenchmarkCount is what the counters of one decision cost: nothing in it may allocate.
func BenchmarkCount(b *testing.B) {
	counters := newCounters(telemetry.NewMetrics(prometheus.NewRegistry()))
	limit := &policy.Limit{Name: "minute"}
	for _, bc := range []struct {
		name string
		dec  Decision
	}{
		{"allowed", Decision{Deciding: Status{Matched: true, Tier: "user", Limit: limit}}},
		{"denied", Decision{Denied: true, Deciding: Status{Matched: true, Denied: true, Tier: "user", Limit: limit}}},
		{"past a shadow limit", Decision{
			Deciding: Status{Matched: true, Tier: "user", Limit: limit}, Shadowed: []Shadowed{{Tier: "user", Limit: limit}},
		}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				counters.count(&bc.dec)
			}
		})
	}
}
