package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// overrideTries is how often a part of a refund is asked anew because its subject's override changed in between.
const overrideTries = 4

// Refund gives hits back; see store.Store. On a Cluster each subject gives back its own newest hits.
func (s *Store) Refund(ctx context.Context, req *store.Request, ans *store.Answer) (int64, error) {
	if err := begin(ctx, req, req.ValidateRefund(), ans); err != nil {
		return 0, err
	}
	if len(req.Checks) == 0 {
		ans.Admitted, ans.Now = true, time.Now().UnixMicro()
		return 0, nil
	}
	ctx, cancel := s.bound(ctx, req.Deadline)
	defer cancel()
	if req.At != 0 {
		return s.refundAt(ctx, req, ans)
	}
	if s.opt.Cluster && len(req.Checks) > 1 {
		return s.refundBySteps(ctx, req, ans)
	}
	given, _, err := s.refund(ctx, req.Checks, piecewise{}, ans)
	return given, err
}

// piecewise says which hits of one check to give back, in place of its newest.
type piecewise struct {
	pieces string // '>I7I7' each: time and amount
	mark   string // names an undo: it is done at most once
}

// refund runs refund.lua over checks of one slot. It returns what the first gave back, and in which pieces.
func (s *Store) refund(
	ctx context.Context, checks []store.Check, by piecewise, ans *store.Answer,
) (given int64, pieces string, err error) {
	keys := make([]string, 0, len(checks)+1)
	var specs []byte
	raw := []byte{0, byte(len(checks))}
	for i := range checks {
		c := &checks[i]
		keys = append(keys, logKey(c.Subject, c.Unit))
		specs = appendSpec(specs, c.Unit, c.Limits)
		raw = appendCheck(raw, i+1, i+1, c.Amount, c.Override)
	}
	if by.mark != "" {
		raw[0] = undoFlag
		keys = append(keys, subjectKey(checks[0].Subject)+"x:"+by.mark)
	}
	args := []any{specs, raw, by.pieces, changeChannel}
	for i := range checks {
		args = append(args, encodeChange(checks[i].Subject))
	}
	reply, err := s.run(ctx, s.scripts.refund, keys, args).StringSlice()
	if err != nil {
		return 0, "", unavailable("refunding", err)
	}
	if len(reply) != refundParts {
		return 0, "", fmt.Errorf("%w: %d parts in the answer to a refund", errShort, len(reply))
	}
	given, err = strconv.ParseInt(reply[0], 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("reading the answer to a refund: %w", err)
	}
	if err := decodeAnswer(reply[1], checks, ans, nil); err != nil {
		return 0, "", err
	}
	if given > 0 {
		for i := range checks {
			s.changes.tell(store.Change{Subject: checks[i].Subject})
		}
	}
	return given, reply[2], nil
}

// refundParts is how many parts refund.lua answers in: what was given back, the answer, the pieces.
const refundParts = 3

// refundBySteps gives back subject by subject: the others the pieces of the first.
func (s *Store) refundBySteps(ctx context.Context, req *store.Request, ans *store.Answer) (int64, error) {
	all := steps(req)
	if stale, err := s.staleRefund(ctx, req, all, ans); stale || err != nil {
		return 0, err
	}
	parts := make([]store.Answer, len(all))
	given, pieces, err := s.refund(ctx, all[0].checks, piecewise{}, &parts[0])
	if err != nil {
		return 0, err
	}
	if len(parts[0].Stale) > 0 {
		merge(all[:1], parts[:1], false, ans)
		return 0, nil
	}
	admitted := parts[0].Admitted
	for i := 1; i < len(all); i++ {
		for c := range all[i].checks {
			check := all[i].checks[c]
			if given == 0 {
				check.Amount = 0
			}
			if _, err := s.refundPiecewise(ctx, check, piecewise{pieces: pieces}, &parts[i]); err != nil {
				return given, fmt.Errorf("step %d of a refund: %w", i+1, err)
			}
			admitted = admitted && parts[i].Admitted
		}
	}
	merge(all, parts, admitted, ans)
	return given, nil
}

// refundAt gives back the hits of one moment, check by check. The overrides are compared first, all of them: once something has
// been given back there is no way to say that they have changed.
func (s *Store) refundAt(ctx context.Context, req *store.Request, ans *store.Answer) (int64, error) {
	all := []step{{checks: req.Checks}}
	if s.opt.Cluster {
		all = steps(req)
	}
	if stale, err := s.staleRefund(ctx, req, all, ans); stale || err != nil {
		return 0, err
	}
	each := make([]step, len(req.Checks))
	parts := make([]store.Answer, len(req.Checks))
	first, admitted := int64(0), true
	for i := range req.Checks {
		each[i].checks = req.Checks[i : i+1]
		by := piecewise{pieces: string(appendUint56(appendUint56(nil, req.At), req.Checks[i].Amount))}
		given, err := s.refundPiecewise(ctx, req.Checks[i], by, &parts[i])
		if err != nil {
			return first, fmt.Errorf("check %d of a refund: %w", i, err)
		}
		if i == 0 {
			first = given
		}
		admitted = admitted && parts[i].Admitted
	}
	merge(each, parts, admitted, ans)
	return first, nil
}

// staleRefund reports whether a check of a refund was made from another override than the one that stands; ans then says which.
func (s *Store) staleRefund(ctx context.Context, req *store.Request, all []step, ans *store.Answer) (bool, error) {
	parts := make([]store.Answer, len(all))
	for i := range all {
		if err := s.batch.decide(ctx, all[i].checks, dryRun, req.Deadline, &parts[i], nil); err != nil {
			return false, err
		}
	}
	merge(all, parts, false, ans)
	if len(ans.Stale) > 0 {
		return true, nil
	}
	reset(ans)
	return false, nil
}

// refundPiecewise gives pieces of one check back, under whatever override its subject has by then.
func (s *Store) refundPiecewise(ctx context.Context, check store.Check, by piecewise, ans *store.Answer) (int64, error) {
	for range overrideTries {
		given, _, err := s.refund(ctx, []store.Check{check}, by, ans)
		if err != nil || len(ans.Stale) == 0 {
			return given, err
		}
		check.Override = ans.Stale[0].Version
		reset(ans)
	}
	return 0, fmt.Errorf("%w: the subject's override changed %d times meanwhile", store.ErrUnavailable, overrideTries)
}
