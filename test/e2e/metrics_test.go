package e2e

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestMetricsAreAsTheirPageSays scrapes a daemon that has done everything that is counted, and compares what is there with
// docs/metrics.md, both ways: names, types and labels. promtool finds nothing to say about it.
func TestMetricsAreAsTheirPageSays(t *testing.T) {
	t.Parallel()
	d := busyDaemon(t, onRedis(harness.Redis(t)))
	page := get(t, d.URL("/metrics"), "").body
	shown, documented := shownMetrics(t, page), documentedMetrics(t)
	for _, name := range slices.Sorted(maps.Keys(shown)) {
		switch want, ok := documented[name]; {
		case !ok:
			t.Errorf("%s (%s) is not in docs/metrics.md", name, shown[name])
		case want != shown[name]:
			t.Errorf("%s is a %s; docs/metrics.md says %s", name, shown[name], want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if _, ok := shown[name]; !ok {
			t.Errorf("%s is in docs/metrics.md and not at /metrics", name)
		}
	}

	promtool := exec.CommandContext(t.Context(), harness.Promtool(t), "check", "metrics")
	var said bytes.Buffer
	promtool.Stdin, promtool.Stdout, promtool.Stderr = strings.NewReader(page), &said, &said
	if err := promtool.Run(); err != nil || said.Len() > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, said.String())
	}
}

// busyDaemon is a daemon that has admitted, denied, held, settled and released.
func busyDaemon(t *testing.T, env harness.Env) *harness.DaemonProcess {
	t.Helper()
	d := harness.Daemon(t, withPolicy(t, env, spendPolicy(limits{
		user: "2/hour, 1000 tokens/day", global: "1000/hour, 100 USD/day, 10 concurrent",
	})))
	if got := dial(t, d.GRPCAddr).admitted(t, "123", 4); got != 2 {
		t.Fatalf("%d of 4 are admitted, want 2", got)
	}
	for end, body := range map[string]string{"/settle": `{"usage": {"input_tokens": 5}}`, "/release": ""} {
		reserve := `{"user_id": "124", "model": "` + llama + `", "input_tokens": 10, "max_output_tokens": 10}`
		id := posted(t, d, "/v1/reservations", reserve, http.StatusOK).text("reservation_id")
		posted(t, d, "/v1/reservations/"+id+end, body, http.StatusOK)
	}
	harness.WaitFor(t, "what Redis uses is shown", func(ctx context.Context) error {
		r, err := fetch(ctx, d.URL("/metrics"), "")
		if err == nil && !strings.Contains(r.body, "\nratelimitd_redis_may_evict 0") {
			err = errors.New("it is not")
		}
		return err
	})
	return d
}

// shownMetrics reads the type and the labels of each of the daemon's own metrics, as "counter: tier limit".
func shownMetrics(t *testing.T, page string) map[string]string {
	t.Helper()
	labelled := map[string]string{}
	shown := map[string]string{}
	sample := regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? `)
	labelName := regexp.MustCompile(`([a-z_]+)="(?:[^"\\]|\\.)*"`)
	for line := range strings.Lines(page) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" {
			if !strings.HasPrefix(fields[2], "go_") && !strings.HasPrefix(fields[2], "process_") {
				shown[fields[2]] = fields[3]
			}
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		var names []string
		for _, label := range labelName.FindAllStringSubmatch(m[2], -1) {
			if label[1] != "le" {
				names = append(names, label[1])
			}
		}
		slices.Sort(names)
		labelled[m[1]] = strings.Join(names, " ")
	}
	for name, kind := range shown {
		labels, ok := labelled[name]
		if !ok {
			labels, ok = labelled[name+"_count"]
		}
		if !ok {
			t.Errorf("%s has a type and no series", name)
		}
		shown[name] = strings.TrimSpace(kind + ": " + labels)
	}
	return shown
}

// documentedMetrics reads the tables of docs/metrics.md, in the same form.
func documentedMetrics(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `((?:ratelimitd|assistant)_[a-z_]+)` \\| ([a-z]+)[a-z ,]* \\|([^|]*)\\|")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		labels := strings.Fields(strings.ReplaceAll(m[3], "`", ""))
		slices.Sort(labels)
		if _, twice := documented[m[1]]; twice {
			t.Errorf("docs/metrics.md has %s twice", m[1])
		}
		documented[m[1]] = strings.TrimSpace(m[2] + ": " + strings.Join(labels, " "))
	}
	return documented
}
