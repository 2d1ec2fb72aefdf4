package k8s

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/ratelimitd/ratelimitd/test/harness"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// askEvery is the pause between two calls of a steady client: all of them together stay below the 1000 an hour of the policy.
const askEvery = 50 * time.Millisecond

// TestThePodEndsInOrder ends the example's pod as the kubelet does, with calls under way and clients that ask all the time by
// connections that they keep: no call fails, and each is counted and paid for once.
func TestThePodEndsInOrder(t *testing.T) {
	p := startPod(t)
	one, two := newKept(p, "one", 1), newKept(p, "two", 2)
	idle := newKept(p, "idle", 1)
	idle.expectOK(t)
	slow := []*slowCall{one.begin(t), two.begin(t)} // the second one on the connection that the same client goes on asking by
	p.awaitInFlight(t, len(slow))

	// The pod has left its Service: a client whose connection is closed turns to another pod.
	clients := []*kept{two, newKept(p, "three", 1), newKept(p, "four", 1), newKept(p, "five", 2)}
	var asking sync.WaitGroup
	for _, c := range clients {
		asking.Go(func() { c.askUntilClosed(t) })
	}
	asking.Wait()

	// preStop is over, and the two calls are not.
	p.app.Signal(syscall.SIGTERM)
	harness.WaitFor(t, "the app knows that it is to end", func(context.Context) error {
		if log := p.app.Log(); !strings.Contains(log, "told to end") {
			return fmt.Errorf("it says %q", log)
		}
		return nil
	})
	idle.expectOK(t)
	for _, s := range slow {
		s.end(t)
	}
	if err := p.app.Wait(); err != nil {
		t.Errorf("on SIGTERM the app ends with %v, want status 0; it says %s", err, p.app.Log())
	}
	if err := p.envoy.Stop(); err != nil {
		t.Errorf("on SIGTERM Envoy ends with %v, want status 0", err)
	}

	calls := int64(len(slow))
	for _, c := range append(clients, idle) {
		calls += c.answered.Load()
	}
	harness.WaitFor(t, fmt.Sprintf("%d calls are counted and paid for", calls), func(context.Context) error {
		return p.expectUsage(t, calls)
	})
	t.Logf("%d calls", calls)
	p.endDaemon(t)
}

// TestConnectionsEndWhilePreStopSleeps compares how long a connection may take requests with how long the app still answers
// after the pod has left its Service.
func TestConnectionsEndWhilePreStopSleeps(t *testing.T) {
	build := example(t)
	config, problem := build.Envoys()[0].Configuration()
	if problem != "" {
		t.Fatal(problem)
	}
	var longest time.Duration
	for _, name := range []string{"max_connection_duration", "drain_timeout"} {
		m := regexp.MustCompile(`\b`+name+`: (\w+)`).FindAllStringSubmatch(config, -1)
		if len(m) != 1 {
			t.Fatalf("Envoy's configuration says %s %d times, want once", name, len(m))
		}
		part, err := time.ParseDuration(m[0][1])
		if err != nil {
			t.Fatal(err)
		}
		longest += part
	}
	for _, c := range build.Envoys()[0].Pod.Spec.Containers {
		if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
			t.Errorf("container %s has no preStop that sleeps: it ends while others still send requests", c.Name)
			continue
		}
		if pause := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second; pause <= longest {
			t.Errorf("preStop of container %s sleeps for %s, want longer than connections take requests, %s", c.Name, pause, longest)
		}
	}
}

// awaitInFlight waits until so many calls are with the app.
func (p *pod) awaitInFlight(t *testing.T, want int) {
	t.Helper()
	harness.WaitFor(t, "the app has the calls", func(context.Context) error {
		_, text := get(t, p.envoy.AdminURL+"/stats?filter=upstream_rq_active")
		if !strings.Contains(text, fmt.Sprintf("cluster.assistant.upstream_rq_active: %d\n", want)) {
			return fmt.Errorf("Envoy says %s", text)
		}
		return nil
	})
}

// expectUsage errs unless the system as a whole has made so many calls, each of which is paid for and over.
func (p *pod) expectUsage(t *testing.T, calls int64) error {
	t.Helper()
	_, text := get(t, p.daemon.URL("/v1/usage"))
	var usage struct {
		Limits []struct{ Unit, Used, Spent string }
	}
	if err := json.Unmarshal([]byte(text), &usage); err != nil {
		return fmt.Errorf("read the usage: %w", err)
	}
	const nanos = 260_600 // USD 1e-9 for an answer of app.py, by the policy's prices
	want := map[string]string{
		"requests":   fmt.Sprint(calls),
		"concurrent": "0",
		"usd":        strings.TrimRight(fmt.Sprintf("%d.%09d", calls*nanos/1e9, calls*nanos%1e9), "0"),
	}
	for _, l := range usage.Limits {
		if l.Used != want[l.Unit] {
			return fmt.Errorf("of %s %s are used, want %s: %s", l.Unit, l.Used, want[l.Unit], text)
		}
		delete(want, l.Unit)
	}
	if len(want) > 0 {
		return fmt.Errorf("the usage does not tell %v: %s", want, text)
	}
	return nil
}

// endDaemon ends the daemon while a question is under way, and asks for its health as the kubelet does.
func (p *pod) endDaemon(t *testing.T) {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+p.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	const method = rls.RateLimitService_ShouldRateLimit_FullMethodName
	question, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, method)
	if err != nil {
		t.Fatalf("begin a question: %v", err)
	}
	p.daemon.Terminate()
	harness.WaitFor(t, "it is not ready", func(context.Context) error {
		if status, _ := get(t, p.probes+"/readyz"); status != http.StatusServiceUnavailable {
			return fmt.Errorf("/readyz is answered with %d", status)
		}
		return nil
	})
	if status, _ := get(t, p.probes+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz is answered with %d after SIGTERM, want 200: a probe would kill it", status)
	}
	var answer rls.RateLimitResponse
	err = errors.Join(question.SendMsg(&rls.RateLimitRequest{
		Domain: "other", Descriptors: []*common.RateLimitDescriptor{{Entries: []*common.RateLimitDescriptor_Entry{{Key: "user_id"}}}},
	}), question.CloseSend(), question.RecvMsg(&answer))
	if err != nil || answer.GetOverallCode() != rls.RateLimitResponse_OK {
		t.Errorf("a question that was under way at SIGTERM is answered with %v and %v, want OK", answer.GetOverallCode(), err)
	}
	if err := p.daemon.Wait(); err != nil {
		t.Errorf("on SIGTERM ratelimitd ends with %v, want status 0", err)
	}
	if _, err := os.Stat(p.socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// kept is a client that asks by one connection until that is closed.
type kept struct {
	name     string
	url      string
	client   http.Client
	answered atomic.Int64
}

// errClosed says that the client needs another connection.
var errClosed = errors.New("the connection was closed")

// newKept makes a client of HTTP/1.1 or HTTP/2.
func newKept(p *pod, name string, version int) *kept {
	var protocols http.Protocols
	protocols.SetHTTP1(version == 1)
	protocols.SetUnencryptedHTTP2(version == 2)
	var dials atomic.Int64
	return &kept{name: name, url: p.envoy.URL + "/", client: http.Client{Transport: &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials.Add(1) > 1 {
				return nil, errClosed
			}
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, addr)
		},
	}}}
}

// ask makes one call, which is never repeated.
func (c *kept) ask(ctx context.Context, user string, body io.Reader, length int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, body)
	if err != nil {
		return err
	}
	req.ContentLength, req.GetBody = length, nil
	req.Header.Set("X-User-Id", user)
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK || resp.Header.Get("X-Ratelimit-Limit") == "":
		return fmt.Errorf("it is answered with %d and %v, want 200 with limits: %s", resp.StatusCode, resp.Header, text)
	}
	return nil
}

// call makes the next call, with a user of its own.
func (c *kept) call(ctx context.Context) error {
	const body = "{}"
	user := fmt.Sprintf("%s-%d", c.name, c.answered.Load()+1)
	if err := c.ask(ctx, user, strings.NewReader(body), int64(len(body))); err != nil {
		return fmt.Errorf("the call of user %s: %w", user, err)
	}
	c.answered.Add(1)
	return nil
}

// expectOK makes one call.
func (c *kept) expectOK(t *testing.T) {
	t.Helper()
	if err := c.call(t.Context()); err != nil {
		t.Error(err)
	}
}

// askUntilClosed makes one call after another until the connection is closed between two of them.
func (c *kept) askUntilClosed(t *testing.T) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	for {
		switch err := c.call(ctx); {
		case errors.Is(err, errClosed):
			return
		case err != nil:
			t.Error(err)
			return
		}
		<-tick.C
	}
}

// slowCall is a call whose second half is yet to be sent.
type slowCall struct {
	body *io.PipeWriter
	done chan error
}

// begin makes a slow call.
func (c *kept) begin(t *testing.T) *slowCall {
	t.Helper()
	reader, writer := io.Pipe()
	s := &slowCall{writer, make(chan error, 1)}
	go func() { s.done <- c.ask(t.Context(), c.name+"-slow", reader, 2) }()
	if _, err := s.body.Write([]byte("{")); err != nil {
		t.Fatalf("begin a call: %v", err)
	}
	return s
}

// end sends the second half and expects the answer.
func (s *slowCall) end(t *testing.T) {
	t.Helper()
	if _, err := s.body.Write([]byte("}")); err != nil {
		t.Errorf("end a call: %v", err)
	}
	if err := errors.Join(s.body.Close(), <-s.done); err != nil {
		t.Errorf("a call that was under way when the app was told to end fails: %v", err)
	}
}
