package monitoring

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// Job and Namespace are the labels that the daemons of a stack are scraped under.
const (
	Job       = "ratelimitd"
	Namespace = "assistant"
)

// Stack is two daemons over one Redis, whose calls are traced, and a Prometheus that scrapes them and has the rules loaded.
type Stack struct {
	Redis      *harness.RedisServer
	Daemons    []*harness.DaemonProcess
	Prometheus *harness.PrometheusServer

	t      harness.TB
	policy string // the policy's file
}

// Timing is how fast a stack goes.
type Timing struct {
	Scrape   time.Duration // between two scrapes, and two evaluations of the rules
	Decision string        // the daemons' decision timeout
}

// policyText is what the daemons enforce. Users may do little, so that some are denied; an organisation is denied while the store
// is away, a user is not.
const policyText = `domain: assistant
subjects:
  user: {key: user_id, default_plan: standard, on_store_failure: allow}
  org: {key: org_id, default_plan: org, on_store_failure: deny}
plans:
  standard:
    limits:
      - 30/minute
      - {limit: 10/10s, name: burst, shadow: true}
      - 20 USD/day
  org: {limits: [1000000/day]}
global:
  limits:
    - 60000/hour
    - 40 concurrent
    - 100000000 tokens/day
    - 160 USD/day
    - {limit: 1000 USD/month, window: calendar}
cost:
  prices:
    llama-3.2-3b-instruct: {input: 0.0000002, output: 0.0000006}
    claude-sonnet-4-5: {per: 1M, input: 3, output: 15}
    gpt-4o: {per: 1M, input: 2.50, output: 10}
  on_unknown_price: allow_and_flag
  hold: {model: llama-3.2-3b-instruct, input_tokens: 4000, max_output_tokens: 1000}
`

// Start starts a stack and returns when all of it answers. It ends with the test.
func Start(t harness.TB, timing Timing) *Stack {
	t.Helper()
	s := &Stack{t: t, policy: filepath.Join(t.TempDir(), "policy.yaml")}
	s.write(s.policy, policyText)
	s.Redis = harness.Redis(t, harness.WithArgs("--maxmemory", "256mb"))
	collector := httptest.NewServer(http.HandlerFunc(forget))
	t.Cleanup(collector.Close)
	for range 2 {
		s.Daemons = append(s.Daemons, harness.Daemon(t, harness.Env{
			"REDIS_URL": "redis://" + s.Redis.Addr, "RATELIMITD_POLICY": s.policy, "RATELIMITD_DECISION_TIMEOUT": timing.Decision,
			"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL,
		}))
	}
	config := filepath.Join(t.TempDir(), "prometheus.yaml")
	s.write(config, s.config(timing.Scrape))
	s.Prometheus = harness.Prometheus(t, config)
	return s
}

// forget takes spans and keeps none: it is enough that calls are traced, since latencies then have exemplars.
func forget(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // a daemon that has gone away sends nothing more
}

// config is what Prometheus is told.
func (s *Stack) config(interval time.Duration) string {
	var rules, targets strings.Builder
	root := harness.Root(s.t)
	for _, name := range ruleFiles() {
		fmt.Fprintf(&rules, "  - %s\n", filepath.Join(root, name))
	}
	for i, d := range s.Daemons {
		fmt.Fprintf(&targets, "      - targets: [%q]\n        labels: {instance: ratelimitd-%d, namespace: %s}\n",
			d.HTTPAddr, i, Namespace)
	}
	return fmt.Sprintf("global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: %[1]s}\nrule_files:\n%[2]s"+
		"scrape_configs:\n  - job_name: %[3]s\n    static_configs:\n%[4]s", interval, &rules, Job, &targets)
}

// BreakPolicy gives the daemons a policy that they must refuse.
func (s *Stack) BreakPolicy() { s.reload(policyText + "nonsense: true\n") }

// MendPolicy gives the daemons a policy that they take.
func (s *Stack) MendPolicy() { s.reload(policyText + "# mended\n") }

func (s *Stack) reload(text string) {
	s.write(s.policy, text)
	for _, d := range s.Daemons {
		d.Reload()
	}
}

func (s *Stack) write(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatalf("write %s: %v", filepath.Base(path), err)
	}
}
