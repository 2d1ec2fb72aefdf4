package telemetry

import (
	"strconv"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestDenialsAreLoggedOncePerSecondAndLimit(t *testing.T) {
	now := time.Unix(1000, 0)
	core, lines := observer.New(zapcore.InfoLevel)
	log := newLog(zap.New(core), func() time.Time { return now })
	for range 5 {
		log.Denied(t.Context(), "user", "day", UnitRequests)
	}
	log.Denied(t.Context(), "user", "hour", UnitRequests)
	log.Denied(t.Context(), "global", "day", UnitRequests)
	log.Denied(t.Context(), "user", "day", UnitUSD)
	if got := lines.Len(); got != 4 {
		t.Fatalf("denials by 4 limits within a second wrote %d lines, want 4", got)
	}
	now = now.Add(sampleEvery)
	log.Denied(t.Context(), "user", "day", UnitRequests)
	last := lines.All()[lines.Len()-1].ContextMap()
	if last[FieldSuppressed] != int64(4) || last[FieldTier] != "user" || last[FieldLimit] != "day" ||
		last[FieldUnit] != UnitRequests {
		t.Errorf("the next line is %v, want 4 of the user's requests a day suppressed", last)
	}
}

func TestDenialsOfManyPoliciesAreForgotten(t *testing.T) {
	core, _ := observer.New(zapcore.InfoLevel)
	log := NewLog(zap.New(core))
	for i := range 3 * maxDenialKinds {
		log.Denied(t.Context(), "user", strconv.Itoa(i), UnitRequests)
	}
	if got := len(*log.denials.known.Load()); got > maxDenialKinds {
		t.Errorf("%d kinds of denials are remembered, want at most %d", got, maxDenialKinds)
	}
}

func TestDenialsCostNothingWhereTheyAreNotLogged(t *testing.T) {
	core, _ := observer.New(zapcore.WarnLevel)
	log := NewLog(zap.New(core))
	log.Denied(t.Context(), "user", "minute", UnitRequests)
	if log.denials.known.Load() != nil {
		t.Error("a denial that is not logged is remembered")
	}
}

func BenchmarkDenied(b *testing.B) {
	log := NewLog(zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoderConfig()), zapcore.AddSync(new(sink)), zapcore.InfoLevel)))
	b.ReportAllocs()
	for b.Loop() {
		log.Denied(b.Context(), "user", "minute", UnitRequests)
	}
}
