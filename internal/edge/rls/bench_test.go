package rls

import (
	"context"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// instant decides at once, so that only the translation is measured.
type instant struct{ st engine.Status }

func (*instant) EndStream(context.Context, *engine.StreamEnd) {}

func (d *instant) Decide(_ context.Context, call *policy.Call, dec *engine.Decision) error {
	dec.Mode, dec.Denied, dec.Deciding = engine.Stored, d.st.Denied, d.st
	dec.Statuses = dec.Statuses[:0]
	for range call.Descriptors {
		dec.Statuses = append(dec.Statuses, d.st)
	}
	return nil
}

func BenchmarkShouldRateLimit(b *testing.B) {
	limit := &policy.Limit{Name: "minute", Unit: store.Requests, Max: 10, Period: time.Minute}
	allowed := engine.Status{Matched: true, Tier: "user", Limit: limit, Remaining: 7, Reset: 1500 * time.Millisecond}
	denied := allowed
	denied.Denied, denied.Remaining, denied.Wait = true, 0, 16*time.Second
	for _, bc := range []struct {
		name        string
		st          engine.Status
		descriptors int
	}{
		{"allowed", allowed, 1},
		{"allowed4", allowed, 4},
		{"denied", denied, 1},
		{"unmatched", engine.Status{}, 1},
	} {
		s := New(Options{Decider: &instant{bc.st}, Metrics: telemetry.NewMetrics(prometheus.NewRegistry())})
		req := userRequest(bc.descriptors)
		b.Run(bc.name+"/answer", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.ShouldRateLimit(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bc.name+"/answer+marshal", func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 4096)
			for b.Loop() {
				resp, err := s.ShouldRateLimit(b.Context(), req)
				if err != nil {
					b.Fatal(err)
				}
				size := proto.Size(resp) // as the gRPC codec does
				if buf, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(buf[:0], resp); err != nil {
					b.Fatal(err)
				}
				_ = size
			}
		})
	}
	b.Run("bare/marshal", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 4096)
		for b.Loop() {
			resp := &ratelimitv3.RateLimitResponse{
				OverallCode: ratelimitv3.RateLimitResponse_OK,
				Statuses:    []*ratelimitv3.RateLimitResponse_DescriptorStatus{{Code: ratelimitv3.RateLimitResponse_OK}},
			}
			var err error
			if buf, err = (proto.MarshalOptions{}).MarshalAppend(buf[:0], resp); err != nil {
				b.Fatal(err)
			}
		}
	})
}
