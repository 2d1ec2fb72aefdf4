package monitoring_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
	"github.com/ratelimitd/ratelimitd/test/monitoring"
)

// TestDashboards checks what Grafana would not complain about, and a reader would.
func TestDashboards(t *testing.T) {
	for _, name := range monitoring.DashboardNames() {
		t.Run(name, func(t *testing.T) {
			d, err := monitoring.ReadDashboard(harness.Root(t), name)
			if err != nil {
				t.Fatal(err)
			}
			if want := "ratelimitd-" + name; d.UID != want {
				t.Errorf("the uid is %q, want %q: links and alerts name it", d.UID, want)
			}
			if d.SchemaVersion < 39 {
				t.Errorf("the schemaVersion is %d, of a Grafana before 11", d.SchemaVersion)
			}
			first := d.Templating.List[0]
			if first.Name != "datasource" || first.Type != "datasource" {
				t.Errorf("the first variable is %q of the type %q, want the data source", first.Name, first.Type)
			}
			for _, variable := range d.Templating.List {
				if variable.IncludeAll || variable.Multi {
					t.Errorf("several values of %s can be chosen: numbers of different installations would be mixed", variable.Name)
				}
			}
			ids := map[int]string{}
			for _, panel := range d.Panels {
				if other, twice := ids[panel.ID]; twice {
					t.Errorf("%q and %q have the same id", panel.Title, other)
				}
				ids[panel.ID] = panel.Title
				checkPlace(t, panel, d.Panels)
				if panel.Type != "row" {
					checkPanel(t, panel)
				}
			}
		})
	}
}

// TestTheDashboardAndTheAlertHaveOnePace compares what the panel of how long budgets last takes for the pace of spending with the rule
// that the alert goes by.
func TestTheDashboardAndTheAlertHaveOnePace(t *testing.T) {
	var pace string
	for _, group := range groups(t) {
		for _, rule := range group.Rules {
			if rule.Record == "namespace_job:ratelimitd_spent_usd:rate1h" {
				pace = strings.TrimPrefix(strings.Join(strings.Fields(rule.Expr), " "), "sum by (namespace, job) ")
			}
		}
	}
	d, err := monitoring.ReadDashboard(harness.Root(t), "money")
	if err != nil {
		t.Fatal(err)
	}
	ofAll := strings.NewReplacer(`{job="$job",namespace="$namespace"}`, "", `job="$job",namespace="$namespace",`, "")
	for _, panel := range d.Panels {
		if panel.Title != "Runs out in" {
			continue
		}
		if shown := ofAll.Replace(panel.Targets[0].Expr); pace == "" || !strings.Contains(shown, "sum"+pace) {
			t.Errorf("%q shows %s, want the pace to be sum%s", panel.Title, shown, pace)
		}
		return
	}
	t.Error("no panel says how long budgets last")
}

// checkPanel checks that a panel says what it shows, in which unit, and whom it asks.
func checkPanel(t *testing.T, panel monitoring.Panel) {
	if panel.Title == "" || len(panel.Description) < 20 {
		t.Errorf("panel %d has the title %q and the description %q, want a reader to know what he sees", panel.ID, panel.Title, panel.Description)
	}
	var config struct {
		Defaults struct{ Unit string }
	}
	if err := json.Unmarshal(panel.FieldConfig, &config); err != nil {
		t.Fatal(err)
	}
	units := []string{"currencyUSD", "reqps", "s", "bytes", "percentunit", "short"}
	if !slices.Contains(units, config.Defaults.Unit) {
		t.Errorf("%q has the unit %q, want one of %q", panel.Title, config.Defaults.Unit, units)
	}
	ours := func(d *monitoring.Datasource) bool {
		return d != nil && d.Type == "prometheus" && d.UID == "${datasource}"
	}
	if !ours(panel.Datasource) || len(panel.Targets) == 0 {
		t.Errorf("%q asks %v by %d queries, want the data source of the variable", panel.Title, panel.Datasource, len(panel.Targets))
	}
	for _, target := range panel.Targets {
		if !ours(target.Datasource) {
			t.Errorf("%q asks %v, want the data source of the variable", panel.Title, target.Datasource)
		}
		if has := strings.Contains(target.Expr, "ratelimitd_decision_duration_seconds_bucket"); has != target.Exemplar {
			t.Errorf("%q asks for exemplars: %t, want %t: the latencies of calls alone have them", panel.Title, target.Exemplar, has)
		}
		for _, selector := range monitoring.Selectors(target.Expr) {
			if resolved := (monitoring.Variables{Job: "J", Namespace: "N"}).Resolve(selector); resolved == selector {
				t.Errorf("%q asks for %s of every installation, want that of the chosen job and namespace", panel.Title, selector)
			}
		}
	}
}

// checkPlace checks that a panel lies within the dashboard and on no other.
func checkPlace(t *testing.T, panel monitoring.Panel, all []monitoring.Panel) {
	at := panel.GridPos
	if at.W < 1 || at.H < 1 || at.X < 0 || at.X+at.W > 24 {
		t.Errorf("%q lies at %+v, outside of the 24 columns", panel.Title, at)
	}
	for _, other := range all {
		o := other.GridPos
		if other.ID != panel.ID && at.X < o.X+o.W && o.X < at.X+at.W && at.Y < o.Y+o.H && o.Y < at.Y+at.H {
			t.Errorf("%q and %q lie on one another", panel.Title, other.Title)
		}
	}
}
