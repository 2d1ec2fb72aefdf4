package monitoring_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestAmtoolTakesTheRoutes has amtool check the example and say where each alert goes.
func TestAmtoolTakesTheRoutes(t *testing.T) {
	dir := filepath.Join(harness.Root(t), "deploy", "prometheus")
	amtool := harness.Amtool(t)
	run(t, dir, amtool, "check-config", "alertmanager.yaml")
	receivers := map[string]string{"info": "slack", "warning": "slack", "critical": "pagerduty,slack"}
	for _, rule := range alerts(t) {
		severity := rule.Labels["severity"]
		run(t, dir, amtool, "config", "routes", "test", "--config.file=alertmanager.yaml",
			"--verify.receivers="+receivers[severity], "alertname="+rule.Alert, "severity="+severity, "job=assistant")
	}
	run(t, dir, amtool, "config", "routes", "test", "--config.file=alertmanager.yaml",
		"--verify.receivers=nobody", "alertname=AnotherTeamsAlert", "severity=critical")
}

// TestTheExampleHoldsNoSecret looks for secrets in place of files with them.
func TestTheExampleHoldsNoSecret(t *testing.T) {
	var config struct {
		Receivers []struct {
			Slack     []map[string]any `yaml:"slack_configs"`
			PagerDuty []map[string]any `yaml:"pagerduty_configs"`
		}
	}
	read(t, filepath.Join(harness.Root(t), "deploy", "prometheus", "alertmanager.yaml"), &config)
	files := 0
	for _, receiver := range config.Receivers {
		for _, settings := range append(receiver.Slack, receiver.PagerDuty...) {
			for name := range settings {
				switch {
				case strings.HasSuffix(name, "_file"):
					files++
				case strings.HasSuffix(name, "_url"), strings.HasSuffix(name, "_key"):
					t.Errorf("%s is set: name a file in its place", name)
				}
			}
		}
	}
	if files != 2 {
		t.Errorf("%d secrets are read from files, want that of Slack and that of PagerDuty", files)
	}
}
