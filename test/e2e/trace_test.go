package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// What a client of these tests sends: a trace of its own, which is to be kept.
const (
	clientTrace  = "0af7651916cd43dd8448eb211c80319c"
	clientSpan   = "b7ad6b7169203331"
	clientParent = "00-" + clientTrace + "-" + clientSpan + "-01"
)

// tracedTo is the environment of a daemon that sends traces to a collector.
func tracedTo(c *harness.CollectorProcess, protocol string, env harness.Env) harness.Env {
	addr := c.HTTPAddr
	if protocol == "grpc" {
		addr = c.GRPCAddr
	}
	env = with(with(env, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+addr), "OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
	return with(env, "OTEL_BSP_SCHEDULE_DELAY", "10")
}

// tracingEnvoy writes deploy/envoy/envoy.yaml with the two pieces that docs/tracing.md shows put in, and returns its path relative
// to the repository's root.
func tracingEnvoy(t *testing.T, collector string) string {
	t.Helper()
	doc := readFile(t, "docs/tracing.md")
	piece := func(begin string) string {
		_, rest, ok := strings.Cut(doc, "```yaml\n"+begin+"\n")
		text, _, closed := strings.Cut(rest, "```")
		if !ok || !closed {
			t.Fatalf("docs/tracing.md shows no piece %q", begin)
		}
		return text
	}
	conf := readFile(t, harness.EnvoyFile)
	const manager, clusters = "          stat_prefix: assistant\n", "  clusters:\n"
	for _, anchor := range []string{manager, clusters} {
		if strings.Count(conf, anchor) != 1 {
			t.Fatalf("%s says %q not once", harness.EnvoyFile, anchor)
		}
	}
	_, port, _ := strings.Cut(collector, ":")
	cluster := strings.ReplaceAll(indented(2, piece("# Envoy: a cluster")), "port_value: 4317", "port_value: "+port)
	conf = strings.Replace(conf, manager, manager+indented(10, piece("# Envoy: the connection manager")), 1)
	conf = strings.Replace(conf, clusters, clusters+cluster, 1)
	path := filepath.Join(t.TempDir(), "envoy-tracing.yaml")
	writeFile(t, path, conf)
	relative, err := filepath.Rel(harness.Root(t), path)
	if err != nil {
		t.Fatal(err)
	}
	return relative
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// indented puts spaces before every line.
func indented(by int, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Repeat(" ", by) + line)
	}
	return b.String()
}

// request sends a request with a trace and returns its status and its body.
func traced(t *testing.T, method, url, user, parent, body string) (status int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if parent != "" {
		req.Header.Set("Traceparent", parent)
	}
	req.Header.Set("X-User-Id", user)
	req.Header.Set("Content-Type", "application/json")
	res, err := httpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// is looks for a span of ratelimitd by its name and an attribute.
func is(name, attribute string, value any) func(*harness.Span) bool {
	return func(s *harness.Span) bool { return s.Name == name && s.Attributes[attribute] == value }
}

const asksEnvoy = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"

// TestOneTraceFromEnvoyToTheStore follows one request with a trace of its client's through Envoy, ratelimitd and its store, as a real
// collector takes it. A denial says so, and is no error; nothing in any span names the user.
func TestOneTraceFromEnvoyToTheStore(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			c := harness.Collector(t)
			env := tracedTo(c, protocol, onRedis(harness.Redis(t)))
			daemon := harness.Daemon(t, withPolicy(t, env, limits{user: "1/hour", global: "1000/hour"}.text()))
			upstream := harness.Upstream(t)
			envoy := harness.Envoy(t, tracingEnvoy(t, c.GRPCAddr), harness.Between(t, upstream.Addr, daemon.GRPCAddr))

			const user = "someone-secret"
			for i, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
				if status, body := traced(t, http.MethodGet, envoy.URL, user, clientParent, ""); status != want {
					t.Fatalf("request %d is answered with %d %s, want %d", i, status, body, want)
				}
			}
			for _, verdict := range []string{"allowed", "denied"} {
				call := c.WaitFor("the span of a call that was "+verdict, is(asksEnvoy, "ratelimitd.verdict", verdict))
				checkCall(t, c, &call, verdict)
				checkAbove(t, c, &call)
			}
			checkNothingSays(t, c, user)
		})
	}
}

// checkCall checks ratelimitd's span of a call, and that of its question to the store.
func checkCall(t *testing.T, c *harness.CollectorProcess, call *harness.Span, verdict string) {
	t.Helper()
	if call.TraceID != clientTrace || call.Service != "ratelimitd" || call.Kind != tracev1.Span_SPAN_KIND_SERVER || call.Error {
		t.Errorf("the span of the call is %+v, want one of ratelimitd in the client's trace, and no error", call)
	}
	for name, want := range map[string]any{
		"ratelimitd.mode": "stored", "ratelimitd.tier": "user", "ratelimitd.limit": "hour", "ratelimitd.verdict": verdict,
	} {
		if got := call.Attributes[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if tiers, ok := call.Attributes["ratelimitd.tiers"].([]any); !ok || !slices.Equal(tiers, []any{"user", "global"}) {
		t.Errorf("the tiers are %v, want user and global", call.Attributes["ratelimitd.tiers"])
	}
	if retry, ok := call.Attributes["ratelimitd.retry_after"].(float64); ok != (verdict == "denied") || retry < 0 || retry > 3600 {
		t.Errorf("a call that was %s has the wait %v", verdict, call.Attributes["ratelimitd.retry_after"])
	}
	question := c.WaitFor("the span of the store", func(s *harness.Span) bool { return s.ParentID == call.ID })
	if question.Name != "admit redis" || question.TraceID != clientTrace || question.Attributes["db.system.name"] != "redis" ||
		question.Attributes["ratelimitd.checks"] != int64(2) {
		t.Errorf("the question to the store is %+v, want an admit of redis with 2 checks", question)
	}
}

// checkAbove follows the parents of a call up to the client's span: all are Envoy's.
func checkAbove(t *testing.T, c *harness.CollectorProcess, call *harness.Span) {
	t.Helper()
	above := 0
	for id := call.ParentID; id != clientSpan; above++ {
		s := c.WaitFor("the span above "+call.Name, func(s *harness.Span) bool { return s.ID == id })
		if s.Service != "envoy" || s.TraceID != clientTrace {
			t.Errorf("above the call is %+v, want a span of Envoy in the client's trace", s)
		}
		if id = s.ParentID; id == "" {
			t.Fatalf("%s is a root, want the client's span above it", s.Name)
		}
	}
	if above != 2 {
		t.Errorf("%d spans are between the client and ratelimitd, want 2: Envoy's of the request and of its question", above)
	}
}

// checkNothingSays looks for a text in all that ratelimitd's spans hold.
func checkNothingSays(t *testing.T, c *harness.CollectorProcess, text string) {
	t.Helper()
	for _, s := range c.Spans() {
		if s.Service == "ratelimitd" && strings.Contains(fmt.Sprintf("%+v", s), text) {
			t.Errorf("a span holds %q: %+v", text, s)
		}
	}
}

// TestTheCostAPIInATrace reserves and settles over HTTP, in the client's trace: the spans are named by their routes, and say what was
// held and what it came to.
func TestTheCostAPIInATrace(t *testing.T) {
	t.Parallel()
	c := harness.Collector(t)
	env := with(tracedTo(c, "http/protobuf", harness.Env{}), "OTEL_SERVICE_NAME", "limits")
	env = with(env, "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,team=a%2Cb")
	policy := costPolicy{user: "1000/hour, 5 USD/day", global: "100 concurrent, 100 USD/day"}
	daemon := harness.Daemon(t, withPolicy(t, env, policy.text()))

	status, body := traced(t, http.MethodPost, daemon.URL("/v1/reservations"), "", clientParent,
		`{"user_id":"someone-secret","model":"llama-3.2-3b-instruct","input_tokens":1000,"max_output_tokens":1000}`)
	var grant struct {
		ID string `json:"reservation_id"`
	}
	if err := json.Unmarshal([]byte(body), &grant); err != nil || status != http.StatusOK {
		t.Fatalf("a reservation is answered with %d %s", status, body)
	}
	status, body = traced(t, http.MethodPost, daemon.URL("/v1/reservations/"+grant.ID+"/settle"), "", clientParent,
		`{"usage":{"input_tokens":868,"output_tokens":145}}`)
	if status != http.StatusOK {
		t.Fatalf("a settlement is answered with %d %s", status, body)
	}

	reserve := c.WaitFor("the reservation", is("POST /v1/reservations", "ratelimitd.verdict", "allowed"))
	if reserve.TraceID != clientTrace || reserve.ParentID != clientSpan || reserve.Attributes["ratelimitd.held_usd"] != 0.0008 ||
		reserve.Attributes["http.response.status_code"] != int64(200) {
		t.Errorf("the reservation is %+v, want 0.0008 USD held, in the client's trace", reserve)
	}
	if reserve.Service != "limits" || reserve.Resource["team"] != "a,b" || reserve.Resource["deployment.environment.name"] != "test" {
		t.Errorf("the process says of itself %v, want what the environment does", reserve.Resource)
	}
	settle := c.WaitFor("the settlement", is("POST /v1/reservations/{reservation_id}/settle", "ratelimitd.end", "settled"))
	if settle.TraceID != clientTrace || settle.Attributes["ratelimitd.cost_usd"] != 0.0002606 {
		t.Errorf("the settlement is %+v, want 0.0002606 USD, in the client's trace", settle)
	}
	c.WaitFor("the store's settlement", func(s *harness.Span) bool { return s.ParentID == settle.ID && s.Name == "settle memory" })

	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/api/v1/assistant/health"} {
		traced(t, http.MethodGet, daemon.URL(path), "", clientParent, "")
	}
	if out := harness.RunDaemon(t, nil, "health", daemon.GRPCAddr); out.Code != 0 {
		t.Errorf("the daemon's health: %s", out.Text)
	}
	if status, body := traced(t, http.MethodGet, daemon.URL("/v1/users/someone-secret/usage"), "", clientParent, ""); status != http.StatusOK {
		t.Errorf("usage is answered with %d %s", status, body)
	}
	c.WaitFor("the usage", func(s *harness.Span) bool { return s.Name == "GET /v1/usage" })
	for _, s := range c.Spans() {
		if strings.Contains(s.Name, "ealth") || strings.Contains(s.Name, "metrics") || strings.Contains(s.Name, "readyz") {
			t.Errorf("%s is a span, want none of health checks and metrics", s.Name)
		}
	}
	checkNothingSays(t, c, "someone-secret")
}

// TestWithoutTheVariablesThereAreNoTraces starts daemons beside a collector that are not told of it, or told not to send.
func TestWithoutTheVariablesThereAreNoTraces(t *testing.T) {
	t.Parallel()
	c := harness.Collector(t)
	off := tracedTo(c, "http/protobuf", harness.Env{})
	for _, env := range []harness.Env{
		{}, with(off, "OTEL_SDK_DISABLED", "true"), with(off, "OTEL_TRACES_EXPORTER", "none"), with(off, "OTEL_TRACES_SAMPLER", "always_off"),
	} {
		daemon := harness.Daemon(t, env)
		traced(t, http.MethodPost, daemon.URL("/v1/quote"), "", clientParent, `{"user_id":"a","model":"gpt-4o"}`)
		daemon.Terminate()
		if err := daemon.Wait(); err != nil {
			t.Errorf("a daemon with %v ends with %v", env, err)
		}
	}
	if spans := c.Spans(); len(spans) != 0 {
		t.Errorf("%d spans were sent, want none: %+v", len(spans), spans)
	}
}

// TestADeadCollectorDelaysNobody sends traces to where nobody listens: answers come as ever, the log says now and then that traces are
// lost, and the daemon stops in time, with status 0.
func TestADeadCollectorDelaysNobody(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			env := harness.Env{
				"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + harness.Addr(t), "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
				"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_BSP_MAX_QUEUE_SIZE": "64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
				"OTEL_EXPORTER_OTLP_TIMEOUT": "200",
			}
			daemon := harness.Daemon(t, withPolicy(t, env, limits{user: "100000/hour", global: "100000/hour"}.text()))
			for range 500 { // several times what may wait
				status, body := traced(t, http.MethodPost, daemon.URL("/v1/reservations"), "", clientParent, `{"user_id":"a","max_cost_usd":"0.01"}`)
				if status != http.StatusOK {
					t.Fatalf("a call is answered with %d %s", status, body)
				}
			}
			harness.WaitFor(t, "the log says that traces are lost", func(context.Context) error {
				if !strings.Contains(daemon.Log(), "traces were not sent") {
					return errors.New("it does not")
				}
				return nil
			})
			if page := get(t, daemon.URL("/metrics"), "").body; !regexp.MustCompile(`(?m)^ratelimitd_spans_dropped_total [1-9]`).MatchString(page) {
				t.Error("no span is counted as dropped")
			}
			daemon.Terminate()
			began := time.Now()
			if err := daemon.Wait(); err != nil {
				t.Errorf("the daemon ends with %v, want status 0: a dead collector is no reason to fail", err)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("the daemon takes %s to stop, want at most its 3 seconds for the last traces", took)
			}
			for line := range strings.Lines(daemon.Log()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("the log has a line that is no JSON: %s", line)
				}
			}
		})
	}
}
