package app

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/redis"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

func TestTheLogTellsOnceWhetherRedisMayEvict(t *testing.T) {
	fine := redis.Memory{Used: 1, Policy: redis.NoEviction}
	evicts := redis.Memory{Used: 1, Policy: "allkeys-lru"}
	away := fmt.Errorf("asking: %w", store.ErrUnavailable)
	for _, step := range []struct {
		name  string
		looks []any // what Redis says, one look after the other: a Memory or an error
		lines []zapcore.Level
		shown bool // the metrics, at the end
	}{
		{"it evicts nothing", []any{fine, fine}, nil, true},
		{"it evicts", []any{evicts, evicts}, []zapcore.Level{zapcore.WarnLevel}, true},
		{"it evicts, and then no more", []any{evicts, fine, fine}, []zapcore.Level{zapcore.WarnLevel, zapcore.InfoLevel}, true},
		{"it begins to evict", []any{fine, evicts}, []zapcore.Level{zapcore.WarnLevel}, true},
		{"it is away", []any{away, away}, nil, false},
		{"it evicts, goes, and comes back", []any{evicts, away, evicts}, []zapcore.Level{zapcore.WarnLevel}, true},
		{"it may not be asked", []any{redis.ErrForbidden, redis.ErrForbidden}, []zapcore.Level{zapcore.WarnLevel}, false},
		{
			"it may be asked no longer, after it was",
			[]any{evicts, redis.ErrForbidden},
			[]zapcore.Level{zapcore.WarnLevel, zapcore.WarnLevel},
			false,
		},
	} {
		t.Run(step.name, func(t *testing.T) {
			core, lines := observer.New(zapcore.DebugLevel)
			m := telemetry.NewMetrics(prometheus.NewRegistry())
			w := &memoryWatch{metrics: m.Redis, log: telemetry.NewLog(zap.New(core))}
			for _, says := range step.looks {
				again := memoryEvery
				w.ask = func(context.Context) (redis.Memory, error) {
					if err, failed := says.(error); failed {
						again = memoryRetry
						return redis.Memory{}, err
					}
					return says.(redis.Memory), nil
				}
				if got := w.look(t.Context()); got != again {
					t.Errorf("after %v it asks again in %s, want %s", says, got, again)
				}
			}
			var levels []zapcore.Level
			for _, line := range lines.All() {
				levels = append(levels, line.Level)
			}
			if fmt.Sprint(levels) != fmt.Sprint(step.lines) {
				t.Errorf("the log has the lines %v (%v), want %v", levels, lines.All(), step.lines)
			}
			if shown := testutil.CollectAndCount(m.Redis) > 0; shown != step.shown {
				t.Errorf("the memory of Redis is shown: %t, want %t", shown, step.shown)
			}
		})
	}
}
