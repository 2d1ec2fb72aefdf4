package monitoring_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
	"github.com/ratelimitd/ratelimitd/test/monitoring"
)

// mostPictureBytes keeps the repository small: a picture is looked at, not measured.
const mostPictureBytes = 300 << 10

// TestTheGuideShowsWhatThereIs compares docs/monitoring.md with what it tells of.
func TestTheGuideShowsWhatThereIs(t *testing.T) {
	root := harness.Root(t)
	guide := text(t, filepath.Join(root, "docs", "monitoring.md"))
	rows := 0
	for _, rule := range alerts(t) {
		row := "| [" + rule.Alert + "](runbooks/" + rule.Alert + ".md) | " + rule.Labels["severity"] + " |"
		if !strings.Contains(guide, row) {
			t.Errorf("the table of alerts has no row that begins with %s", row)
		}
		rows++
	}
	if in := strings.Count(guide, "\n| [Ratelimitd"); in > rows {
		t.Errorf("the table of alerts has %d rows, for %d alerts", in, rows)
	}
	shown := block(guide, "\nroute:\n")
	if shown == "" || !strings.Contains(text(t, filepath.Join(root, "deploy", "prometheus", "alertmanager.yaml")), shown) {
		t.Error("the route that is shown is not that of deploy/prometheus/alertmanager.yaml")
	}
	for _, name := range monitoring.DashboardNames() {
		picture := "images/dashboard-" + name + ".png"
		if !strings.Contains(guide, "]("+picture+")") {
			t.Errorf("%s is not shown", picture)
		}
		info, err := os.Stat(filepath.Join(root, "docs", filepath.FromSlash(picture)))
		if err != nil {
			t.Errorf("a picture is missing: run `make pictures`: %v", err)
			continue
		}
		if info.Size() > mostPictureBytes {
			t.Errorf("%s has %d bytes, want at most %d", picture, info.Size(), mostPictureBytes)
		}
	}
}

// block returns the block of code of a page that begins with a line.
func block(page, begin string) string {
	_, rest, found := strings.Cut(page, "```yaml"+begin)
	if !found {
		return ""
	}
	code, _, _ := strings.Cut(rest, "```")
	return begin + code
}

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read a page: %v", err)
	}
	return string(b)
}
