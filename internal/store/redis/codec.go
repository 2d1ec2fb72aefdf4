package redis

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// The verdicts that begin a script's answer.
const (
	denied   = 0
	admitted = 1
	stale    = 2
	failed   = 3
	// withWaits is added to denied or admitted when the waits follow the states.
	withWaits = 4
)

// The kinds of window that a script knows.
const (
	exactWindow  = 0
	coarseWindow = 1
	softWindow   = 2
)

// never is a script's wait for what cannot pass: the largest integer that a double holds with all below it.
const never = 1<<53 - 1

// Flags of a request.
const (
	dryRun   = 1 // admit.lua answers and takes nothing
	undoFlag = 2 // refund.lua does it at most once under its mark
)

func appendUint56(b []byte, v int64) []byte {
	return append(b, byte(v>>48), byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// appendSpec writes the windows of a check as a script reads them.
func appendSpec(b []byte, unit store.Unit, limits []store.Limit) []byte {
	b = append(b, byte(len(limits)))
	for i := range limits {
		l := &limits[i]
		kind, enforced := byte(exactWindow), byte(1)
		switch {
		case unit == store.Requests && l.Max > store.ExactHits:
			kind = coarseWindow
		case unit != store.Requests || l.Shadow:
			kind = softWindow
		}
		if l.Shadow {
			enforced = 0
		}
		period := l.Period.Microseconds()
		if l.Calendar != nil {
			kind, period = calendarWindow, l.Calendar.ID()
		}
		b = appendUint56(b, period)
		b = appendUint56(b, l.Max)
		b = append(b, kind, enforced)
	}
	return b
}

// appendCheck writes one check of a request; key and spec count from 1.
func appendCheck(b []byte, key, spec int, amount, override int64) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = append(b, byte(spec))
	b = appendUint56(b, amount)
	return appendUint56(b, override)
}

var errShort = errors.New("a script's answer is too short")

// reader takes an answer apart. After a short read it stays at the end and says so once, in err.
type reader struct {
	s   string
	err error
}

func (r *reader) take(n int) string {
	if len(r.s) < n {
		r.err, r.s = errShort, ""
		return ""
	}
	part := r.s[:n]
	r.s = r.s[n:]
	return part
}

func (r *reader) byte() byte {
	if p := r.take(1); p != "" {
		return p[0]
	}
	return failed
}

func (r *reader) uint56() int64 {
	p := r.take(7)
	if p == "" {
		return 0
	}
	return int64(p[0])<<48 | int64(p[1])<<40 | int64(p[2])<<32 | int64(p[3])<<24 |
		int64(p[4])<<16 | int64(p[5])<<8 | int64(p[6])
}

// decodeAnswer reads the answer about checks into ans, after what ans already holds, and the time that each check's hit was
// taken at into at. It errs with ErrCorrupt when the script refused the request.
func decodeAnswer(reply string, checks []store.Check, ans *store.Answer, at []int64) error {
	r := reader{s: reply}
	verdict := r.byte()
	switch verdict {
	case stale:
		for range int(r.byte()) {
			index, version := int(r.byte()), r.uint56()
			size := r.take(4)
			if r.err != nil {
				return r.err
			}
			value := r.take(int(binary.BigEndian.Uint32([]byte(size))))
			ans.Stale = append(ans.Stale, store.Stale{Check: index, Version: version, Value: value})
		}
		return r.err
	case denied, admitted, denied + withWaits, admitted + withWaits:
		r.states(verdict, checks, ans, at)
		return r.err
	default:
		return fmt.Errorf("%w: %s", store.ErrCorrupt, r.s)
	}
}

// states reads the states of all checks behind those that ans already holds.
func (r *reader) states(verdict byte, checks []store.Check, ans *store.Answer, at []int64) {
	ans.Admitted = verdict&admitted != 0
	ans.Now = r.uint56()
	first := len(ans.States)
	for i := range checks {
		now := r.uint56()
		if i < len(at) {
			at[i] = now
		}
		ans.Seqs = append(ans.Seqs, r.uint56())
		ans.Held = append(ans.Held, 0)
		for range checks[i].Limits {
			ans.States = append(ans.States, store.State{Used: r.uint56(), Reset: micros(r.uint56())})
		}
	}
	if verdict&withWaits != 0 {
		for i := first; i < len(ans.States); i++ {
			ans.States[i].Wait = micros(r.uint56())
		}
	}
}

func micros(us int64) time.Duration {
	if us >= never {
		return store.Never
	}
	return time.Duration(us) * time.Microsecond
}
