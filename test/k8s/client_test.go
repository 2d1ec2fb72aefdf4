package k8s

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
	"github.com/ratelimitd/ratelimitd/test/harness"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// dial makes a client that spreads its calls over all pods of a name which say that they serve. They say so to clients that
// import _ "google.golang.org/grpc/health".
func dial(target string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, append(more,
		grpc.WithResolvers(again{resolver.Get("dns"), 30 * time.Second}),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{
			"loadBalancingConfig": [{"round_robin": {}}],
			"healthCheckConfig": {"serviceName": "ratelimitd.cost.v1.CostService"}
		}`))...)
}

// again looks names up again and again. gRPC itself does so only when a connection ends: pods that the autoscaler adds would
// get no calls.
type again struct {
	resolver.Builder
	every time.Duration // of the DNS, gRPC takes no less than 30 s
}

// Build makes the resolver of a name.
func (a again) Build(target resolver.Target, cc resolver.ClientConn, options resolver.BuildOptions) (resolver.Resolver, error) {
	r, err := a.Builder.Build(target, cc, options)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		tick := time.NewTicker(a.every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.ResolveNow(resolver.ResolveNowOptions{})
			case <-ctx.Done():
				return
			}
		}
	}()
	return stopped{r, stop}, nil
}

// stopped is a resolver that something else ends with.
type stopped struct {
	resolver.Resolver
	stop func()
}

// Close ends both.
func (s stopped) Close() {
	s.stop()
	s.Resolver.Close()
}

// TestTheClientOfTheGuideIsTheOneTested compares what the guide shows with what stands above.
func TestTheClientOfTheGuideIsTheOneTested(t *testing.T) {
	if !strings.Contains(readFile(t, filepath.Join(repository(t), "test", "k8s", "client_test.go")), block(t, "client")) {
		t.Error("docs/kubernetes.md shows another client than test/k8s/client_test.go has")
	}
}

// TestTheClientOfTheGuideFindsPods has it ask while a second pod comes, and the first one says that it is to end.
func TestTheClientOfTheGuideFindsPods(t *testing.T) {
	env := harness.Env{"RATELIMITD_POLICY": "production", "RATELIMITD_DRAIN_DELAY": "10m"}
	first, second := harness.Daemon(t, env), harness.Daemon(t, env)
	var both atomic.Bool
	names := manual.NewBuilderWithScheme("pods")
	names.InitialState(addresses(first))
	names.ResolveNowCallback = func(resolver.ResolveNowOptions) {
		if both.Load() {
			names.UpdateState(addresses(first, second))
		}
	}
	conn, err := dial("pods:///", grpc.WithResolvers(again{names, 10 * time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	awaitAnswers(t, conn, first, 2)
	both.Store(true)
	awaitAnswers(t, conn, second, 1)
	first.Terminate() // it answers on
	awaitAnswers(t, conn, second, 10)
}

// TestTheClientOfTheGuideResolvesNames asks a daemon by its name.
func TestTheClientOfTheGuideResolvesNames(t *testing.T) {
	d := harness.Daemon(t, harness.Env{"RATELIMITD_POLICY": "production"})
	_, port, err := net.SplitHostPort(d.GRPCAddr)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dial("dns:///localhost:" + port)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	awaitAnswers(t, conn, d, 1)
}

// awaitAnswers asks until a daemon answers so many calls in a row. No call may fail.
func awaitAnswers(t *testing.T, conn *grpc.ClientConn, d *harness.DaemonProcess, inARow int) {
	t.Helper()
	client := costv1.NewCostServiceClient(conn)
	harness.WaitFor(t, d.GRPCAddr+" answers", func(ctx context.Context) error {
		for range inARow {
			var from peer.Peer
			if _, err := client.GetUsage(ctx, &costv1.GetUsageRequest{}, grpc.Peer(&from)); err != nil {
				t.Errorf("a call is lost: %v", err)
				return err
			}
			if from.Addr.String() != d.GRPCAddr {
				return fmt.Errorf("%v answers", from.Addr)
			}
		}
		return nil
	})
}

func addresses(daemons ...*harness.DaemonProcess) resolver.State {
	var state resolver.State
	for _, d := range daemons {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: d.GRPCAddr}}})
	}
	return state
}
