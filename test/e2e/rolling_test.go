package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // clients ask for health only with it
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

const (
	// drainDelay is many times what either kind of client needs to see that a daemon is about to stop: gRPC clients are
	// told at once, Envoy asks every 100 ms.
	drainDelay = "3s"
	// rollingCallers is how many calls of each kind are under way at once.
	rollingCallers = 4
)

// TestARollingRestartLosesNothing restarts three daemons of one Redis, one after another, while Envoy and a gRPC client
// ask them all the time, and waits in between until the restarted one is asked again, as Kubernetes waits for readiness.
func TestARollingRestartLosesNothing(t *testing.T) {
	t.Parallel()
	redis := harness.Redis(t)
	env := withPolicy(t, onRedis(redis), limits{user: "1000000/hour", global: "2000000/hour"}.text())
	daemons := make([]*harness.DaemonProcess, 3)
	for i := range daemons {
		daemons[i] = harness.Daemon(t, with(env, "RATELIMITD_DRAIN_DELAY", drainDelay))
	}
	direct, viaEnvoy := newBalanced(t, daemons), newProxied(t, daemons)
	askers := []asker{direct, viaEnvoy}

	load := startLoad(t, askers)
	for _, d := range daemons {
		for _, a := range askers {
			awaitMore(t, a, d)
		}
		d.Terminate()
		if err := d.Wait(); err != nil {
			t.Errorf("the daemon at %s ends with %v, want status 0", d.GRPCAddr, err)
		}
		d.Start()
		for _, a := range askers {
			awaitMore(t, a, d)
		}
	}
	load.stop()

	var all int64
	for i, user := range []string{direct.user, viaEnvoy.user} {
		answered := load.answered[i].Load()
		all += answered
		if got := statsOf(t, daemons[0], user).Limits["hour"].Current; got != answered {
			t.Errorf("Redis counts %d requests of user %s, which were admitted %d times", got, user, answered)
		}
	}
	if got := statsOf(t, daemons[0], direct.user).Global.Limits["hour"].Current; got != all {
		t.Errorf("Redis counts %d requests of all, and %d were admitted", got, all)
	}
	t.Logf("%d calls by gRPC and %d through Envoy", load.answered[0].Load(), load.answered[1].Load())
}

// balanced is a gRPC client that spreads its calls over all daemons which say that they serve.
type balanced struct {
	user   string
	client rls.RateLimitServiceClient

	mu       sync.Mutex
	answered map[string]int // by the daemon's address
}

func newBalanced(t *testing.T, daemons []*harness.DaemonProcess) *balanced {
	t.Helper()
	all := manual.NewBuilderWithScheme("daemons")
	var state resolver.State
	for _, d := range daemons {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: d.GRPCAddr}}})
	}
	all.InitialState(state)
	conn, err := grpc.NewClient("daemons:///", grpc.WithResolvers(all),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{
			"loadBalancingConfig": [{"round_robin": {}}],
			"healthCheckConfig": {"serviceName": "`+rateLimitService+`"}
		}`))
	if err != nil {
		t.Fatalf("make a client of all daemons: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // every call has been answered
	return &balanced{user: "direct", client: rls.NewRateLimitServiceClient(conn), answered: map[string]int{}}
}

// ask asks once. It does not wait for a daemon to come back: one of the others has to answer.
func (b *balanced) ask(ctx context.Context) error {
	var from peer.Peer
	res, err := b.client.ShouldRateLimit(ctx, request(b.user), grpc.Peer(&from))
	switch {
	case err != nil:
		return fmt.Errorf("the call is lost: %w", err)
	case !isOK(res) || failedOpen(res):
		return fmt.Errorf("%s answers %v, want OK from the store", from.Addr, res)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answered[from.Addr.String()]++
	return nil
}

// answers returns how many calls a daemon has answered.
func (b *balanced) answers(_ context.Context, d *harness.DaemonProcess) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.answered[d.GRPCAddr], nil
}

// proxied is an Envoy that has all daemons as the endpoints of its rate limit service, and asks for their health.
type proxied struct {
	user  string
	envoy *harness.EnvoyProxy
}

func newProxied(t *testing.T, daemons []*harness.DaemonProcess) *proxied {
	t.Helper()
	const health = "connect_timeout: 0.25s\n    health_checks:\n" +
		"    - { interval: 0.1s, no_traffic_interval: 0.1s, timeout: 5s, unhealthy_threshold: 1, healthy_threshold: 1,\n" +
		"        grpc_health_check: { service_name: " + rateLimitService + " } }"
	endpoints := "port_value: " + portOf(t, daemons[0].GRPCAddr) + " }"
	for _, d := range daemons[1:] {
		endpoints += "\n        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: " +
			portOf(t, d.GRPCAddr) + " } } }"
	}
	return &proxied{user: "proxied", envoy: harness.Envoy(t, harness.EnvoyFile, harness.Replacements{
		"port_value: 9000":       "port_value: " + portOf(t, harness.Upstream(t).Addr),
		"port_value: 8081 }":     endpoints,
		"timeout: 0.02s":         "timeout: 30s",
		"connect_timeout: 0.25s": health,
	})}
}

// ask sends one request. Without the daemon's numbers on the answer, Envoy passed it on its own.
func (p *proxied) ask(ctx context.Context) error {
	r, err := fetch(ctx, p.envoy.URL, p.user)
	switch {
	case err != nil:
		return fmt.Errorf("the request is lost: %w", err)
	case r.status != http.StatusOK || !r.asked():
		return fmt.Errorf("Envoy answers %d with %v, want 200 with the daemon's numbers", r.status, r.header)
	}
	return nil
}

// answers returns how many questions of Envoy a daemon has answered.
func (p *proxied) answers(ctx context.Context, d *harness.DaemonProcess) (int, error) {
	r, err := fetch(ctx, p.envoy.AdminURL+"/clusters", "")
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(r.body, "ratelimitd::"+d.GRPCAddr+"::rq_success::")
	if !ok {
		return 0, fmt.Errorf("Envoy's page does not name %s", d.GRPCAddr)
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.Atoi(line)
}

// asker asks all daemons.
type asker interface {
	ask(ctx context.Context) error
	answers(ctx context.Context, d *harness.DaemonProcess) (int, error)
}

// awaitMore waits until a daemon answers more calls than it has by now.
func awaitMore(t *testing.T, a asker, d *harness.DaemonProcess) {
	t.Helper()
	before := -1
	harness.WaitFor(t, d.GRPCAddr+" answers", func(ctx context.Context) error {
		now, err := a.answers(ctx, d)
		switch {
		case err != nil:
			return err
		case before < 0:
			before = now
		case now > before:
			return nil
		}
		return fmt.Errorf("%d calls, as before", now)
	})
}

// load is callers that ask again and again.
type load struct {
	t        *testing.T
	end      context.CancelFunc
	running  sync.WaitGroup
	answered []atomic.Int64 // by asker
}

// startLoad has callers ask until the load is stopped. A call that is not admitted fails the test.
func startLoad(t *testing.T, askers []asker) *load {
	t.Helper()
	going, end := context.WithCancel(t.Context())
	l := &load{t: t, end: end, answered: make([]atomic.Int64, len(askers))}
	for i, a := range askers {
		for range rollingCallers {
			l.running.Go(func() {
				for going.Err() == nil {
					if err := a.ask(t.Context()); err != nil {
						t.Error(err)
						continue
					}
					l.answered[i].Add(1)
				}
			})
		}
	}
	t.Cleanup(l.stop)
	return l
}

// stop ends the callers when their last calls are answered.
func (l *load) stop() {
	l.end()
	l.running.Wait()
}

func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
