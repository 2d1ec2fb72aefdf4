package monitoring_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
	"github.com/ratelimitd/ratelimitd/test/monitoring"
)

// TestEveryQueryReturnsData runs daemons under load before a real Prometheus, and asks it every query of every panel, rule and
// runbook.
func TestEveryQueryReturnsData(t *testing.T) {
	client := &http.Client{}
	t.Cleanup(client.CloseIdleConnections)
	stack := monitoring.Start(t, monitoring.Timing{Scrape: time.Second, Decision: "1s"})
	api := monitoring.API{URL: stack.Prometheus.URL, Client: client}
	underLoad(t, stack, api)

	for _, name := range monitoring.DashboardNames() {
		t.Run("dashboard "+name, func(t *testing.T) { dashboardHasData(t, api, name) })
	}
	t.Run("rules", func(t *testing.T) { rulesHaveData(t, api) })
	t.Run("runbooks", func(t *testing.T) { runbooksCanBeAsked(t, api) })
}

// underLoad has users call for as long as the test runs, with a store that goes away and comes back, and a policy that is wrong
// and is mended.
func underLoad(t *testing.T, stack *monitoring.Stack, api monitoring.API) {
	load := monitoring.NewLoad(t, stack)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		load.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	waitForData(t, api, `ratelimitd_cost_usd_total{flow="settled"} > 0`)
	waitForData(t, api, "ratelimitd_limit_used > 0")
	stack.BreakPolicy()
	waitForData(t, api, "ratelimitd_policy_reload_success == 0")
	stack.MendPolicy()
	stack.Redis.Pause()
	waitForData(t, api, "ratelimitd_store_up == 0")
	waitForData(t, api, `ratelimitd_decisions_total{mode="failed_open"}`)
	waitForData(t, api, `ratelimitd_decisions_total{mode="failed_shut"}`)
	stack.Redis.Resume()
	waitForData(t, api, "ratelimitd_store_up == 1")
	waitForData(t, api, "min(ratelimitd_policy_reload_success) == 1")
	waitForData(t, api, `ratelimitd_reservations_ended_total{end="late"} > 0`)
	waitForData(t, api, "ratelimitd_lease_expiries_total > 0")
	waitForData(t, api, "ratelimitd_local_answers_total > 0")
	waitForData(t, api, `ratelimitd_decisions_total{mode="shadow"}`)
	waitForData(t, api, `ratelimitd_cost_usd_total{flow="saved"} > 0`)
}

// waitForData waits until a query returns something.
func waitForData(t *testing.T, api monitoring.API, query string) {
	t.Helper()
	harness.WaitFor(t, query+" returns data", func(ctx context.Context) error { return hasData(ctx, api, query) })
}

// hasData errs unless a query returns something.
func hasData(ctx context.Context, api monitoring.API, query string) error {
	series, err := api.Query(ctx, query)
	if err == nil && len(series) == 0 {
		err = errors.New("it returns nothing")
	}
	return err
}

// dashboardHasData asks each query of a dashboard, and each metric in it for itself: what stands in for no data would hide it.
func dashboardHasData(t *testing.T, api monitoring.API, name string) {
	d, err := monitoring.ReadDashboard(harness.Root(t), name)
	if err != nil {
		t.Fatal(err)
	}
	chosen := monitoring.Variables{Job: monitoring.Job, Namespace: monitoring.Namespace, RateInterval: "1m", Range: "1h"}
	var targets []monitoring.Target
	for _, mark := range d.Annotations.List {
		if mark.Expr != "" { // what is marked may be long over
			mark.Expr = monitoring.Parts(mark.Expr)[0]
		}
		targets = append(targets, mark)
	}
	for _, panel := range d.Panels {
		targets = append(targets, panel.Targets...)
	}
	asked := 0
	for _, target := range targets {
		if target.Expr == "" {
			continue
		}
		asked++
		query := chosen.Resolve(target.Expr)
		if strings.Contains(query, "$") {
			t.Errorf("%s holds a variable that is not known", query)
			continue
		}
		t.Run(query, func(t *testing.T) {
			waitForData(t, api, query)
			for _, selector := range monitoring.Selectors(query) {
				waitForData(t, api, selector)
			}
			legendsAreWhole(t, api, query, target.LegendFormat)
			if target.Exemplar {
				waitForTraces(t, api, query)
			}
		})
	}
	if asked < len(d.Panels)/2 {
		t.Errorf("%d queries are found in %d panels: this test looks in the wrong place", asked, len(d.Panels))
	}
	for _, variable := range d.Templating.List {
		if variable.Type == "query" {
			variableHasValues(t, api, chosen.Resolve(variable.Definition))
		}
	}
}

// waitForTraces waits until a query has exemplars, which Grafana asks for besides.
func waitForTraces(t *testing.T, api monitoring.API, query string) {
	t.Helper()
	harness.WaitFor(t, query+" has exemplars", func(ctx context.Context) error {
		ids, err := api.Traces(ctx, query, time.Now().Add(-time.Hour))
		if err == nil && len(ids) == 0 {
			err = errors.New("none has the id of a trace")
		}
		return err
	})
}

var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// legendsAreWhole checks that each label of a legend is one that the answer has.
func legendsAreWhole(t *testing.T, api monitoring.API, query, legend string) {
	series, err := api.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range legendLabel.FindAllStringSubmatch(legend, -1) {
		for _, s := range series {
			if s.Labels[label[1]] == "" {
				t.Errorf("the legend %q names the label %s, which the series %v does not have", legend, label[1], s.Labels)
			}
		}
	}
}

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// variableHasValues asks for what a reader can choose.
func variableHasValues(t *testing.T, api monitoring.API, definition string) {
	parts := labelValues.FindStringSubmatch(definition)
	if parts == nil {
		t.Errorf("the variable is defined by %q, want label_values(SELECTOR, LABEL)", definition)
		return
	}
	values, err := api.LabelValues(t.Context(), parts[2], parts[1])
	if err != nil || len(values) == 0 {
		t.Errorf("%s returns %q, want values (%v)", definition, values, err)
	}
}

// rulesHaveData asks what each rule looks at, and whether Prometheus itself could evaluate it.
func rulesHaveData(t *testing.T, api monitoring.API) {
	count := 0
	for _, group := range groups(t) {
		for _, rule := range group.Rules {
			count++
			parts := []string{rule.Expr}
			if rule.Alert != "" {
				parts = monitoring.Parts(rule.Expr)
			}
			t.Run(rule.Name(), func(t *testing.T) {
				for _, part := range parts {
					waitForData(t, api, part)
					for _, selector := range monitoring.Selectors(part) {
						waitForData(t, api, selector)
					}
				}
			})
		}
	}
	harness.WaitFor(t, "every rule was evaluated", func(ctx context.Context) error {
		loaded, err := api.Rules(ctx)
		if err == nil && len(loaded) != count {
			err = fmt.Errorf("%d rules are loaded, want %d", len(loaded), count)
		}
		for _, rule := range loaded {
			if rule.Health != "ok" {
				err = errors.Join(err, fmt.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.Error))
			}
		}
		return err
	})
}

// notPromQL is how lines of runbooks begin that are for a shell.
var notPromQL = regexp.MustCompile(`^(redis-cli|kubectl|curl|ratelimitd [a-z])`)

// runbooksCanBeAsked asks each query of a runbook. Most return nothing while all is well.
func runbooksCanBeAsked(t *testing.T, api monitoring.API) {
	pages, err := filepath.Glob(filepath.Join(harness.Root(t), "docs", "runbooks", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, query := range queriesOf(string(text)) {
			asked++
			if _, err := api.Query(t.Context(), query); err != nil {
				t.Errorf("%s: %v", filepath.Base(page), err)
			}
		}
	}
	if asked < len(pages) {
		t.Errorf("%d queries are found in %d runbooks: this test looks in the wrong place", asked, len(pages))
	}
}

// queriesOf returns the queries of a runbook: what stands four columns in, with the lines further in that follow.
func queriesOf(text string) []string {
	var queries []string
	for line := range strings.Lines(text) {
		code, found := strings.CutPrefix(line, "    ")
		code = strings.TrimRight(code, "\n")
		switch {
		case !found, notPromQL.MatchString(code):
		case strings.HasPrefix(code, " ") && len(queries) > 0:
			queries[len(queries)-1] += code
		default:
			queries = append(queries, code)
		}
	}
	return queries
}
