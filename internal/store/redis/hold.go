package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// calendarWindow is the kind of a calendar's window, beside exactWindow and its like.
const calendarWindow = 3

// The verdicts of the scripts of holds beside denied and its like.
const (
	mismatch = 8
	unknown  = 9
	skewed   = 10
)

// errSkewed says that this process's clock is of no use for calendars.
var errSkewed = errors.New("redis: its clock and this process's are more than a calendar window apart: set them right")

// sameSubject is added to a check's unit where its subject is that of the check before.
const sameSubject = 128

// Flags of a hold.
const (
	holdSlot      = 1
	holdGivesBack = 2
	holdExtend    = 4
	holdInLine    = 8
	holdAway      = 16 // on a Cluster: not at the hold's first subject
)

// hold asks reserve.lua for checks of one slot, and reads the answer into ans, after what ans already holds, and the times of
// the hits into at.
func (b *batcher) hold(
	ctx context.Context, req *store.Request, checks []store.Check, flags byte, ans *store.Answer, at []int64,
) error {
	j, err := b.job()
	if err != nil {
		return err
	}
	for i := range checks {
		j.keys = append(j.keys, logKey(checks[i].Subject, checks[i].Unit))
	}
	j.checks = append(j.checks, checks...)
	h := req.Hold
	if req.Look || h != nil && h.Extend && flags == dryRun {
		h = nil
	}
	j.body = b.appendRequest(j.body, checks, flags, h, checks[0].Subject != req.Checks[0].Subject)
	reply, err := b.run(ctx, j, req.Deadline)
	if err != nil {
		return err
	}
	return decodeHold(reply, checks, ans, at)
}

// appendRequest writes a request as reserve.lua reads it.
func (b *batcher) appendRequest(to []byte, checks []store.Check, flags byte, h *store.Hold, away bool) []byte {
	holds := byte(0)
	if h != nil {
		holds = 1
	}
	to = append(to, byte(len(checks)), flags, holds)
	for i := range checks {
		c := &checks[i]
		longest := time.Duration(0)
		for j := range c.Limits {
			longest = max(longest, c.Limits[j].Period)
		}
		unit := byte(c.Unit)
		if i > 0 && c.Subject == checks[i-1].Subject {
			unit |= sameSubject
		}
		to = append(to, unit)
		to = appendUint56(to, c.Amount)
		to = appendUint56(to, c.Override)
		to = appendUint56(to, longest.Microseconds())
		to = appendSpec(to, c.Unit, c.Limits)
		for j := range c.Limits {
			if calendar := c.Limits[j].Calendar; calendar != nil {
				to = b.appendBounds(to, calendar)
			}
		}
	}
	if h == nil {
		return to
	}
	bits := byte(0)
	for _, flag := range []struct {
		on  bool
		bit byte
	}{{h.Slot, holdSlot}, {h.ReleaseOnExpiry, holdGivesBack}, {h.Extend, holdExtend}, {h.InLine, holdInLine}, {away, holdAway}} {
		if flag.on {
			bits |= flag.bit
		}
	}
	to = append(to, bits)
	to = binary.BigEndian.AppendUint64(to, h.Fingerprint)
	to = appendUint56(to, h.Lease.Microseconds())
	to = appendUint56(to, h.USD)
	to = appendUint56(to, h.Tokens)
	to = append(to, byte(len(h.ID)))
	to = append(to, h.ID...)
	return to
}

// appendBounds writes where the windows of a calendar begin, around this process's time: the script takes the one that the
// store's time is in.
func (b *batcher) appendBounds(to []byte, c *store.Calendar) []byte {
	now := time.Now().UnixMicro()
	if b.clock != nil {
		now = b.clock()
	}
	start, end := c.Window(now)
	before, _ := c.Window(start - 1)
	_, after := c.Window(end)
	for _, at := range []int64{before, start, end, after} {
		to = appendUint56(to, max(at, 0))
	}
	return to
}

// decodeHold reads an answer of reserve.lua.
func decodeHold(reply string, checks []store.Check, ans *store.Answer, at []int64) error {
	r := reader{s: reply}
	verdict := r.byte()
	switch verdict {
	case denied, admitted:
	case mismatch:
		return fmt.Errorf("%w: it holds something else", store.ErrMismatch)
	case unknown:
		return store.ErrNoHold
	case skewed:
		return errSkewed
	default:
		return decodeAnswer(reply, checks, ans, at)
	}
	ans.Admitted, ans.Now = verdict == admitted, r.uint56()
	for i := range checks {
		now := r.uint56()
		if i < len(at) {
			at[i] = now
		}
		ans.Seqs = append(ans.Seqs, r.uint56())
		ans.Held = append(ans.Held, r.uint56())
		for range checks[i].Limits {
			ans.States = append(ans.States, store.State{
				Used: r.uint56(), Reset: micros(r.uint56()), Wait: micros(r.uint56()),
			})
		}
	}
	ans.Hold = store.HoldState{
		Status: store.HoldStatus(r.byte()), Repeat: r.byte() == 1, At: r.uint56(), Expires: r.uint56(),
		USD: r.uint56(), Tokens: r.uint56(), Queued: r.byte() == 1,
	}
	if ahead := r.take(4); ahead != "" {
		ans.Hold.Ahead = int(binary.BigEndian.Uint32([]byte(ahead)))
	}
	return r.err
}
