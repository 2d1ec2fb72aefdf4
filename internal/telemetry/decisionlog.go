package telemetry

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// DecisionLogger is the logger's name in the lines of the decision log, which tells them from all others.
const DecisionLogger = "decision"

// The fields of the decision log, beside those of other lines.
const (
	FieldAmount     = "amount"      // what is asked for; of unit usd in USD
	FieldChecks     = "checks"      // who asks for what
	FieldDomain     = "domain"      // the call's domain
	FieldDuration   = "duration"    // seconds from the decoded call to the decision
	FieldHeld       = "held_usd"    // what the call holds from now on, USD
	FieldID         = "id"          // whose usage it is
	FieldLeftOut    = "left_out"    // checks that are not listed
	FieldLimit      = "limit"       // a limit's name, as LabelLimit has it
	FieldMax        = "max"         // what a limit allows; of unit usd in USD
	FieldMode       = "mode"        // where a decision came from, as engine.Mode spells it
	FieldNever      = "never"       // the call asks for more than the limit at once
	FieldRemaining  = "remaining"   // what is left of a limit; of unit usd in USD
	FieldRetryAfter = "retry_after" // seconds until the same call would pass
	FieldShadow     = "shadow"      // shadow limits that would have denied, as tier:limit:unit
	FieldUnit       = "unit"        // a limit's unit
	FieldVerdict    = "verdict"     // VerdictAllowed or VerdictDenied
)

// What the decision log tells: of which decisions, and by which ids.
const (
	DecisionsOff    = "off"
	DecisionsDenied = "denied" // what was denied, and what a shadow limit would have denied
	DecisionsAll    = "all"

	IDsPlain  = "plain"
	IDsHashed = "hashed"
	IDsNone   = "none"
)

// Bounds of the decision log.
const (
	// MinHashKey is the shortest key of hashed ids, bytes.
	MinHashKey = 16
	// maxShownID is how much of an id is shown, bytes.
	maxShownID = 256
	// hashBytes is how much of an id's hash is shown: enough that no two ids of a system are alike.
	hashBytes = 16
)

// DecisionLogOptions say what the decision log tells.
type DecisionLogOptions struct {
	Which string    // DecisionsDenied or DecisionsAll
	IDs   string    // an IDs constant
	Key   []byte    // of hashed ids, from MinHashKey bytes; empty for one of this process alone
	Out   io.Writer // where its lines go, some at a time and each whole
}

// DecisionLog writes a line of JSON for each decision, in the background: a decision never waits for it. What comes faster than
// it can be written is dropped and counted. It is safe for concurrent use.
type DecisionLog struct {
	opt     DecisionLogOptions
	log     *Log
	dropped prometheus.Counter
	encoder zapcore.Encoder
	lines   *lines
	macs    sync.Pool // of hash.Hash
}

// NewDecisionLog begins a decision log. Trouble with writing it is told to log, and dropped counts the lines that are not written.
func NewDecisionLog(opt DecisionLogOptions, log *Log, dropped prometheus.Counter) *DecisionLog {
	d := &DecisionLog{
		opt:     opt,
		log:     log,
		dropped: dropped,
		encoder: zapcore.NewJSONEncoder(encoderConfig()),
	}
	d.lines = newLines(opt.Out, d.lost)
	if opt.IDs == IDsHashed {
		key := opt.Key
		if len(key) == 0 {
			key = make([]byte, sha256.Size)
			_, _ = rand.Read(key) // never errs
			log.Warn("hashed ids of the decision log are of this process alone: set a key to compare them with another's",
				zap.String(FieldSetting, "RATELIMITD_LOG_HASH_KEY"))
		}
		d.macs.New = func() any { return hmac.New(sha256.New, key) }
	}
	return d
}

// Wants tells whether a decision is to be written. A call is remarkable if it was denied, or would have been by a shadow limit. A
// nil log wants nothing.
func (d *DecisionLog) Wants(remarkable bool) bool {
	return d != nil && (remarkable || d.opt.Which == DecisionsAll)
}

// ID is an id as it is shown; empty if it is not.
func (d *DecisionLog) ID(id string) string {
	switch {
	case id == "" || d.opt.IDs == IDsNone:
		return ""
	case d.opt.IDs == IDsHashed:
		return d.hashed(id)
	default:
		return shortened(id)
	}
}

// hashed is the begin of the id's HMAC-SHA256, in hexadecimal digits.
func (d *DecisionLog) hashed(id string) string {
	mac, ok := d.macs.Get().(hash.Hash)
	if !ok {
		return ""
	}
	defer d.macs.Put(mac)
	mac.Reset()
	_, _ = io.WriteString(mac, id) // a hash takes everything
	var sum [sha256.Size]byte
	return hex.EncodeToString(mac.Sum(sum[:0])[:hashBytes])
}

// shortened is a text of at most maxShownID bytes, with an ellipsis if there was more of it.
func shortened(text string) string {
	if len(text) <= maxShownID {
		return text
	}
	end := maxShownID
	for end > maxShownID-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.Clone(text[:end]) + "…"
}

// Write adds the line of a decision, which is made before it returns. It never waits for the line to be written.
func (d *DecisionLog) Write(at time.Time, verdict string, decision zapcore.ObjectMarshaler, in zap.Field) {
	line, err := d.encoder.EncodeEntry( // it works on a copy of its own, so that many may write at once
		zapcore.Entry{Level: zapcore.InfoLevel, Time: at, LoggerName: DecisionLogger, Message: verdict},
		[]zapcore.Field{zap.Inline(decision), in})
	if err != nil {
		d.dropped.Inc()
		return
	}
	defer line.Free()
	d.lines.add(line.Bytes())
}

// lost counts lines that are not written.
func (d *DecisionLog) lost(n int, err error) {
	d.dropped.Add(float64(n))
	if err != nil {
		d.log.LostDecisions(err)
	}
}

// Close writes what waits, unless ctx ends first, and takes no more.
func (d *DecisionLog) Close(ctx context.Context) error {
	if err := d.lines.close(ctx); err != nil {
		d.log.LostDecisions(err)
	}
	return nil
}
