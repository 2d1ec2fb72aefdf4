package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	rlcommon "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// reply is an answer of Envoy, or of the daemon's HTTP side.
type reply struct {
	status int
	header http.Header
	body   string
}

// httpClient keeps enough connections that a test with many users does not wait for one.
var httpClient = &http.Client{
	Timeout:   harness.Patience,
	Transport: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 10 * time.Second},
}

// fetch gets a page as a user, or as nobody if user is empty.
func fetch(ctx context.Context, url, user string) (reply, error) {
	return fetchWith(ctx, url, user, nil)
}

// fetchWith is fetch with further headers.
func fetchWith(ctx context.Context, url, user string, header map[string]string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return reply{}, fmt.Errorf("ask %s: %w", url, err)
	}
	if user != "" {
		req.Header.Set("X-User-Id", user)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := httpClient.Do(req)
	if err != nil {
		return reply{}, fmt.Errorf("ask %s: %w", url, err)
	}
	defer func() { _ = res.Body.Close() }() // read only
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return reply{}, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	return reply{status: res.StatusCode, header: res.Header, body: string(body)}, nil
}

// get is fetch for a test that cannot go on without an answer.
func get(t *testing.T, url, user string) reply {
	t.Helper()
	r, err := fetch(t.Context(), url, user)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// number returns a header as a whole number.
func (r reply) number(name string) (int, error) {
	n, err := strconv.Atoi(r.header.Get(name))
	if err != nil {
		return 0, fmt.Errorf("the header %s is no whole number: %w", name, err)
	}
	return n, nil
}

// asked tells whether the daemon's numbers are on the answer: without them, Envoy passed the request on its own.
func (r reply) asked() bool { return r.header.Get("X-Ratelimit-Remaining") != "" }

// usage is one limit in the statistics.
type usage struct {
	Current   int64      `json:"current"`
	Limit     int64      `json:"limit"`
	Remaining int64      `json:"remaining"`
	ResetsAt  *time.Time `json:"resets_at"`
}

// stats are the statistics of a user.
type stats struct {
	UserID string           `json:"user_id"`
	Limits map[string]usage `json:"limits"`
	Cost   map[string]any   `json:"cost"`
	Global struct {
		Limits map[string]usage `json:"limits"`
		Cost   map[string]any   `json:"cost"`
	} `json:"global"`
}

// statsOf reads the statistics of a user.
func statsOf(t *testing.T, d *harness.DaemonProcess, user string) stats {
	t.Helper()
	r := get(t, d.URL("/api/v1/assistant/stats?user_id="+user), "")
	if r.status != http.StatusOK {
		t.Fatalf("the statistics answer %d, want 200: %s", r.status, r.body)
	}
	var s stats
	if err := json.Unmarshal([]byte(r.body), &s); err != nil {
		t.Fatalf("read the statistics: %v in %s", err, r.body)
	}
	return s
}

// metric returns the sum of a metric's series that have all of these labels, written as they stand on the page:
// `tier="user"`. A metric without such a series reads 0.
func metric(t *testing.T, d *harness.DaemonProcess, name string, labels ...string) float64 {
	t.Helper()
	var sum float64
	for line := range strings.Lines(get(t, d.URL("/metrics"), "").body) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		metricName, rest, _ := strings.Cut(series, "{")
		if !ok || metricName != name || !hasAll(rest, labels) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("read the metric %q: %v", line, err)
		}
		sum += n
	}
	return sum
}

func hasAll(s string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}

// caller asks a daemon as Envoy does, without one.
type caller struct {
	rls.RateLimitServiceClient

	conn *grpc.ClientConn
}

// dial connects to a daemon. Its target is an address, or "unix:/path".
func dial(t *testing.T, target string) caller {
	t.Helper()
	conn := connect(t, target)
	return caller{RateLimitServiceClient: rls.NewRateLimitServiceClient(conn), conn: conn}
}

func connect(t *testing.T, target string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatalf("connect to %s: %v", target, err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // every call has been answered
	return conn
}

// ask asks for one request of a user and waits for the daemon to listen.
func (c caller) ask(ctx context.Context, user string) (*rls.RateLimitResponse, error) {
	return c.ShouldRateLimit(ctx, request(user), grpc.WaitForReady(true))
}

// request asks for one request of a user.
func request(user string) *rls.RateLimitRequest {
	return &rls.RateLimitRequest{Domain: "assistant", Descriptors: []*rlcommon.RateLimitDescriptor{{
		Entries: []*rlcommon.RateLimitDescriptor_Entry{{Key: "user_id", Value: user}},
	}}}
}

// mustAsk is ask for a test that cannot go on without an answer.
func (c caller) mustAsk(t *testing.T, user string) *rls.RateLimitResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	res, err := c.ask(ctx, user)
	if err != nil {
		t.Fatalf("ask for user %s: %v", user, err)
	}
	return res
}

// admitted asks n times and returns how often the answer was OK. Every answer must come from the store.
func (c caller) admitted(t *testing.T, user string, n int) int {
	t.Helper()
	var ok int
	for range n {
		res := c.mustAsk(t, user)
		if isOK(res) {
			ok++
		}
		if failedOpen(res) {
			t.Fatalf("the daemon failed open while its store was there: %v", res)
		}
	}
	return ok
}

func isOK(res *rls.RateLimitResponse) bool { return res.GetOverallCode() == rls.RateLimitResponse_OK }

// failedOpen tells whether the answer's metadata says that the store was not asked.
func failedOpen(res *rls.RateLimitResponse) bool {
	return res.GetDynamicMetadata().GetFields()["fail_open"].GetBoolValue()
}
