package telemetry

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestTroubleIsLoggedOncePerSecondAndKindWithACountOfTheRest(t *testing.T) {
	now := time.Unix(1000, 0)
	core, lines := observer.New(zapcore.DebugLevel)
	log := newLog(zap.New(core), func() time.Time { return now })
	boom := errors.New("boom")

	for range 5 {
		log.StoreTrouble(t.Context(), boom, KindTimeout)
	}
	log.StoreTrouble(t.Context(), boom, KindUnavailable)
	if got := lines.Len(); got != 2 {
		t.Fatalf("5 timeouts and 1 unavailable within a second wrote %d lines, want 2", got)
	}
	now = now.Add(sampleEvery)
	log.StoreTrouble(t.Context(), boom, KindTimeout)
	last := lines.All()[lines.Len()-1].ContextMap()
	if got := last[FieldSuppressed]; got != int64(4) {
		t.Errorf("the next line says %v were suppressed, want 4", got)
	}
	log.FailedOpen(t.Context(), "user")
	log.FailedOpen(t.Context(), "user")
	log.FailedShut(t.Context(), "user")
	if got := lines.Len(); got != 5 {
		t.Errorf("%d lines in all, want 5: a fail-open and a fail-shut are kinds of their own", got)
	}
}

func TestOnlyThePolicyInForceHasASeries(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	at := time.Unix(1_800_000_000, 0)
	m.PolicyLoaded("aaa", []string{"user", "org_id"}, at)
	m.PolicyLoaded("bbb", []string{"user"}, at)
	if got := testutil.CollectAndCount(m.PolicyInfo); got != 1 {
		t.Errorf("%d policy series after a reload, want 1", got)
	}
	if got := testutil.CollectAndCount(m.FailOpens); got != 1 {
		t.Errorf("%d tiers are shown to have failed open, or not, want the one of the policy in force", got)
	}
	m.PolicyRejected()
	if got := testutil.ToFloat64(m.PolicyReloadSuccess); got != 0 {
		t.Errorf("reload success reads %v after a rejected policy, want 0", got)
	}
	if got := testutil.ToFloat64(m.PolicyInfo.WithLabelValues("bbb")); got != 1 {
		t.Errorf("the old policy's series reads %v after a rejected reload, want 1", got)
	}
}

func TestTwoDaemonsOfOneProcessHaveMetricsOfTheirOwn(t *testing.T) {
	a, b := NewMetrics(prometheus.NewRegistry()), NewMetrics(prometheus.NewRegistry())
	a.Decisions.WithLabelValues("user", "minute", UnitRequests, VerdictDenied, ModeEnforced).Inc()
	if got := testutil.CollectAndCount(b.Decisions); got != 0 {
		t.Errorf("the second daemon counts %d of the first one's decisions, want 0", got)
	}
}

func TestMetricNamesFollowTheConventions(t *testing.T) {
	reg := prometheus.NewRegistry()
	NewMetrics(reg)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestOpenNamesWhatItDoesNotKnow(t *testing.T) {
	for _, tc := range []struct{ level, format, want string }{
		{"loud", "json", "debug, info, warn, error"},
		{"info", "xml", "json, console"},
	} {
		if _, err := Open(&bytes.Buffer{}, tc.level, tc.format); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Open(%q, %q) says %v, want a text with %q", tc.level, tc.format, err, tc.want)
		}
	}
	var out bytes.Buffer
	log, err := Open(&out, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("unheard")
	log.Info("heard")
	log.Close()
	log.Info("too late")
	if got := out.String(); !strings.Contains(got, "heard") || strings.Contains(got, "unheard") || strings.Contains(got, "late") {
		t.Errorf("at level info the log holds %q", got)
	}
}

func TestALogThatNobodyReadsBlocksNobody(t *testing.T) {
	read, write := io.Pipe()
	log, err := Open(write, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 1<<10)
	for range 4 * maxWaiting / len(text) { // several times what may wait
		log.Info(text)
	}
	log.Close() // waits for a while, and no longer
	if testutil.ToFloat64(log.Lost()) == 0 {
		t.Error("no line is counted as lost")
	}
	if err := read.Close(); err != nil {
		t.Fatal(err)
	}
	<-log.written.lines.done
}
