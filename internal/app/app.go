package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"github.com/ratelimitd/ratelimitd/internal/edge/cost"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/memory"
	"github.com/ratelimitd/ratelimitd/internal/store/redis"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// App is one daemon. A process may hold several: they share nothing.
//
// New makes it, Start begins to serve, Stop ends it; each is called once, from one goroutine. The other methods are safe
// for concurrent use.
type App struct {
	opt     Options
	log     *telemetry.Log
	metrics *telemetry.Metrics
	reg     *prometheus.Registry

	policy *policy.Source
	store  store.Store
	engine *engine.Engine

	tracing   *telemetry.Tracing     // nil without traces
	decisions *telemetry.DecisionLog // nil without a decision log

	grpc   *grpc.Server
	admin  *grpc.Server // nil without an admin address
	health *health.Server
	cost   *cost.Server
	http   *http.Server
	// metricsHTTP is for probes and scrapers alone; nil without an address of its own.
	metricsHTTP *http.Server

	ready atomic.Bool

	mu          sync.Mutex // guards what follows
	grpcAddrs   []net.Addr
	httpAddr    net.Addr
	metricsAddr net.Addr
	adminAddr   net.Addr

	failed  chan error // the first error of a server that ended by itself
	serving sync.WaitGroup
	onStop  []stopStep // run by Stop from the last to the first

	ending     context.Context //nolint:containedctx // over once no new calls are taken: it ends streams that would never end
	endStreams context.CancelFunc
}

// stopStep ends one part of the daemon, within the context.
type stopStep struct {
	what string
	do   func(context.Context) error
}

// New makes a daemon. It reads the policy, and neither listens nor connects. It errs when the options are wrong or the
// policy cannot be read; then there is nothing to stop.
func New(opt Options, log *telemetry.Log) (*App, error) {
	if err := opt.Validate(); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	a := &App{opt: opt, log: log, reg: prometheus.NewRegistry(), failed: make(chan error, 1)}
	a.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.ending, a.endStreams = context.WithCancel(context.Background())
	a.metrics = telemetry.NewMetrics(a.reg)
	a.reg.MustRegister(log.Lost())
	a.metrics.Running(Build(), !opt.Disabled)
	if err := a.loadPolicy(); err != nil {
		return nil, err
	}
	if err := a.make(); err != nil {
		return nil, errors.Join(err, a.Stop(context.Background()))
	}
	return a, nil
}

// make makes the parts that Stop ends.
func (a *App) make() error {
	for _, ignored := range a.opt.Ignored {
		a.log.Warn("a setting is wrong", zap.String(telemetry.FieldSetting, ignored))
	}
	if err := a.startTracing(); err != nil {
		return err
	}
	a.metrics.Exemplars(a.tracing != nil)
	a.startDecisionLog()
	if err := a.openStore(); err != nil {
		return err
	}
	a.engine = engine.New(engine.Options{
		Store:    a.seenStore(),
		Policy:   a.policy.Current,
		Timeout:  a.opt.DecisionTimeout,
		Metrics:  a.metrics,
		Log:      a.log,
		Trips:    a.trips(),
		Disabled: a.opt.Disabled,

		Traced:    a.tracing != nil,
		Decisions: a.decisions,
	})
	a.reg.MustRegister(telemetry.NewLimits(newLimitsReader(a.engine.GlobalLimits).read))
	a.push("settle what is left", a.engine.Close)
	return a.makeServers()
}

func (a *App) openStore() error {
	if a.opt.Store == StoreMemory {
		s := memory.New(memory.Options{
			MaxBytes: a.opt.MemoryLimit, OnEvict: a.evicted, OnForget: a.metrics.AnswersForgottenEarly.Inc, OnLapse: a.lapsed,
		})
		a.store = s
		a.push("close the store", func(context.Context) error { return s.Close() })
		return nil
	}
	opt := a.opt.Redis
	opt.OnBatch = func(decisions int) { a.metrics.BatchSize.Observe(float64(decisions)) }
	opt.OnLapse = a.lapsed
	queue, trip := a.metrics.Stage(telemetry.StageQueue), a.metrics.Stage(telemetry.StageStore)
	opt.OnQueued = func(waited time.Duration) { queue.Observe(waited.Seconds()) }
	opt.OnTrip = func(took time.Duration) { trip.Observe(took.Seconds()) }
	s, err := redis.New(opt)
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	a.store = s
	a.push("close the store", func(context.Context) error { return s.Close() })
	return nil
}

// push adds a step that Stop runs before all that were added earlier.
func (a *App) push(what string, do func(context.Context) error) {
	a.onStop = append(a.onStop, stopStep{what, do})
}

// Start listens and serves. If it errs, all that it has started is ended again.
func (a *App) Start(ctx context.Context) error {
	if err := a.start(ctx); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.opt.ShutdownTimeout)
		defer cancel()
		return errors.Join(err, a.Stop(stop))
	}
	return nil
}

func (a *App) start(ctx context.Context) error {
	// The first call would pay for the connection, on a Cluster for its map too, with its decision timeout. A store that
	// is away holds the start up by no more than this question's own bound; the probe logs it.
	_ = a.engine.StoreErr(ctx)
	a.watch()
	if err := a.serveHTTP(ctx, "HTTP", a.opt.HTTPAddr, a.http, &a.httpAddr); err != nil {
		return err
	}
	if a.metricsHTTP != nil {
		if err := a.serveHTTP(ctx, "metrics", a.opt.MetricsAddr, a.metricsHTTP, &a.metricsAddr); err != nil {
			return err
		}
	}
	if err := a.serveAdmin(ctx); err != nil {
		return err
	}
	if err := a.serveGRPC(ctx); err != nil {
		return err
	}
	a.health.Resume()
	a.ready.Store(true)
	a.push("refuse new calls", func(context.Context) error {
		a.withdraw()
		a.endStreams()
		a.cost.Refuse()
		return nil
	})
	a.announce()
	return nil
}

// announce logs what is served.
func (a *App) announce() {
	a.log.Info("serving",
		zap.String(telemetry.FieldVersion, Build().Version),
		zap.String(telemetry.FieldPolicy, a.opt.Policy),
		zap.String(telemetry.FieldHash, a.policy.Current().Hash()),
		zap.String(telemetry.FieldStore, string(a.opt.Store)),
		zap.Stringers("grpc", a.GRPCAddrs()),
		zap.Stringer("http", a.HTTPAddr()))
	if a.opt.Disabled {
		a.log.Warn("rate limiting is switched off: everything is answered OK",
			zap.String(telemetry.FieldSetting, "RATE_LIMITING_ENABLED"))
	}
}

// Failed tells the error of a server that ended by itself. The daemon should be stopped then.
func (a *App) Failed() <-chan error { return a.failed }

// GRPCAddrs returns where gRPC is served, in the order of the options; none before Start.
func (a *App) GRPCAddrs() []net.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.grpcAddrs
}

// HTTPAddr returns where HTTP is served; nil before Start.
func (a *App) HTTPAddr() net.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.httpAddr
}

// MetricsAddr returns where probes and scrapers are served alone; nil before Start, and without a metrics address.
func (a *App) MetricsAddr() net.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.metricsAddr
}

// AdminAddr returns where administration is served; nil before Start, and without an admin address.
func (a *App) AdminAddr() net.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.adminAddr
}
