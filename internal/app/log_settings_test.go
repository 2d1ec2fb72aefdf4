package app

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

func TestTheKeyOfHashedIDs(t *testing.T) {
	const key = "sixteen or more bytes"
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, []byte(key+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		env  env
		want string // part of the message; empty if the key is read
	}{
		{env{"RATELIMITD_LOG_HASH_KEY": key}, ""},
		{env{"RATELIMITD_LOG_HASH_KEY_FILE": file}, ""},
		{env{"RATELIMITD_LOG_HASH_KEY": "hunter2"}, "RATELIMITD_LOG_HASH_KEY is too short: write at least 16 bytes"},
		{env{"RATELIMITD_LOG_HASH_KEY_FILE": short}, "is too short: write at least 16 bytes"},
		{env{"RATELIMITD_LOG_HASH_KEY": key, "RATELIMITD_LOG_HASH_KEY_FILE": file}, "unset one"},
		{env{"RATELIMITD_LOG_HASH_KEY_FILE": dir}, "is no file"},
		{env{"RATELIMITD_LOG_HASH_KEY_FILE": "/dev/zero"}, "is no file"},
		{env{"RATELIMITD_LOG_HASH_KEY_FILE": file + ".none"}, "cannot be read"},
	} {
		opt, err := ReadSettings(nil, tc.env.lookup)
		switch {
		case tc.want == "" && (err != nil || !bytes.Equal(opt.DecisionLogKey, []byte(key))):
			t.Errorf("%v: the key is %q, %v", tc.env, opt.DecisionLogKey, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%v ends with %v, want %q", tc.env, err, tc.want)
		case err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), key)):
			t.Errorf("the message holds the key: %v", err)
		}
	}
}

func TestWhatTheDecisionLogTellsIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"decisions": func(o *Options) { o.DecisionLog = "some" },
		"ids":       func(o *Options) { o.DecisionLog, o.DecisionLogIDs = telemetry.DecisionsAll, "rot13" },
	} {
		opt := DefaultOptions()
		change(&opt)
		if err := opt.Validate(); err == nil {
			t.Errorf("wrong %s are accepted", name)
		}
	}
	if _, err := ReadSettings(nil, env{"RATELIMITD_DECISION_LOG": "yes"}.lookup); err == nil || !strings.Contains(err.Error(), "off, denied, all") {
		t.Errorf("an unknown word ends with %v", err)
	}
}

// TestAHeaderThatCannotBeReadIsNotLogged has OpenTelemetry's exporter complain of a header without a name.
func TestAHeaderThatCannotBeReadIsNotLogged(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")
	core, lines := observer.New(zapcore.DebugLevel)
	log := telemetry.NewLog(zap.New(core))
	telemetry.HearOpenTelemetry(log)
	t.Cleanup(func() { telemetry.HearOpenTelemetry(telemetry.NopLog()) })
	settings, err := ReadSettings(nil, env{"OTEL_TRACES_EXPORTER": "otlp"}.lookup)
	if err != nil {
		t.Fatal(err)
	}
	tracing, err := telemetry.NewTracing(settings.Tracing, log, telemetry.NewMetrics(prometheus.NewRegistry()).LostSpans)
	if err != nil {
		t.Fatal(err)
	}
	if err := tracing.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	otel.Handle(errors.New("left out: a line of its kind was just written"))
	all := lines.FilterMessage("trouble with traces").All()
	if len(all) != 1 || !strings.Contains(all[0].ContextMap()["error"].(string), "parse headers") {
		t.Errorf("the log holds %v, want that a header cannot be read", lines.All())
	}
	for _, line := range lines.All() {
		for _, field := range line.Context {
			if strings.Contains(field.String, "hunter2") || field.Interface != nil && strings.Contains(field.Interface.(error).Error(), "hunter2") {
				t.Errorf("the log holds the header: %v", line)
			}
		}
	}
}
