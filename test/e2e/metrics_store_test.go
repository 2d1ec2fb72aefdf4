package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestEveryDaemonShowsTheSystemsLimits reads them from two daemons of one store, and from one whose store hangs.
func TestEveryDaemonShowsTheSystemsLimits(t *testing.T) {
	t.Parallel()
	redis := harness.Redis(t)
	env := withPolicy(t, onRedis(redis), spendPolicy(limits{
		user: "100/hour", global: "1000/hour, 50000 tokens/day, 100 USD/month, 10 concurrent",
	}))
	daemons := []*harness.DaemonProcess{harness.Daemon(t, env), harness.Daemon(t, env)}
	dial(t, daemons[0].GRPCAddr).admitted(t, "123", 3)
	posted(t, daemons[1], "/v1/reservations",
		`{"user_id": "124", "model": "`+llama+`", "input_tokens": 1000, "max_output_tokens": 500}`, http.StatusOK)
	for i, d := range daemons {
		harness.WaitFor(t, "what was used is shown", func(ctx context.Context) error { // an answer may be a second old
			page, err := fetch(ctx, d.URL("/metrics"), "")
			if err != nil {
				return err
			}
			for _, want := range []string{
				`limit_max{limit="hour",tier="global",unit="requests",window="sliding"} 1000`,
				`limit_used{limit="hour",tier="global",unit="requests",window="sliding"} 4`,
				`limit_period_seconds{limit="hour",tier="global",unit="requests",window="sliding"} 3600`,
				`limit_used{limit="day",tier="global",unit="tokens",window="sliding"} 1500`,
				`limit_held{limit="day",tier="global",unit="tokens",window="sliding"} 1500`,
				`limit_used{limit="month",tier="global",unit="usd",window="sliding"} 0.0005`,
				`limit_held{limit="month",tier="global",unit="usd",window="sliding"} 0.0005`,
				`slots_in_use 1`, `slots_max 10`,
			} {
				if !strings.Contains(page.body, "\nratelimitd_"+want+"\n") {
					return fmt.Errorf("daemon %d does not show %s", i, want)
				}
			}
			return nil
		})
	}

	redis.Pause()
	harness.WaitFor(t, "what the store no longer says is not shown", func(ctx context.Context) error {
		page, err := fetch(ctx, daemons[0].URL("/metrics"), "")
		if err == nil && (strings.Contains(page.body, "ratelimitd_limit_") || strings.Contains(page.body, "ratelimitd_slots_")) {
			err = errors.New("it is")
		}
		return err
	})
	redis.Resume()
}

// TestALeaseThatIsOverIsCountedByAScrape leaves a reservation to its lease: nobody asks for it again, but the scrapes do.
func TestALeaseThatIsOverIsCountedByAScrape(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, env harness.Env) {
		d := harness.Daemon(t, withPolicy(t, env, spendPolicy(limits{user: "100/hour", global: "100 USD/day, 10 concurrent"})))
		posted(t, d, "/v1/reservations", `{"user_id": "123", "model": "`+llama+`", "max_output_tokens": 500, "ttl": "1s"}`, http.StatusOK)
		if got := metric(t, d, "ratelimitd_reservations_started_total"); got != 1 {
			t.Errorf("%v reservations have begun, want 1", got)
		}
		harness.WaitFor(t, "the end of the lease is counted", func(ctx context.Context) error {
			page, err := fetch(ctx, d.URL("/metrics"), "")
			if err == nil && !strings.Contains(page.body, "\nratelimitd_lease_expiries_total 1\n") {
				err = errors.New("it is not")
			}
			return err
		})
		harness.WaitFor(t, "its slot is free", func(ctx context.Context) error {
			page, err := fetch(ctx, d.URL("/metrics"), "")
			if err == nil && !strings.Contains(page.body, "\nratelimitd_slots_in_use 0\n") {
				err = errors.New("it is not")
			}
			return err
		})
	})
}

// TestARedisThatMayEvictIsToldOf starts daemons over servers that may evict keys, and over one that does not say.
func TestARedisThatMayEvictIsToldOf(t *testing.T) {
	t.Parallel()
	const evicts = "ratelimitd_redis_may_evict"
	t.Run("one server", func(t *testing.T) {
		t.Parallel()
		server := harness.Redis(t, harness.WithArgs("--maxmemory", "32mb", "--maxmemory-policy", "allkeys-lru"))
		d := harness.Daemon(t, onRedis(server))
		waitForLog(t, d, "maxmemory-policy noeviction")
		for name, want := range map[string]float64{evicts: 1, "ratelimitd_redis_memory_max_bytes": 32 << 20} {
			if got := metric(t, d, name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		if used := metric(t, d, "ratelimitd_redis_memory_used_bytes"); used <= 0 || used >= 32<<20 {
			t.Errorf("%v bytes are said to be used, want some of 32 MiB", used)
		}
	})
	t.Run("a Cluster", func(t *testing.T) {
		t.Parallel()
		cluster := harness.Cluster(t)
		if err := cluster.Servers[1].Client.ConfigSet(t.Context(), "maxmemory-policy", "volatile-lfu").Err(); err != nil {
			t.Fatal(err)
		}
		d := harness.Daemon(t, harness.Env{"REDIS_ADDRS": strings.Join(cluster.Addrs, ","), "REDIS_CLUSTER": "true"})
		waitForLog(t, d, `"maxmemory_policy":"volatile-lfu"`)
		if got := metric(t, d, evicts); got != 1 {
			t.Errorf("%s is %v with one master of three that may, want 1", evicts, got)
		}
	})
	t.Run("a user without the right to ask", func(t *testing.T) {
		t.Parallel()
		server := harness.Redis(t, harness.WithArgs("--maxmemory-policy", "allkeys-lru"))
		acl := []any{"ACL", "SETUSER", "limiter", "on", ">secret", "~*", "&*", "+@all", "-info"}
		if err := server.Client.Do(t.Context(), acl...).Err(); err != nil {
			t.Fatal(err)
		}
		d := harness.Daemon(t, harness.Env{"REDIS_URL": "redis://limiter:secret@" + server.Addr, "RATELIMITD_POLICY": "production"})
		waitForLog(t, d, "+info")
		if page := get(t, d.URL("/metrics"), "").body; strings.Contains(page, "ratelimitd_redis_") {
			t.Error("the metrics hold what Redis has not said")
		}
		if got := dial(t, d.GRPCAddr).admitted(t, "123", 11); got != 10 {
			t.Errorf("%d of 11 are admitted, want 10: decisions do without INFO", got)
		}
	})
}

func waitForLog(t *testing.T, d *harness.DaemonProcess, text string) {
	t.Helper()
	harness.WaitFor(t, "the log says "+text, func(context.Context) error {
		if !strings.Contains(d.Log(), text) {
			return fmt.Errorf("it says:\n%s", d.Log())
		}
		return nil
	})
}

// TestLatenciesNameTheTraceOfACall asks for the metrics as a Prometheus does that keeps exemplars.
func TestLatenciesNameTheTraceOfACall(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]harness.Env{
		"traces on":  {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + harness.Addr(t)}, // nobody listens, which hinders no one
		"traces off": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := harness.Daemon(t, env)
			const quote = `{"user_id": "123", "max_cost_usd": "0.01"}`
			status, body := traced(t, http.MethodPost, d.URL("/v1/quote"), "", clientParent, quote)
			if status != http.StatusOK {
				t.Fatalf("a quote is answered %d: %s", status, body)
			}
			page := openMetrics(t, d)
			named := strings.Contains(page, `# {trace_id="`+clientTrace+`"}`)
			if want := len(env) > 0; named != want {
				t.Errorf("the trace of the call is named: %t, want %t:\n%s", named, want, page)
			}
		})
	}
}

// openMetrics reads the metrics in the format that has exemplars.
func openMetrics(t *testing.T, d *harness.DaemonProcess) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.URL("/metrics"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := httpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text") {
		t.Errorf("the page is of type %s, want OpenMetrics", got)
	}
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}
