// Package cost translates ratelimitd.cost.v1 to calls on the engine and the engine's answers back, over gRPC and, by
// NewHandler, as JSON over HTTP. It decides nothing itself. Whatever the engine is asked is within the engine's bounds.
package cost

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// Engine does what is asked. Each error is an *engine.CostError or the context's.
type Engine interface {
	// Quote says what a call would cost and whether it would be admitted now.
	Quote(ctx context.Context, ask *engine.QuoteAsk) (*engine.Quotation, error)
	// Reserve holds a request, tokens, a slot and money.
	Reserve(ctx context.Context, r *engine.Reservation) (*engine.Grant, error)
	// Extend renews a lease, and asks for more.
	Extend(ctx context.Context, x *engine.Extension) (*engine.Extended, error)
	// Settle ends a reservation with what was really used.
	Settle(ctx context.Context, s *engine.Settlement) (*engine.Receipt, error)
	// Release ends a reservation of which nothing was used.
	Release(ctx context.Context, reservationID string) (*engine.Receipt, error)
	// Record books a call that had no reservation.
	Record(ctx context.Context, r *engine.Record) (*engine.Receipt, error)
	// CostUsage reads the limits of a user as they stand; those of the system as a whole for an empty id.
	CostUsage(ctx context.Context, userID string) ([]engine.LimitState, error)
}

// Bounds of calls, over gRPC and HTTP.
const (
	// MaxReservationID is the longest id of a reservation that is read, bytes.
	MaxReservationID = engine.MaxToken
	// MaxRecords is how many records one batch may have.
	MaxRecords = 1000
	// maxWaits is how many calls may wait for a slot at once: each holds memory until its wait is over.
	maxWaits = 4096
)

// Options are what a server works with. All fields are required.
type Options struct {
	Engine  Engine
	Metrics *telemetry.Metrics
	Log     *telemetry.Log
}

// Server is a ratelimitd.cost.v1.CostService. It is safe for concurrent use.
type Server struct {
	costv1.UnimplementedCostServiceServer

	engine   Engine
	metrics  *telemetry.Metrics
	log      *telemetry.Log
	latency  *telemetry.Latency
	badCalls prometheus.Counter
	waits    chan struct{} // holds one for each call that waits for a slot
	refuse   func()
	// onRefuse calls f when refuse is called, unless stop was called before.
	onRefuse func(f func()) (stop func() bool)
	refuses  func() bool // tells whether refuse was called
}

// New returns a server over an engine.
func New(opt Options) *Server {
	ending, end := context.WithCancel(context.Background())
	return &Server{
		engine:   opt.Engine,
		metrics:  opt.Metrics,
		log:      opt.Log,
		latency:  opt.Metrics.Latency(telemetry.EdgeCost),
		badCalls: opt.Metrics.BadCalls.WithLabelValues(telemetry.EdgeCost),
		waits:    make(chan struct{}, maxWaits),
		refuse:   end,
		onRefuse: func(f func()) (stop func() bool) { return context.AfterFunc(ending, f) },
		refuses:  func() bool { return ending.Err() != nil },
	}
}

// Refuse ends all waits for a slot, now and later, and has no new call taken over HTTP: both are answered with SHUTTING_DOWN. It
// is for the daemon's stop, which lets calls in flight end. A gRPC server refuses new calls by itself.
func (s *Server) Refuse() { s.refuse() }

// timed returns the context to make a call with, and what notes how long the call took, once it is answered. Calls that are wrong
// are not timed: nothing is decided for them.
func (s *Server) timed(ctx context.Context) (timed context.Context, observe func()) {
	start := time.Now()
	timed, watch := engine.WithStopwatch(ctx)
	return timed, func() { s.latency.Observe(ctx, time.Since(start), watch.InStore()) }
}

// Quote says what a call would cost.
func (s *Server) Quote(ctx context.Context, req *costv1.QuoteRequest) (*costv1.QuoteResponse, error) {
	ask, err := readQuote(req)
	if err != nil {
		return nil, s.translate(err)
	}
	ctx, observe := s.timed(ctx)
	defer observe()
	q, err := s.engine.Quote(ctx, ask)
	if err != nil {
		return nil, s.translate(err)
	}
	return writeQuotation(q), nil
}

// Reserve holds a request, tokens, a slot and money.
func (s *Server) Reserve(ctx context.Context, req *costv1.ReserveRequest) (*costv1.ReserveResponse, error) {
	r, err := readReservation(req)
	if err != nil {
		return nil, s.translate(err)
	}
	reserve := s.reserveNow
	if r.Wait > 0 {
		reserve = s.reserveInLine
	}
	g, err := reserve(ctx, r)
	if err != nil {
		return nil, s.translate(err)
	}
	return writeGrant(g), nil
}

func (s *Server) reserveNow(ctx context.Context, r *engine.Reservation) (*engine.Grant, error) {
	ctx, observe := s.timed(ctx)
	defer observe()
	return s.engine.Reserve(ctx, r)
}

// reserveInLine is reserveNow for a call that may wait for a slot: the wait ends with the daemon, and is no latency.
func (s *Server) reserveInLine(ctx context.Context, r *engine.Reservation) (*engine.Grant, error) {
	select {
	case s.waits <- struct{}{}:
		defer func() { <-s.waits }()
	default:
		return nil, errManyWait
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := s.onRefuse(func() { cancel(errStopping) })
	defer stop()
	g, err := s.engine.Reserve(ctx, r)
	if err != nil && errors.Is(context.Cause(ctx), errStopping) && isContextError(err) {
		return nil, errStopping
	}
	return g, err
}

// Extend renews a lease, and asks for more.
func (s *Server) Extend(ctx context.Context, req *costv1.ExtendRequest) (*costv1.ExtendResponse, error) {
	x, err := readExtension(req)
	if err != nil {
		return nil, s.translate(err)
	}
	ctx, observe := s.timed(ctx)
	defer observe()
	e, err := s.engine.Extend(ctx, x)
	if err != nil {
		return nil, s.translate(err)
	}
	return writeExtended(e), nil
}

// Settle ends a reservation with what was really used.
func (s *Server) Settle(ctx context.Context, req *costv1.SettleRequest) (*costv1.SettleResponse, error) {
	st, err := readSettlement(req)
	if err != nil {
		return nil, s.translate(err)
	}
	ctx, observe := s.timed(ctx)
	defer observe()
	r, err := s.engine.Settle(ctx, st)
	if err != nil {
		return nil, s.translate(err)
	}
	return writeSettled(r), nil
}

// Release ends a reservation of which nothing was used.
func (s *Server) Release(ctx context.Context, req *costv1.ReleaseRequest) (*costv1.ReleaseResponse, error) {
	id, err := readRelease(req)
	if err != nil {
		return nil, s.translate(err)
	}
	ctx, observe := s.timed(ctx)
	defer observe()
	r, err := s.engine.Release(ctx, id)
	if err != nil {
		return nil, s.translate(err)
	}
	return writeReleased(r), nil
}

// Record books a call that had no reservation.
func (s *Server) Record(ctx context.Context, req *costv1.RecordRequest) (*costv1.RecordResponse, error) {
	resp, err := s.record(ctx, req)
	if err != nil {
		return nil, s.translate(err)
	}
	return resp, nil
}

// record is Record with its error as it is. Each record of a batch is timed by itself.
func (s *Server) record(ctx context.Context, req *costv1.RecordRequest) (*costv1.RecordResponse, error) {
	record, err := readRecord(req)
	if err != nil {
		return nil, err
	}
	ctx, observe := s.timed(ctx)
	defer observe()
	r, err := s.engine.Record(ctx, record)
	if err != nil {
		return nil, err
	}
	return writeRecorded(r), nil
}

// GetUsage reads how the limits of a user, or of the system as a whole, stand.
func (s *Server) GetUsage(ctx context.Context, req *costv1.GetUsageRequest) (*costv1.GetUsageResponse, error) {
	id, err := readUsageOf(req)
	if err != nil {
		return nil, s.translate(err)
	}
	ctx, observe := s.timed(ctx)
	defer observe()
	limits, err := s.engine.CostUsage(ctx, id)
	if err != nil {
		return nil, s.translate(err)
	}
	return &costv1.GetUsageResponse{UserId: id, Limits: writeLimits(limits)}, nil
}
