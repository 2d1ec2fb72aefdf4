package monitoring_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestRunbooksNameWhatThereIs looks for each metric and each rule that a runbook names among those that exist: Prometheus answers
// a name that is misspelled as it does one of which all is well, with nothing.
func TestRunbooksNameWhatThereIs(t *testing.T) {
	known := knownNames(t)
	pages, err := filepath.Glob(filepath.Join(harness.Root(t), "docs", "runbooks", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no runbooks are found: %v", err)
	}
	for _, page := range pages {
		content := text(t, page)
		names := ourNames.FindAllString(content, -1)
		for _, query := range queriesOf(content) {
			names = append(names, namesOf(query)...)
		}
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if !known[name] {
				t.Errorf("%s names %s, which neither docs/metrics.md nor rules.yaml has", filepath.Base(page), name)
			}
		}
	}
}

// TestNamesOf shows what a query names, misspelled or not.
func TestNamesOf(t *testing.T) {
	for _, c := range []struct {
		query string
		want  []string
	}{
		{`sum by (job, kind) (rate(raetlimitd_errors_total{kind="full"}[5m]))`, []string{"raetlimitd_errors_total"}},
		{`a:b:c / (a:b:c offset 1d) > 1e3`, []string{"a:b:c", "a:b:c"}},
		{`max by (job) (x - time()) / on (job) group_left () (y unless z == 0)`, []string{"x", "y", "z"}},
	} {
		if got := namesOf(c.query); !slices.Equal(got, c.want) {
			t.Errorf("%s names %q, want %q", c.query, got, c.want)
		}
	}
}

var (
	// documented is a row of a table of metrics: its name and its type.
	documented = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (counter|gauge|histogram)")
	// ourNames are names of metrics and rules wherever they stand in a text.
	ourNames = regexp.MustCompile(`\b(?:ratelimitd_|assistant_|namespace_job)[\w:]*\w`)
	// noNames are the parts of a query whose words name no metric: what labels must be, times, and what is grouped or matched by.
	noNames = regexp.MustCompile(
		`"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(?:by|without|on|ignoring|group_left|group_right) *\([^)]*\)|\w+ *\(`)
	// words are what is left of it.
	words = regexp.MustCompile(`\b[a-zA-Z_:][\w:]*`)
)

// namesOf returns the metrics and rules that a query asks for.
func namesOf(query string) []string {
	left := query
	for before := ""; before != left; { // what stands in parentheses of a function comes to light step by step
		before, left = left, noNames.ReplaceAllString(left, " ")
	}
	var names []string
	for _, word := range words.FindAllString(left, -1) {
		if !slices.Contains([]string{"and", "or", "unless", "bool", "offset"}, word) {
			names = append(names, word)
		}
	}
	return names
}

// knownNames are the metrics that docs/metrics.md has, the recording rules, and what each target of Prometheus has.
func knownNames(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{"up": true, "process_resident_memory_bytes": true}
	for _, row := range documented.FindAllStringSubmatch(text(t, filepath.Join(harness.Root(t), "docs", "metrics.md")), -1) {
		known[row[1]] = true
		if row[2] == "histogram" {
			known[row[1]+"_bucket"], known[row[1]+"_sum"], known[row[1]+"_count"] = true, true, true
		}
	}
	if len(known) < 20 {
		t.Fatalf("docs/metrics.md has %d metrics: this test looks in the wrong place", len(known))
	}
	for _, group := range groups(t) {
		for _, rule := range group.Rules {
			known[rule.Record] = true
		}
	}
	return known
}
