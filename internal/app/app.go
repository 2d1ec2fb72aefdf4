package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/ratelimitd/ratelimitd/internal/edge/admin"
	"github.com/ratelimitd/ratelimitd/internal/edge/cost"
	httpedge "github.com/ratelimitd/ratelimitd/internal/edge/http"
	"github.com/ratelimitd/ratelimitd/internal/edge/rls"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/memory"
	"github.com/ratelimitd/ratelimitd/internal/store/redis"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
	adminv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/admin/v1"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
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
		s := memory.New(memory.Options{MaxBytes: a.opt.MemoryLimit, OnEvict: a.evicted, OnLapse: a.lapsed})
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

func (a *App) makeServers() error {
	catch := grpc.ChainUnaryInterceptor(catchPanics(a.metrics, a.log))
	end := grpc.ChainStreamInterceptor(endWith(a.ending))
	options := slices.Concat(ServerOptions(), a.traceGRPC(), []grpc.ServerOption{catch, end})
	a.grpc = grpc.NewServer(append(options, grpc.ForceServerCodecV2(rls.Codec()))...)
	ratelimitv3.RegisterRateLimitServiceServer(a.grpc, rls.New(rls.Options{
		Decider: a.engine, Metrics: a.metrics, IETFHeaders: a.opt.IETFHeaders,
	}))
	a.cost = cost.New(cost.Options{Engine: a.engine, Metrics: a.metrics, Log: a.log})
	costv1.RegisterCostServiceServer(a.grpc, a.cost)
	a.health = health.NewServer()
	for name := range a.grpc.GetServiceInfo() {
		a.health.SetServingStatus(name, healthv1.HealthCheckResponse_NOT_SERVING)
	}
	a.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	healthv1.RegisterHealthServer(a.grpc, a.health)
	reflection.Register(a.grpc)

	if a.opt.AdminAddr != "" {
		a.admin = grpc.NewServer(options...)
		adminv1.RegisterAdminServiceServer(a.admin, admin.New(a.engine))
		reflection.Register(a.admin)
	}
	api, err := cost.NewHandler(a.cost)
	if err != nil {
		return err
	}
	answers := httpedge.Options{
		Engine:   a.engine,
		Embedded: a.opt.Store == StoreMemory,
		Ready:    a.ready.Load,
		Metrics:  a.metrics,
		Gatherer: prometheus.GathererFunc(a.gather),
		API:      a.traceHTTP(api),
	}
	a.http = httpedge.NewServer(a.closeUnlessReady(httpedge.NewHandler(answers)), a.log)
	if a.opt.MetricsAddr != "" {
		a.metricsHTTP = httpedge.NewServer(a.closeUnlessReady(httpedge.NewMetricsHandler(answers)), a.log)
	}
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
		a.cost.EndWaits()
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

// serve runs a server until it ends. One that ends by itself ends the daemon.
func (a *App) serve(what string, l net.Listener, run func(net.Listener) error) {
	a.serving.Go(func() {
		if err := run(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
			select {
			case a.failed <- fmt.Errorf("%s at %s: %w", what, l.Addr(), err):
			default: // the first error is the one that counts
			}
		}
	})
}

// serveHTTP serves at an address, and notes which it is, guarded by mu.
func (a *App) serveHTTP(ctx context.Context, what, addr string, server *http.Server, at *net.Addr) error {
	l, err := listen(ctx, addr)
	if err != nil {
		return fmt.Errorf("serve %s: %w", what, err)
	}
	a.push("end "+what, func(ctx context.Context) error { return stopHTTP(ctx, server) })
	a.mu.Lock()
	*at = l.Addr()
	a.mu.Unlock()
	a.serve(what, l, server.Serve)
	return nil
}

func (a *App) serveAdmin(ctx context.Context) error {
	if a.admin == nil {
		return nil
	}
	l, err := listen(ctx, a.opt.AdminAddr)
	if err != nil {
		return fmt.Errorf("serve administration: %w", err)
	}
	accepted := newConns()
	a.push("end administration", func(ctx context.Context) error { return stopGRPC(ctx, a.admin, accepted) })
	a.mu.Lock()
	a.adminAddr = l.Addr()
	a.mu.Unlock()
	a.serve("administration", accepted.on(l), a.admin.Serve)
	a.log.Warn("administration is served to whoever reaches it", zap.Stringer(telemetry.FieldAddr, l.Addr()))
	return nil
}

func (a *App) serveGRPC(ctx context.Context) error {
	listeners := make([]net.Listener, 0, len(a.opt.GRPCAddrs))
	for _, addr := range a.opt.GRPCAddrs {
		l, err := listen(ctx, addr)
		if err != nil {
			problems := []error{fmt.Errorf("serve gRPC: %w", err)}
			for _, opened := range listeners {
				problems = append(problems, opened.Close())
			}
			return errors.Join(problems...)
		}
		listeners = append(listeners, l)
	}
	accepted := newConns()
	a.push("end gRPC", func(ctx context.Context) error { return stopGRPC(ctx, a.grpc, accepted) })
	a.mu.Lock()
	for _, l := range listeners {
		a.grpcAddrs = append(a.grpcAddrs, l.Addr())
	}
	a.mu.Unlock()
	for _, l := range listeners {
		a.serve("gRPC", accepted.on(l), a.grpc.Serve)
	}
	return nil
}

// errCut says that calls were still in flight when the time was up.
var errCut = errors.New("calls in flight were cut off: they took longer than the shutdown timeout")

// stopGRPC lets calls in flight end, until the context does; then it cuts them off.
func stopGRPC(ctx context.Context, s *grpc.Server, accepted *conns) error {
	done := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(done)
	}()
	accepted.closeSilent()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		accepted.closeAll()
		s.Stop() // ends GracefulStop too
		<-done
		return errCut
	}
}

// stopHTTP lets requests in flight end, until the context does; then it cuts them off.
func stopHTTP(ctx context.Context, s *http.Server) error {
	err := s.Shutdown(ctx)
	if err == nil {
		return nil
	}
	if closing := s.Close(); closing != nil || !errors.Is(err, ctx.Err()) {
		return errors.Join(err, closing)
	}
	return errCut
}

// lastWords is what the steps after the servers have in all, when calls in flight have used up a stop's time: settlements, traces
// and decisions that are left go out then.
const lastWords = time.Second

// Stop ends the daemon: it refuses new calls, lets those in flight end until the context does, and closes the store. It
// returns what went wrong on the way; the daemon has ended in any case. When the context's deadline has cut off calls in flight, the
// rest takes a second more at most; when it was cancelled, nothing waits.
func (a *App) Stop(ctx context.Context) error { return errors.Join(a.stop(ctx)) }

// stop is Stop, which tells calls that were cut off from all that went wrong.
func (a *App) stop(ctx context.Context) (cut, wrong error) {
	var cuts, problems []error
	late, tooLate := context.WithCancel(context.WithoutCancel(ctx))
	defer tooLate()
	for len(a.onStop) > 0 {
		last := a.onStop[len(a.onStop)-1]
		a.onStop = a.onStop[:len(a.onStop)-1]
		within := ctx
		if len(cuts) > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			within = late
		}
		switch err := last.do(within); {
		case errors.Is(err, errCut):
			cuts = append(cuts, fmt.Errorf("%s: %w", last.what, err))
			if len(cuts) == 1 {
				time.AfterFunc(lastWords, tooLate)
			}
		case err != nil:
			problems = append(problems, fmt.Errorf("%s: %w", last.what, err))
		}
	}
	a.serving.Wait()
	return errors.Join(cuts...), errors.Join(problems...)
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

// probeEvery is how often the store is asked whether it answers, so that its metric is true without calls.
const probeEvery = 2 * time.Second

// watch follows the policy's file and the store's state until the daemon stops.
func (a *App) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := a.policy.Watch(ctx); err != nil {
			a.log.Error("the policy's file is not watched: send SIGHUP after a change", zap.Error(err))
		}
	})
	running.Go(func() { a.probe(ctx) })
	running.Go(func() { a.watchMemory(ctx) })
	a.push("end the watches", func(context.Context) error {
		cancel()
		running.Wait()
		return nil
	})
}

// probe asks the store now and then whether it answers, and logs when that changes.
func (a *App) probe(ctx context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	up := true
	for {
		err := a.engine.StoreErr(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && up:
			a.log.Error("the store does not answer: on_store_failure of the policy does", zap.Error(err))
		case err == nil && !up:
			a.log.Info("the store answers again")
		}
		up = err == nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
