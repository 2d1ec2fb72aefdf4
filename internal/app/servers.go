package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/ratelimitd/ratelimitd/internal/edge/admin"
	"github.com/ratelimitd/ratelimitd/internal/edge/cost"
	httpedge "github.com/ratelimitd/ratelimitd/internal/edge/http"
	"github.com/ratelimitd/ratelimitd/internal/edge/rls"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
	adminv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/admin/v1"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// makeServers makes all servers; none of them listens yet.
func (a *App) makeServers() error {
	panics := &panics{metrics: a.metrics, log: a.log}
	options := slices.Concat(ServerOptions(), a.traceGRPC(), []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(panics.catch), grpc.ChainStreamInterceptor(endWith(a.ending, panics)),
	})
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
		adminv1.RegisterAdminServiceServer(a.admin, admin.New(a.engine, a.log))
		reflection.Register(a.admin)
	}
	api, err := cost.NewHandler(a.cost)
	if err != nil {
		return err
	}
	answers := httpedge.Options{
		Engine:      a.engine,
		Embedded:    a.opt.Store == StoreMemory,
		Ready:       a.ready.Load,
		Metrics:     a.metrics,
		Gatherer:    prometheus.GathererFunc(a.gather),
		API:         a.traceHTTP(api),
		APIPatterns: cost.Patterns(),
	}
	a.http = httpedge.NewServer(a.closeUnlessReady(httpedge.NewHandler(answers)), a.log)
	if a.opt.MetricsAddr != "" {
		a.metricsHTTP = httpedge.NewServer(a.closeUnlessReady(httpedge.NewMetricsHandler(answers)), a.log)
	}
	return nil
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
