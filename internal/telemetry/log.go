package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The fields of log lines.
const (
	FieldAddr       = "addr"       // an address that is listened on
	FieldEdge       = "edge"       // an Edge constant
	FieldHash       = "hash"       // a policy's hash
	FieldKind       = "kind"       // a Kind constant
	FieldMethod     = "method"     // a gRPC method
	FieldPolicy     = "policy"     // a policy's name or path
	FieldSetting    = "setting"    // a setting's name
	FieldSignal     = "signal"     // a signal of the operating system
	FieldSpanID     = "span_id"    // a span of a trace, 16 hexadecimal digits
	FieldSpans      = "spans"      // how many spans of traces
	FieldStack      = "stack"      // a goroutine's stack
	FieldStore      = "store"      // the store's kind
	FieldSuppressed = "suppressed" // lines of the same kind left out since the last one
	FieldTier       = "tier"       // a tier of the policy
	FieldTraceID    = "trace_id"   // a trace, 32 hexadecimal digits
	FieldVersion    = "version"    // a version of this program
	FieldWarning    = "warning"    // a policy's warning
)

// sampleEvery is how often a line of one kind is written while trouble lasts.
const sampleEvery = time.Second

// Log is a daemon's log: a zap logger, and samplers for what would otherwise be written once per call while the store is
// away. It is safe for concurrent use.
type Log struct {
	*zap.Logger

	written *writer // nil for a logger of somebody else's

	now     func() time.Time
	denials denials
	mu      sync.Mutex
	samples map[string]*sample // by kind of line: a small fixed set
}

// sample is what is known of one kind of line. Guarded by Log.mu.
type sample struct {
	last       time.Time
	suppressed int64
}

// NewLog wraps a logger.
func NewLog(l *zap.Logger) *Log { return newLog(l, time.Now) }

// NopLog returns a log that writes nothing, for tests and benchmarks.
func NopLog() *Log { return NewLog(zap.NewNop()) }

func newLog(l *zap.Logger, now func() time.Time) *Log {
	return &Log{Logger: l, now: now, samples: make(map[string]*sample)}
}

// Open returns a log that writes to w in the background: nobody waits for who reads it, and what comes faster than it can be written
// is lost. The level is debug, info, warn or error; the format is json or console.
func Open(w io.Writer, level, format string) (*Log, error) {
	lvl, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("log level %q is not one of debug, info, warn, error", level)
	}
	enc := encoderConfig()
	var encoder zapcore.Encoder
	switch format {
	case "json":
		encoder = zapcore.NewJSONEncoder(enc)
	case "console":
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(enc)
	default:
		return nil, fmt.Errorf("log format %q is not one of json, console", format)
	}
	written := &writer{}
	written.lines = newLines(w, func(n int, _ error) { written.lost.Add(int64(n)) })
	l := NewLog(zap.New(zapcore.NewCore(encoder, written, lvl)))
	l.written = written
	return l, nil
}

// writer writes a log's lines.
type writer struct {
	lines *lines
	lost  atomic.Int64
}

// Write takes a line. It never errs, and never waits.
func (w *writer) Write(line []byte) (int, error) {
	w.lines.add(line)
	return len(line), nil
}

// Sync does nothing: Log.Close writes what waits.
func (*writer) Sync() error { return nil }

// encoderConfig is what all lines look like.
func encoderConfig() zapcore.EncoderConfig {
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey = "time"
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	return enc
}

// Lost is a metric of how many lines were not written, since nobody has read them, or nobody can.
func (l *Log) Lost() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "ratelimitd_log_dropped_total",
		Help: "Lines of the log that were not written.",
	}, func() float64 {
		if l.written == nil {
			return 0
		}
		return float64(l.written.lost.Load())
	})
}

// Close writes what waits to be written, for a second at most, and takes no more.
func (l *Log) Close() {
	if l.written == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.written.lines.close(ctx) // there is nobody to tell
}

// StoreTrouble says that the store gave no answer, at most once a second per Kind constant, with the number of lines
// left out since the last one.
func (l *Log) StoreTrouble(ctx context.Context, err error, kind string) {
	if suppressed, ok := l.admit("store:" + kind); ok {
		l.Error("the store gave no answer",
			zap.String(FieldKind, kind), zap.Int64(FieldSuppressed, suppressed), zap.Error(err), InTrace(ctx))
	}
}

// FailedOpen says that a call was let through because the store could not be asked, at most once a second per tier.
// The tier is a name of the policy.
func (l *Log) FailedOpen(ctx context.Context, tier string) {
	if suppressed, ok := l.admit("open:" + tier); ok {
		l.Warn("let a call through uncounted because the store gave no answer",
			zap.String(FieldTier, tier), zap.Int64(FieldSuppressed, suppressed), InTrace(ctx))
	}
}

// FailedShut says that a call was denied because the store could not be asked, at most once a second per tier.
func (l *Log) FailedShut(ctx context.Context, tier string) {
	if suppressed, ok := l.admit("shut:" + tier); ok {
		l.Warn("denied a call because the store gave no answer",
			zap.String(FieldTier, tier), zap.Int64(FieldSuppressed, suppressed), InTrace(ctx))
	}
}

// BadOverride says that a subject's stored override does not parse under the policy in force, at most once a second. The
// subject has its plan's limits meanwhile.
func (l *Log) BadOverride(ctx context.Context, err error) {
	if suppressed, ok := l.admit("override"); ok {
		l.Error("a stored override is not in force", zap.Int64(FieldSuppressed, suppressed), zap.Error(err), InTrace(ctx))
	}
}

// LostEnd says that the end of a stream was given up because the store could not be asked, at most once a second. Its hold ends
// by its lease.
func (l *Log) LostEnd(ctx context.Context, err error) {
	if suppressed, ok := l.admit("end"); ok {
		l.Error("a settlement is lost: its hold ends by its lease", zap.Int64(FieldSuppressed, suppressed), zap.Error(err), InTrace(ctx))
	}
}

// BadEnd says that the end of a stream could not be matched to its hold, at most once a second.
func (l *Log) BadEnd(ctx context.Context, err error) {
	if suppressed, ok := l.admit("badend"); ok {
		l.Warn("the end of a stream is not its hold's", zap.Int64(FieldSuppressed, suppressed), zap.Error(err), InTrace(ctx))
	}
}

// LostSpans says that spans of traces could not be sent and are lost, at most once a second.
func (l *Log) LostSpans(err error, spans int) {
	if suppressed, ok := l.admit("spans"); ok {
		l.Warn("traces were not sent",
			zap.Int(FieldSpans, spans), zap.Int64(FieldSuppressed, suppressed), zap.Error(err))
	}
}

// NoRoomForSpan says that a span is lost because as many wait to be sent as may, at most once a second, with how many were lost since
// the last time. It is told apart from LostSpans, which says why those that wait are not sent.
func (l *Log) NoRoomForSpan() {
	if suppressed, ok := l.admit("span"); ok {
		l.Warn("traces were not sent", zap.Int64(FieldSpans, suppressed+1), zap.Error(errNoRoom))
	}
}

// errNoRoom says why a span is lost though nothing has failed.
var errNoRoom = errors.New("as many spans wait as may: the collector is slow or away, or OTEL_BSP_MAX_QUEUE_SIZE is small")

// AdminTrouble says why a call of the administration was not answered by the store, at most once a second per Kind constant.
func (l *Log) AdminTrouble(ctx context.Context, err error, kind string) {
	if suppressed, ok := l.admit("admin:" + kind); ok {
		l.Error("a call of the administration has failed",
			zap.String(FieldKind, kind), zap.Int64(FieldSuppressed, suppressed), zap.Error(err), InTrace(ctx))
	}
}

// TraceTrouble says that something is wrong with making traces, at most once a second.
func (l *Log) TraceTrouble(err error) {
	if suppressed, ok := l.admit("traces"); ok {
		l.Warn("trouble with traces", zap.Int64(FieldSuppressed, suppressed), zap.Error(err))
	}
}

// LostDecisions says that lines of the decision log could not be written, at most once a second.
func (l *Log) LostDecisions(err error) {
	if suppressed, ok := l.admit("decisions"); ok {
		l.Error("the decision log cannot be written", zap.Int64(FieldSuppressed, suppressed), zap.Error(err))
	}
}

// admit tells whether a line of this kind is due, and how many were left out since the last one.
func (l *Log) admit(kind string) (suppressed int64, ok bool) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.samples[kind]
	if s == nil {
		s = &sample{}
		l.samples[kind] = s
	} else if now.Sub(s.last) < sampleEvery {
		s.suppressed++
		return 0, false
	}
	suppressed, s.suppressed, s.last = s.suppressed, 0, now
	return suppressed, true
}
