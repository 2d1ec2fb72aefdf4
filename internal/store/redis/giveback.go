package redis

import (
	"context"
	"fmt"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// overrideTries is how often a part of a refund is asked anew because its subject's override changed in between.
const overrideTries = 4

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
