package telemetry

import (
	"bytes"
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
	// maxWaiting is how much may wait to be written, bytes: more is dropped. As much again may be on its way.
	maxWaiting = 4 << 20
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
	macs    sync.Pool // of hash.Hash

	wake chan struct{} // holds one if something was added since the writer looked
	stop chan struct{}
	done chan struct{} // closed when the last line is written

	mu      sync.Mutex // guards what follows
	waiting []byte     // whole lines
	spare   []byte     // room for the next ones; nil while the writer has it
	closed  bool
}

// NewDecisionLog begins a decision log. Trouble with writing it is told to log, and dropped counts the lines that are not written.
func NewDecisionLog(opt DecisionLogOptions, log *Log, dropped prometheus.Counter) *DecisionLog {
	d := &DecisionLog{
		opt:     opt,
		log:     log,
		dropped: dropped,
		encoder: zapcore.NewJSONEncoder(encoderConfig()),
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
	}
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
	go d.run()
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
	line, err := d.encoder.Clone().EncodeEntry(
		zapcore.Entry{Level: zapcore.InfoLevel, Time: at, LoggerName: DecisionLogger, Message: verdict},
		[]zapcore.Field{zap.Inline(decision), in})
	if err != nil {
		d.dropped.Inc()
		return
	}
	defer line.Free()
	if !d.add(line.Bytes()) {
		d.dropped.Inc()
		return
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// add keeps a line until it is written. It reports false if there is no room for it.
func (d *DecisionLog) add(line []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || len(d.waiting)+len(line) > maxWaiting {
		return false
	}
	d.waiting = append(d.waiting, line...)
	return true
}

// run writes what waits until the log is closed and nothing does.
func (d *DecisionLog) run() {
	defer close(d.done)
	for {
		select {
		case <-d.wake:
			d.writeOut()
		case <-d.stop:
			d.writeOut()
			return
		}
	}
}

// writeOut writes what waits now.
func (d *DecisionLog) writeOut() {
	d.mu.Lock()
	lines := d.waiting
	d.waiting, d.spare = d.spare, nil
	d.mu.Unlock()
	if len(lines) > 0 {
		if n, err := d.opt.Out.Write(lines); err != nil {
			d.dropped.Add(float64(bytes.Count(lines[n:], []byte{'\n'})))
			d.log.LostDecisions(err)
		}
	}
	d.mu.Lock()
	d.spare = lines[:0]
	d.mu.Unlock()
}

// Close writes what waits, unless ctx ends first, and takes no more.
func (d *DecisionLog) Close(ctx context.Context) error {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if !closed {
		close(d.stop)
	}
	select {
	case <-d.done:
	case <-ctx.Done():
		d.log.LostDecisions(context.Cause(ctx))
	}
	return nil
}
