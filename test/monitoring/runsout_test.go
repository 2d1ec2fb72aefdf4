package monitoring_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/ratelimitd/ratelimitd/test/harness"
	"github.com/ratelimitd/ratelimitd/test/monitoring"
)

// TestABudgetRunsOutByWhatIsSpentOfIt asks the panel about two daemons that each spend 1 USD a minute: with one store they spend
// of the same budget, with embedded stores each of its own.
func TestABudgetRunsOutByWhatIsSpentOfIt(t *testing.T) {
	for _, c := range []struct {
		store    string
		left     [2]int // USD, as each daemon sees it
		subjects int    // in the memory of each
		minutes  int
	}{
		{store: "redis", left: [2]int{60, 60}, subjects: 0, minutes: 30},
		{store: "embedded", left: [2]int{60, 30}, subjects: 5, minutes: 30},
		{store: "embedded and even", left: [2]int{60, 60}, subjects: 5, minutes: 60},
	} {
		t.Run(c.store, func(t *testing.T) {
			type series struct {
				Series string `yaml:"series"`
				Values string `yaml:"values"`
			}
			var input []series
			for i, left := range c.left {
				add := func(metric, labels, values string) {
					name := fmt.Sprintf(`ratelimitd_%s{job="J",namespace="N",instance="%d"%s}`, metric, i, labels)
					input = append(input, series{name, values})
				}
				const budget = `,limit="month",unit="usd",window="sliding"`
				add("limit_max", budget, "100x60")
				add("limit_used", budget, fmt.Sprintf("%dx60", 100-left))
				add("memory_subjects", "", fmt.Sprintf("%dx60", c.subjects))
				add("cost_usd_total", `,flow="settled",model="small"`, "0+1x60")
				add("lapsed_cost_usd_total", "", "0x60")
			}
			// The times are in whole minutes: a rate of an hour is not exact to the last bit.
			expr := fmt.Sprintf("round((%s) / 60)", runsOut(t))
			promtoolExpects(t, map[string]any{
				"interval":     "1m",
				"input_series": input,
				"promql_expr_test": []any{map[string]any{
					"expr": expr, "eval_time": "60m",
					"exp_samples": []any{map[string]any{"labels": `{limit="month",window="sliding"}`, "value": c.minutes}},
				}},
			})
		})
	}
}

// runsOut is the query of the panel that says when a budget runs out, of the job J in the namespace N.
func runsOut(t *testing.T) string {
	t.Helper()
	d, err := monitoring.ReadDashboard(harness.Root(t), "money")
	if err != nil {
		t.Fatal(err)
	}
	for _, panel := range d.Panels {
		if panel.Title == "Runs out in" {
			return monitoring.Variables{Job: "J", Namespace: "N"}.Resolve(panel.Targets[0].Expr)
		}
	}
	t.Fatal("no panel says when a budget runs out")
	return ""
}

// promtoolExpects has promtool run one unit test without rules.
func promtoolExpects(t *testing.T, test map[string]any) {
	t.Helper()
	text, err := yaml.Marshal(map[string]any{"evaluation_interval": "1m", "tests": []any{test}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, filepath.Dir(file), harness.Promtool(t), "test", "rules", file)
}
