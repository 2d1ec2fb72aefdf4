package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Dashboard is what Grafana is told to show, as far as it is looked at here.
type Dashboard struct {
	UID           string  `json:"uid"`
	Title         string  `json:"title"`
	SchemaVersion int     `json:"schemaVersion"` //nolint:tagliatelle // Grafana's own spelling
	Panels        []Panel `json:"panels"`
	Templating    struct {
		List []Variable `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []Target `json:"list"`
	} `json:"annotations"`
}

// Variable is what a reader of a dashboard chooses.
type Variable struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	Definition string `json:"definition"`
	IncludeAll bool   `json:"includeAll"` //nolint:tagliatelle // Grafana's own spelling
	Multi      bool   `json:"multi"`
}

// Panel is one picture of a dashboard, or the head of a row of them.
type Panel struct {
	ID          int             `json:"id"`
	Type        string          `json:"type"`
	Title       string          `json:"title"`
	Description string          `json:"description"`
	Datasource  *Datasource     `json:"datasource,omitempty"`
	GridPos     GridPos         `json:"gridPos"` //nolint:tagliatelle // Grafana's own spelling
	Targets     []Target        `json:"targets,omitempty"`
	FieldConfig json.RawMessage `json:"fieldConfig,omitempty"` //nolint:tagliatelle // Grafana's own spelling
}

// Datasource says whom a panel asks.
type Datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// GridPos is a panel's place; a dashboard is 24 columns wide.
type GridPos struct {
	X int `json:"x"`
	Y int `json:"y"`
	W int `json:"w"`
	H int `json:"h"`
}

// Target is one query of a panel.
type Target struct {
	RefID        string      `json:"refId"` //nolint:tagliatelle // Grafana's own spelling
	Expr         string      `json:"expr"`
	LegendFormat string      `json:"legendFormat"` //nolint:tagliatelle // Grafana's own spelling
	Instant      bool        `json:"instant"`
	Exemplar     bool        `json:"exemplar"` // the calls behind the numbers are shown, too
	Datasource   *Datasource `json:"datasource,omitempty"`
}

// DashboardNames are the names of the dashboards' files, without .json.
func DashboardNames() []string { return []string{"money", "limits", "health"} }

// ReadDashboard reads one dashboard of a repository.
func ReadDashboard(root, name string) (*Dashboard, error) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "grafana", name+".json"))
	if err != nil {
		return nil, fmt.Errorf("read a dashboard: %w", err)
	}
	d := &Dashboard{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("read the dashboard %s: %w", name, err)
	}
	return d, nil
}

// Variables are what a reader has chosen, and what Grafana works out of it.
type Variables struct {
	Job          string // as "ratelimitd"
	Namespace    string // as "assistant"; empty for daemons without that label
	RateInterval string // as "1m"
	Range        string // the time that the dashboard shows, as "6h"
}

// Resolve returns a query as Grafana sends it.
func (v Variables) Resolve(expr string) string {
	return strings.NewReplacer("$__rate_interval", v.RateInterval, "$__range", v.Range, "$namespace", v.Namespace, "$job", v.Job).
		Replace(expr)
}
