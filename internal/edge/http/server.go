// Package httpedge answers over HTTP what operators and the assistant's own pages ask: a user's usage, health, readiness
// and metrics. It decides nothing and changes no count. What it is given as the API's handler may.
package httpedge

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// The paths that are served.
const (
	PathStats   = "/api/v1/assistant/stats"
	PathHealth  = "/api/v1/assistant/health"
	PathAlive   = "/healthz"
	PathReady   = "/readyz"
	PathMetrics = "/metrics"
)

// Bounds of the server.
const (
	// MaxHeaderBytes bounds a request's line and headers, and so a user id.
	MaxHeaderBytes = 16 << 10

	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
	idleTimeout  = 2 * time.Minute
	maxScrapes   = 4
	// maxQuestions is how many statistics may be asked for at once: while the store hangs, each holds memory and a place
	// in the store's queue, where the decisions wait too.
	maxQuestions = 64
	// retryAfter is when one more may be asked, in seconds: the least that the header can say.
	retryAfter = "1"
)

// Engine is what is asked.
type Engine interface {
	// Usage reads a user's usage and that of the whole system, and changes nothing. It errs with engine.ErrBadCall for
	// what cannot be asked, and otherwise when the store cannot be asked.
	Usage(ctx context.Context, userID string) (user, global engine.TierUsage, err error)
	// StoreErr is nil while the store answers.
	StoreErr(ctx context.Context) error
}

// Options are what a handler works with. All fields but Now and API are required.
type Options struct {
	Engine   Engine
	Embedded bool        // the store is in this process, so there is no Redis to be connected to
	Ready    func() bool // serving, and not about to stop
	Metrics  *telemetry.Metrics
	Gatherer prometheus.Gatherer // what PathMetrics shows
	Now      func() time.Time    // nil for time.Now
	// API answers APIPatterns, as http.ServeMux reads them; nil for none.
	API         http.Handler
	APIPatterns []string
}

// handler holds what the handlers share.
type handler struct {
	opt       Options
	bad       prometheus.Counter
	questions chan struct{} // holds one for each question that the store is being asked
}

// NewHandler returns the handler of all paths. A path that is not served is a 404, and on all but the API's another method
// than GET or HEAD a 405.
func NewHandler(opt Options) http.Handler {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	h := &handler{
		opt:       opt,
		bad:       opt.Metrics.BadCalls.WithLabelValues(telemetry.EdgeHTTP),
		questions: make(chan struct{}, maxQuestions),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+PathStats, h.stats)
	mux.HandleFunc("GET "+PathHealth, h.health)
	h.observe(mux)
	if opt.API != nil {
		for _, pattern := range opt.APIPatterns {
			mux.Handle(pattern, opt.API)
		}
	}
	return mux
}

// NewMetricsHandler returns the handler of PathAlive, PathReady and PathMetrics, and of nothing that tells of a user or changes
// anything.
func NewMetricsHandler(opt Options) http.Handler {
	mux := http.NewServeMux()
	(&handler{opt: opt}).observe(mux)
	return mux
}

// observe adds the paths that probes and scrapers ask for.
func (h *handler) observe(mux *http.ServeMux) {
	mux.HandleFunc("GET "+PathAlive, h.alive)
	mux.HandleFunc("GET "+PathReady, h.ready)
	mux.Handle("GET "+PathMetrics, promhttp.HandlerFor(h.opt.Gatherer, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		ErrorHandling:       promhttp.ContinueOnError,
		EnableOpenMetrics:   true, // which alone can carry exemplars
	}))
}

// NewServer returns a server whose every wait is bounded.
func NewServer(h http.Handler, log *telemetry.Log) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    MaxHeaderBytes,
		ErrorLog:          zap.NewStdLog(log.With(zap.String(telemetry.FieldEdge, telemetry.EdgeHTTP))),
	}
}
