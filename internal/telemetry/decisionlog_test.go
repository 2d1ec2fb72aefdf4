package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// sink keeps what is written, and errs once it is told to.
type sink struct {
	mu   sync.Mutex
	text bytes.Buffer
	err  error
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	return s.text.Write(b)
}

// about is a decision that says one id.
type about struct {
	log *DecisionLog
	id  string
}

func (a about) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString(FieldID, a.log.ID(a.id))
	return nil
}

// written is what a log writes about ids, line by line.
func written(t *testing.T, opt DecisionLogOptions, ids ...string) []map[string]any {
	t.Helper()
	out := new(sink)
	opt.Out = out
	d := NewDecisionLog(opt, NopLog(), counter("dropped_total", "Dropped."))
	for _, id := range ids {
		d.Write(time.Unix(1_800_000_000, 0), VerdictDenied, about{d, id}, zap.Skip())
	}
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var lines []map[string]any
	for line := range strings.Lines(out.text.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("a line is no JSON: %v: %q", err, line)
		}
		lines = append(lines, fields)
	}
	if len(lines) != len(ids) {
		t.Fatalf("%d decisions are %d lines", len(ids), len(lines))
	}
	return lines
}

func TestAnIDCannotForgeALine(t *testing.T) {
	for _, id := range []string{
		"plain", "a\nb", `","verdict":"allowed`, "\xff\xfe", "\x00\x1b[31m", "a\u2028b", strings.Repeat("é", 10_000), strings.Repeat("\xff", 1000),
	} {
		line := written(t, DecisionLogOptions{Which: DecisionsAll, IDs: IDsPlain}, id)[0]
		if line["msg"] != VerdictDenied || line["logger"] != DecisionLogger || line["level"] != "info" || line["verdict"] != nil {
			t.Errorf("the id %.20q makes the line %v", id, line)
		}
		if got, ok := line[FieldID].(string); !ok || utf8.RuneCountInString(got) > maxShownID+1 || !utf8.ValidString(got) {
			t.Errorf("the id %.20q is shown as %q", id, got)
		}
	}
}

// TestAHashedIDIsTheBeginOfItsHMAC has the first case of RFC 4231 as its vector.
func TestAHashedIDIsTheBeginOfItsHMAC(t *testing.T) {
	opt := DecisionLogOptions{Which: DecisionsAll, IDs: IDsHashed, Key: bytes.Repeat([]byte{0x0b}, 20)}
	lines := written(t, opt, "Hi There", "another", "Hi There")
	if got, want := lines[0][FieldID], "b0344c61d8db38535ca8afceaf0bf12b"; got != want {
		t.Errorf("the id is shown as %v, want %s", got, want)
	}
	if lines[0][FieldID] != lines[2][FieldID] || lines[0][FieldID] == lines[1][FieldID] {
		t.Error("one id has two hashes, or two have one")
	}
	if got := written(t, DecisionLogOptions{Which: DecisionsAll, IDs: IDsNone}, "a")[0][FieldID]; got != "" {
		t.Errorf("an id that is not to be shown is shown as %v", got)
	}
}

func TestWithoutAKeyEachProcessHasItsOwnAndSaysSo(t *testing.T) {
	core, lines := observer.New(zapcore.DebugLevel)
	hashes := map[string]bool{}
	for range 2 {
		d := NewDecisionLog(DecisionLogOptions{Which: DecisionsAll, IDs: IDsHashed, Out: io.Discard},
			NewLog(zap.New(core)), counter("dropped_total", "Dropped."))
		hashes[d.ID("a")] = true
		if err := d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(hashes) != 2 || lines.Len() != 2 {
		t.Errorf("two logs make %d hashes of one id and %d warnings, want 2 and 2", len(hashes), lines.Len())
	}
}

func TestWhichDecisionsAreWanted(t *testing.T) {
	for _, tc := range []struct {
		log              *DecisionLog
		allowed, refused bool
	}{
		{nil, false, false},
		{&DecisionLog{opt: DecisionLogOptions{Which: DecisionsDenied}}, false, true},
		{&DecisionLog{opt: DecisionLogOptions{Which: DecisionsAll}}, true, true},
	} {
		if tc.log.Wants(false) != tc.allowed || tc.log.Wants(true) != tc.refused {
			t.Errorf("%+v wants %v and %v", tc.log, tc.log.Wants(false), tc.log.Wants(true))
		}
	}
}

// TestManyWriteAtOnce has each of several write its own lines: each line is whole, and has the id of one of them. The race detector
// watches.
func TestManyWriteAtOnce(t *testing.T) {
	const writers, each = 8, 200
	out := new(sink)
	d := NewDecisionLog(DecisionLogOptions{Which: DecisionsAll, IDs: IDsPlain, Out: out}, NopLog(), counter("dropped_total", "Dropped."))
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			verdict := []string{VerdictAllowed, VerdictDenied}[w%2]
			for range each {
				d.Write(time.Unix(1_800_000_000, 0), verdict, about{d, verdict + strconv.Itoa(w)}, zap.Skip())
			}
		})
	}
	all.Wait()
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for line := range strings.Lines(out.text.String()) {
		var fields struct{ Msg, ID string }
		if err := json.Unmarshal([]byte(line), &fields); err != nil || !strings.HasPrefix(fields.ID, fields.Msg) {
			t.Fatalf("a line is no JSON, or is of two decisions: %v: %q", err, line)
		}
		count[fields.ID]++
	}
	for id, n := range count {
		if n != each {
			t.Errorf("%d lines are about %s, want %d", n, id, each)
		}
	}
	if len(count) != writers {
		t.Errorf("the lines are about %v, want %d ids", count, writers)
	}
}

func TestAReaderThatDoesNotReadBlocksNobody(t *testing.T) {
	read, write := io.Pipe()
	d := NewDecisionLog(DecisionLogOptions{Which: DecisionsAll, IDs: IDsPlain, Out: write}, NopLog(), counter("dropped_total", "Dropped."))
	id := strings.Repeat("x", maxShownID)
	for range 4 * maxWaiting / len(id) { // several times what may wait
		d.Write(time.Now(), VerdictAllowed, about{d, id}, zap.Skip())
	}
	if testutil.ToFloat64(d.dropped) == 0 {
		t.Error("nothing was dropped")
	}
	d.lines.mu.Lock()
	waiting := len(d.lines.waiting)
	d.lines.mu.Unlock()
	if waiting > maxWaiting {
		t.Errorf("%d bytes wait, want at most %d", waiting, maxWaiting)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Errorf("the end errs with %v", err)
	}
	d.Write(time.Now(), VerdictAllowed, about{d, "late"}, zap.Skip())
	if err := read.Close(); err != nil {
		t.Fatal(err)
	}
	<-d.lines.done
}

func TestLinesThatCannotBeWrittenAreCounted(t *testing.T) {
	core, lines := observer.New(zapcore.DebugLevel)
	out := &sink{err: errors.New("nobody reads")}
	d := NewDecisionLog(DecisionLogOptions{Which: DecisionsAll, IDs: IDsPlain, Out: out}, NewLog(zap.New(core)), counter("dropped_total", "Dropped."))
	for range 7 {
		d.Write(time.Now(), VerdictAllowed, about{d, "a"}, zap.Skip())
	}
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(d.dropped); got != 7 {
		t.Errorf("%v lines are counted as lost, want 7", got)
	}
	if lines.FilterMessage("the decision log cannot be written").Len() == 0 {
		t.Errorf("the log holds %v, want what is wrong", lines.All())
	}
}

func BenchmarkDecisionLog(b *testing.B) {
	d := NewDecisionLog(DecisionLogOptions{Which: DecisionsAll, IDs: IDsHashed, Key: make([]byte, 32), Out: io.Discard},
		NopLog(), counter("dropped_total", "Dropped."))
	defer func() { _ = d.Close(b.Context()) }()
	b.ReportAllocs()
	for b.Loop() {
		d.Write(time.Now(), VerdictAllowed, about{d, "user-1234567"}, zap.Skip())
	}
}
