package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
)

// refund gives back, once, what the refunding descriptors of a call ask for, before anything is taken: the hits of the moment at,
// microseconds since the Unix epoch, or for 0 the newest. The descriptors' answers are kept for addRefunds. What the store could
// not do is storeErr; err is the caller's own.
func (e *Engine) refund(
	ctx context.Context, call *policy.Call, sc *scratch, at int64, deadline time.Time,
) (storeErr, err error) {
	sc.refunds = sc.refunds[:0]
	if !call.Refunds() {
		return nil, nil
	}
	for range maxRestarts {
		snapshot, err := e.resolve(call, sc)
		if err != nil {
			return nil, err
		}
		checks := sc.resolution.Refund
		if len(checks) == 0 {
			return nil, nil
		}
		sc.ask(checks, deadline)
		sc.request.At = at
		sent := time.Now()
		_, err = e.opt.Store.Refund(ctx, &sc.request, &sc.answer)
		sc.inStore += e.trip(sent)
		if err != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("refunding: %w", context.Cause(ctx))
			}
			return err, nil
		}
		if e.stale(ctx, snapshot, sc.answer.Stale, checks) { // then nothing was given back
			continue
		}
		sc.judge(checks, &sc.answer)
		for _, named := range sc.resolution.Of {
			var st Status
			if named.Refund != 0 {
				sc.answerDescriptor(&st, checks, named.Refund)
				st.Denied, st.Wait = false, 0 // to give back is never denied
			}
			sc.refunds = append(sc.refunds, st)
		}
		return nil, nil
	}
	return errRestarts, nil
}

// addRefunds puts the answers of the descriptors that gave back beside those of the others. If the store could not do it the
// call fails open for them: they were let through and nothing was counted.
func (e *Engine) addRefunds(ctx context.Context, sc *scratch, storeErr error, dec *Decision) {
	if storeErr != nil {
		e.trouble(ctx, storeErr)
		for i, named := range sc.resolution.Of {
			if named.Refund != 0 {
				dec.Statuses[i] = Status{Matched: true, Tier: sc.resolution.Refund[0].Tier}
				dec.decide(&dec.Statuses[i])
			}
		}
		if dec.Denied {
			return
		}
		tiers := tiersOf(sc.resolution.Refund, allChecks)
		if dec.Mode == FailedOpen { // and so has told of those that it would have taken from
			of := tiersOf(sc.resolution.Admit, allChecks)
			tiers = slices.DeleteFunc(tiers, func(tier string) bool { return slices.Contains(of, tier) })
		}
		dec.Mode = FailedOpen
		e.openFor(ctx, tiers)
		return
	}
	for i := range sc.refunds {
		if st := &sc.refunds[i]; st.Matched {
			dec.Statuses[i] = *st
			dec.decide(st)
			if dec.Mode == Unmatched {
				dec.Mode = Stored
			}
		}
	}
}
