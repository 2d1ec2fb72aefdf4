// Package rls translates Envoy's rate limit protocol, envoy.service.ratelimit.v3, to a call on the engine and the
// engine's decision back. It decides nothing itself.
//
// What Envoy does with an answer, and what therefore is promised here:
//   - Statuses are one to one with the descriptors, in order. A descriptor that matched nothing has a bare OK.
//   - The overall code is OK or OVER_LIMIT, never UNKNOWN.
//   - Envoy itself writes X-RateLimit-* from the statuses; this package adds Retry-After and the body of a denial.
//   - What an admitted call holds is in the answer's dynamic metadata as a token, which Envoy sends back when the stream is done;
//     what such a call reports is settled, and its answer is OK.
//   - When the store could not be asked no number is stated: neither a current limit nor a remaining count.
package rls

import (
	"context"
	"sync"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// Decider answers a call into a decision that has one status per descriptor. It keeps neither of the two. It errs with
// engine.ErrBadCall for a call that cannot be asked, or with the context's error.
type Decider interface {
	Decide(ctx context.Context, call *policy.Call, dec *engine.Decision) error
	// EndStream settles what a request holds, when its stream is done. It keeps nothing of end but its texts.
	EndStream(ctx context.Context, end *engine.StreamEnd)
}

// Options are what a server works with.
type Options struct {
	Decider Decider            // required
	Metrics *telemetry.Metrics // required
	// IETFHeaders adds RateLimit and RateLimit-Policy, the fields of draft-ietf-httpapi-ratelimit-headers, to every
	// answer that has numbers.
	IETFHeaders bool
	// Now is the clock that resets_at is computed from; nil for time.Now.
	Now func() time.Time
}

// Server is an envoy.service.ratelimit.v3.RateLimitService. It is safe for concurrent use.
type Server struct {
	ratelimitv3.UnimplementedRateLimitServiceServer

	decider  Decider
	now      func() time.Time
	ietf     bool
	latency  *telemetry.Latency
	badCalls prometheus.Counter
	faces    faces
	work     sync.Pool // of *work
}

// work is what one call needs while it is decided. It goes back to the pool when the answer is built.
type work struct {
	call    policy.Call
	dec     engine.Decision
	reports reports
}

// New returns a server over a decider.
func New(opt Options) *Server {
	now := opt.Now
	if now == nil {
		now = time.Now
	}
	return &Server{
		decider:  opt.Decider,
		now:      now,
		ietf:     opt.IETFHeaders,
		latency:  opt.Metrics.Latency(telemetry.EdgeRLS),
		badCalls: opt.Metrics.BadCalls.WithLabelValues(telemetry.EdgeRLS),
		work:     sync.Pool{New: func() any { return new(work) }},
	}
}

// ShouldRateLimit answers one call. It errs with INVALID_ARGUMENT for a call that cannot be asked: an empty domain, no
// descriptors or too many, a hits_addend out of bounds.
func (s *Server) ShouldRateLimit(
	ctx context.Context, req *ratelimitv3.RateLimitRequest,
) (*ratelimitv3.RateLimitResponse, error) {
	start := time.Now()
	w, ok := s.work.Get().(*work)
	if !ok {
		w = new(work)
	}
	resp, err := s.answer(ctx, req, w)
	inStore := w.dec.InStore + w.reports.inStore()
	s.recycle(w)
	if err != nil {
		return nil, s.translate(err)
	}
	s.latency.Observe(ctx, time.Since(start), inStore)
	return resp, nil
}

func (s *Server) answer(
	ctx context.Context, req *ratelimitv3.RateLimitRequest, w *work,
) (*ratelimitv3.RateLimitResponse, error) {
	if err := readCall(req, &w.call); err != nil {
		return nil, err
	}
	w.reports.takeReports(&w.call)
	asked := len(w.call.Descriptors)
	err := s.decide(ctx, w)
	w.call.Descriptors = w.call.Descriptors[:len(w.reports.of)]
	if err != nil {
		return nil, err
	}
	if got := len(w.dec.Statuses); got != asked {
		return nil, countError{got: got, want: asked}
	}
	w.reports.spread(&w.dec)
	return s.respond(&w.dec), nil
}

// decide settles what is reported and decides what is asked.
func (s *Server) decide(ctx context.Context, w *work) error {
	w.reports.tell(ctx, s.decider)
	if len(w.call.Descriptors) == 0 { // reports alone: there is nothing to deny
		w.dec = engine.Decision{Mode: engine.Unmatched, Statuses: w.dec.Statuses[:0], Shadowed: w.dec.Shadowed[:0]}
		return nil
	}
	return s.decider.Decide(ctx, &w.call, &w.dec)
}

// keepDescriptors is the size of a call above which its memory is not kept for the next one.
const keepDescriptors = 16

// recycle gives a call's memory to the next one, without what the caller sent.
func (s *Server) recycle(w *work) {
	if cap(w.call.Descriptors) > keepDescriptors {
		return
	}
	forget(&w.call)
	w.reports.forget()
	w.dec.Deciding, w.dec.Hold = engine.Status{}, ""
	clear(w.dec.Statuses)
	s.work.Put(w)
}
