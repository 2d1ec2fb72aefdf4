package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Admit decides a request; see store.Store.
func (s *Store) Admit(ctx context.Context, req *store.Request, ans *store.Answer) error {
	if err := begin(ctx, req, req.Validate(), ans); err != nil {
		return err
	}
	if len(req.Checks) == 0 && req.Hold == nil {
		ans.Admitted, ans.Now = true, time.Now().UnixMicro()
		return nil
	}
	if s.opt.Cluster && severalSubjects(req) {
		return s.admitBySteps(ctx, req, ans)
	}
	flags := byte(0)
	if req.Look {
		flags = dryRun
	}
	return s.decide(ctx, req, req.Checks, flags, ans, nil)
}

// decide asks for checks of one slot, with the request's hold.
func (s *Store) decide(
	ctx context.Context, req *store.Request, checks []store.Check, flags byte, ans *store.Answer, at []int64,
) error {
	if req.Hold != nil || !onlyRequests(checks) { // one without limits names its subject, which is for holds
		return s.reserve.hold(ctx, req, checks, flags, ans, at)
	}
	return s.batch.decide(ctx, checks, flags, req.Deadline, ans, at)
}

func onlyRequests(checks []store.Check) bool {
	for i := range checks {
		if checks[i].Unit != store.Requests || len(checks[i].Limits) == 0 {
			return false
		}
	}
	return true
}

func severalSubjects(req *store.Request) bool {
	for i := range req.Checks {
		if req.Checks[i].Subject != req.Checks[0].Subject {
			return true
		}
	}
	return false
}

// begin empties the answer, and errs if nothing is to be sent for a request: it is bad, or its time is over.
func begin(ctx context.Context, req *store.Request, bad error, ans *store.Answer) error {
	reset(ans)
	if bad != nil {
		return fmt.Errorf("redis store: %w", bad)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !req.Deadline.IsZero() && !time.Now().Before(req.Deadline) {
		return fmt.Errorf("%w: the deadline had passed", store.ErrTimeout)
	}
	return nil
}

func reset(ans *store.Answer) {
	ans.Admitted, ans.Now = false, 0
	ans.States, ans.Seqs, ans.Stale, ans.Held = ans.States[:0], ans.Seqs[:0], ans.Stale[:0], ans.Held[:0]
	ans.Hold = store.HoldState{}
}

// decide asks for checks of one slot and reads the answer into ans, and the times of the hits into at.
func (b *batcher) decide(
	ctx context.Context, checks []store.Check, flags byte, deadline time.Time, ans *store.Answer, at []int64,
) error {
	j, err := b.job()
	if err != nil {
		return err
	}
	j.flags = flags
	j.checks = append(j.checks, checks...)
	for i := range checks {
		j.keys = append(j.keys, logKey(checks[i].Subject, checks[i].Unit))
	}
	reply, err := b.run(ctx, j, deadline)
	if err != nil {
		return err
	}
	return decodeAnswer(reply, checks, ans, at)
}
