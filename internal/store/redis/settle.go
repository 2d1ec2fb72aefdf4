package redis

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Flags of a settlement.
const (
	settleRelease = 1
	settleKeep    = 2
	settleCancel  = 4 // undoes a hold as if it had never been
	settlePiece   = 8 // undoes what was taken without a hold at Book, once for the ID
	settleWaiting = 16
)

// Settle ends a hold, or books what has none; see store.Store.
func (s *Store) Settle(ctx context.Context, st *store.Settlement, out *store.Settled) error {
	*out = store.Settled{Memo: out.Memo[:0]}
	if err := st.Validate(); err != nil {
		return fmt.Errorf("redis store: %w", err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !st.Deadline.IsZero() && !time.Now().Before(st.Deadline) {
		return fmt.Errorf("%w: the deadline had passed", store.ErrTimeout)
	}
	flags := byte(0)
	if st.Release {
		flags |= settleRelease
		if st.Waiting {
			flags |= settleWaiting
		}
	}
	if st.Keep {
		flags |= settleKeep
	}
	if s.opt.Cluster && len(st.Parts) > 1 {
		return s.settleBySteps(ctx, st, flags, out)
	}
	return s.settles.settle(ctx, st, st.Parts, flags, out)
}

// settle asks settle.lua about the parts of one slot.
func (b *batcher) settle(
	ctx context.Context, st *store.Settlement, parts []store.Part, flags byte, out *store.Settled,
) error {
	j, err := b.job()
	if err != nil {
		return err
	}
	j.body = append(j.body, byte(len(parts)), flags)
	j.body = binary.BigEndian.AppendUint64(j.body, st.Fingerprint)
	j.body = appendUint56(j.body, st.USD)
	j.body = appendUint56(j.body, st.Tokens)
	j.body = appendUint56(j.body, st.Book)
	for i := range parts {
		j.keys = append(j.keys, subjectKey(parts[i].Subject)+openSuffix)
		j.body = appendUint56(j.body, parts[i].USD.Microseconds())
		j.body = appendUint56(j.body, parts[i].Tokens.Microseconds())
	}
	j.body = append(j.body, byte(len(st.ID)))
	j.body = append(j.body, st.ID...)
	j.body = append(j.body, st.Memo...)
	reply, err := b.run(ctx, j, st.Deadline)
	if err != nil {
		return err
	}
	return decodeSettled(reply, out)
}

func decodeSettled(reply string, out *store.Settled) error {
	r := reader{s: reply}
	switch r.byte() {
	case admitted:
	case mismatch:
		return fmt.Errorf("%w: it was settled otherwise", store.ErrMismatch)
	case unknown:
		return store.ErrNoHold
	default:
		return fmt.Errorf("%w: %s", store.ErrCorrupt, r.s)
	}
	out.Was, out.Status, out.Repeat = store.HoldStatus(r.byte()), store.HoldStatus(r.byte()), r.byte() == 1
	out.Now, out.At = r.uint56(), r.uint56()
	out.HeldUSD, out.HeldTokens, out.USD, out.Tokens = r.uint56(), r.uint56(), r.uint56(), r.uint56()
	out.Memo = append(out.Memo, r.s...)
	return r.err
}

// settleBySteps settles on a Cluster: subject by subject, the first one, whose record says what counts, first. Each subject has a
// record of its own, so a repeat after a crash settles what was left.
func (s *Store) settleBySteps(ctx context.Context, st *store.Settlement, flags byte, out *store.Settled) error {
	first := s.settles.settle(ctx, st, st.Parts[:1], flags, out)
	if first != nil {
		if !errors.Is(first, store.ErrNoHold) || !st.Release {
			return first
		}
		flags |= settleWaiting // it may stand in the others' lines; what it holds there is of a request under way
	}
	part := *st
	part.ID = idAway(st.Parts[0].Subject, st.ID)
	if first == nil { // of a repeat it may be another amount than this call's: prices change
		part.USD, part.Tokens = out.USD, out.Tokens
		flags &^= settleKeep
	}
	for i := 1; i < len(st.Parts); i++ {
		err := s.settles.settle(ctx, &part, st.Parts[i:i+1], flags, new(store.Settled))
		if err != nil && !errors.Is(err, store.ErrNoHold) && !errors.Is(err, store.ErrMismatch) {
			return err
		}
	}
	return first
}

// idAway is the id of a hold's part at a subject in another slot than its first one, whose ids are its own.
func idAway(first store.Subject, id string) string {
	sum := sha256.Sum256([]byte(subjectKey(first) + id))
	return string(sum[:16])
}
