package telemetry

import (
	"context"
	"maps"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxDenialKinds bounds what is remembered of denials, over many reloads of ever new policies.
const maxDenialKinds = 1024

// denialKind tells lines about denials apart. Its parts are names of the policy.
type denialKind struct {
	tier, limit, unit string
}

// denialSample is what is known of one kind of denial.
type denialSample struct {
	last       atomic.Int64 // when the last line was written, nanoseconds since the Unix epoch
	suppressed atomic.Int64 // lines left out since then
}

// denials are the kinds that were seen. A denial is cheap, and a flood of them must not queue for a lock.
type denials struct {
	known atomic.Pointer[map[denialKind]*denialSample]
}

func (d *denials) sample(kind denialKind) *denialSample {
	known := d.known.Load()
	if known != nil {
		if s, ok := (*known)[kind]; ok {
			return s
		}
	}
	s := new(denialSample)
	next := map[denialKind]*denialSample{kind: s}
	if known != nil && len(*known) < maxDenialKinds {
		maps.Copy(next, *known)
	}
	if !d.known.CompareAndSwap(known, &next) { // another has added one: its map is as good
		return d.sample(kind)
	}
	return s
}

// Denied says that a limit denied a call, at most once a second per tier, limit and unit, with the number of lines left out since
// the last one. All are names of the policy; unit is a Unit constant.
func (l *Log) Denied(ctx context.Context, tier, limit, unit string) {
	if !l.Core().Enabled(zapcore.InfoLevel) {
		return
	}
	s := l.denials.sample(denialKind{tier, limit, unit})
	now, last := l.now().UnixNano(), s.last.Load()
	if now-last < int64(sampleEvery) || !s.last.CompareAndSwap(last, now) {
		s.suppressed.Add(1)
		return
	}
	l.Info("denied a call", zap.String(FieldTier, tier), zap.String(FieldLimit, limit), zap.String(FieldUnit, unit),
		zap.Int64(FieldSuppressed, s.suppressed.Swap(0)), InTrace(ctx))
}
