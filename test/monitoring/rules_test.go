package monitoring_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/ratelimitd/ratelimitd/test/harness"
	"github.com/ratelimitd/ratelimitd/test/monitoring"
)

// runbooks is where the page of an alert is found by whoever is woken.
const runbooks = "https://github.com/ratelimitd/ratelimitd/blob/main/docs/runbooks/"

// TestPromtoolTakesTheRules has promtool check the rules and run their unit tests.
func TestPromtoolTakesTheRules(t *testing.T) {
	dir := filepath.Join(harness.Root(t), "deploy", "prometheus")
	promtool := harness.Promtool(t)
	out := run(t, dir, promtool, "check", "rules", "rules.yaml", "alerts.yaml")
	if strings.Count(out, "SUCCESS") != 2 {
		t.Errorf("promtool check rules says\n%s", out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "tests", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no unit tests of the rules are found: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			run(t, filepath.Dir(file), promtool, "test", "rules", filepath.Base(file))
		})
	}
}

// TestEachAlertIsSeenToFire looks for each alert in the unit tests: with its texts, and among those that fire.
func TestEachAlertIsSeenToFire(t *testing.T) {
	type unitTests struct {
		Tests []struct {
			Exprs []struct {
				Samples []struct{ Labels string } `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
			Alerts []struct {
				Name string `yaml:"alertname"`
				Exp  []struct {
					Labels map[string]string `yaml:"exp_labels"`
				} `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	fires, says := map[string]bool{}, map[string]bool{}
	files, _ := filepath.Glob(filepath.Join(harness.Root(t), "deploy", "prometheus", "tests", "*.yaml"))
	for _, file := range files {
		var tests unitTests
		read(t, file, &tests)
		for _, test := range tests.Tests {
			for _, expr := range test.Exprs {
				for _, sample := range expr.Samples {
					fires[sample.Labels] = true
				}
			}
			for _, alert := range test.Alerts {
				for _, exp := range alert.Exp {
					says[alert.Name+" "+exp.Labels["severity"]+" "+exp.Labels["threshold"]] = true
				}
			}
		}
	}
	for _, rule := range alerts(t) {
		severity, threshold := rule.Labels["severity"], rule.Labels["threshold"]
		if !says[rule.Alert+" "+severity+" "+threshold] {
			t.Errorf("no unit test says what %s (%s) says", rule.Name(), severity)
		}
		seen := false
		for labels := range fires {
			seen = seen || strings.Contains(labels, `alertname="`+rule.Alert+`", severity="`+severity+`"`) &&
				(threshold == "" || strings.Contains(labels, `threshold="`+threshold+`"`))
		}
		if !seen {
			t.Errorf("no unit test lists %s (%s) among the alerts that fire", rule.Name(), severity)
		}
	}
}

// TestAlertsSayWhatTheyMust checks what whoever is woken reads.
func TestAlertsSayWhatTheyMust(t *testing.T) {
	for _, rule := range alerts(t) {
		if !strings.HasPrefix(rule.Alert, "Ratelimitd") {
			t.Errorf("%s: the name does not begin with Ratelimitd, by which the Alertmanager knows our alerts", rule.Name())
		}
		if !slices.Contains([]string{"info", "warning", "critical"}, rule.Labels["severity"]) {
			t.Errorf("%s has the severity %q, want info, warning or critical", rule.Name(), rule.Labels["severity"])
		}
		if rule.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", rule.Name())
		}
		description := rule.Annotations["description"]
		if !strings.Contains(description, "$labels.job") || !strings.Contains(description, "$value") && !strings.Contains(rule.Expr, "== ") {
			t.Errorf("%s: the description %q does not tell the value and the job", rule.Name(), description)
		}
		if got, want := rule.Annotations["runbook_url"], runbooks+rule.Alert+".md"; got != want {
			t.Errorf("%s has the runbook_url %q, want %q", rule.Name(), got, want)
		}
	}
}

// TestRunbooks checks that each alert has a page, each page an alert, and each page what a reader in a hurry looks for.
func TestRunbooks(t *testing.T) {
	dir := filepath.Join(harness.Root(t), "docs", "runbooks")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("read the runbooks: %v", err)
	}
	var pages, names []string
	for _, entry := range entries {
		pages = append(pages, strings.TrimSuffix(entry.Name(), ".md"))
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatalf("read a runbook: %v", err)
		}
		var headings []string
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "#") {
				headings = append(headings, strings.TrimSpace(line))
			}
		}
		want := []string{"# " + strings.TrimSuffix(entry.Name(), ".md"), "## Meaning", "## Impact", "## Check", "## Fix"}
		if !slices.Equal(headings, want) {
			t.Errorf("%s has the headings %q, want %q", entry.Name(), headings, want)
		}
	}
	for _, rule := range alerts(t) {
		names = append(names, rule.Alert)
	}
	slices.Sort(names)
	if names = slices.Compact(names); !slices.Equal(pages, names) {
		t.Errorf("the runbooks are %q, want one for each of the alerts %q", pages, names)
	}
}

// mixing is an aggregation or a match that takes installations together.
var mixing = regexp.MustCompile(`\b(?:sum|max|min|avg|count|topk|sort) *\(|\b(?:by|on) \((?:namespace, job)?`)

// TestRunbooksTellInstallationsApart checks that no query of a runbook adds up what different installations do.
func TestRunbooksTellInstallationsApart(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(harness.Root(t), "docs", "runbooks", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		for _, query := range queriesOf(text(t, page)) {
			for _, part := range mixing.FindAllString(query, -1) {
				if !strings.HasSuffix(part, "(namespace, job") {
					t.Errorf("%s: %q takes installations together: group by (namespace, job, ...)", filepath.Base(page), query)
				}
			}
		}
	}
}

// TestTheObjectHoldsTheRules compares the PrometheusRule with the plain files.
func TestTheObjectHoldsTheRules(t *testing.T) {
	var object struct {
		Spec struct {
			Groups []monitoring.Group
		}
	}
	read(t, filepath.Join(harness.Root(t), "deploy", "k8s", "components", "monitoring", "prometheusrule.yaml"), &object)
	if want := groups(t); !reflect.DeepEqual(object.Spec.Groups, want) {
		t.Error("prometheusrule.yaml does not hold the rules of deploy/prometheus: run `make generate`")
	}
}

// TestParts shows what is left of an alert's expression.
func TestParts(t *testing.T) {
	for _, c := range []struct {
		expr string
		want []string
	}{
		{"a > 0.1\nand b > 500e6", []string{"a", "b"}},
		{`a{mode!="x"} >= 0.5 < 0.8`, []string{`a{mode!="x"}`}},
		{"count by (job) (a == 0)", []string{"count by (job) (a)"}},
		{"a >= 1\nor (\n  a >= 0.95\n  and on (job, tier) b > 0\n)", []string{"a", "a", "b"}},
		{"avg by (job) (up and on (job) b)", []string{"avg by (job) (up and on (job) b)"}},
	} {
		if got := monitoring.Parts(c.expr); !slices.Equal(got, c.want) {
			t.Errorf("the parts of %q are %q, want %q", c.expr, got, c.want)
		}
	}
}

// TestSelectors shows which metrics are found in an expression.
func TestSelectors(t *testing.T) {
	const expr = `sum by (namespace, job) (rate(ratelimitd_calls_total{job="ratelimitd",mode!="shadow"}[5m])) / (namespace_job:up:rate5m > 0) or up`
	want := []string{`ratelimitd_calls_total{job="ratelimitd",mode!="shadow"}`, "namespace_job:up:rate5m", "up"}
	if got := monitoring.Selectors(expr); !slices.Equal(got, want) {
		t.Errorf("the selectors of %q are %q, want %q", expr, got, want)
	}
}

func groups(t *testing.T) []monitoring.Group {
	t.Helper()
	all, err := monitoring.ReadGroups(harness.Root(t))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// alerts are the rules that are alerts.
func alerts(t *testing.T) []monitoring.Rule {
	t.Helper()
	var found []monitoring.Rule
	for _, group := range groups(t) {
		for _, rule := range group.Rules {
			if rule.Alert != "" {
				found = append(found, rule)
			}
		}
	}
	if len(found) == 0 {
		t.Fatal("there are no alerts")
	}
	return found
}

// read reads a file of YAML.
func read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("read a file: %v", err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("read %s: %v", file, err)
	}
}
