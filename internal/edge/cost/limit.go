package cost

import (
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

func writeLimits(states []engine.LimitState) []*costv1.LimitState {
	written := make([]*costv1.LimitState, 0, len(states))
	for i := range states {
		written = append(written, writeLimit(&states[i]))
	}
	return written
}

func writeLimit(s *engine.LimitState) *costv1.LimitState {
	l := &s.Limit
	written := &costv1.LimitState{
		Tier:        s.Tier,
		Id:          utf8Text(s.ID),
		Plan:        s.Plan,
		Name:        l.Name,
		Unit:        l.Unit.String(),
		Limit:       policy.FormatAmount(l.Unit, l.Max),
		Used:        policy.FormatAmount(l.Unit, s.Used),
		Held:        policy.FormatAmount(l.Unit, s.Held),
		Spent:       policy.FormatAmount(l.Unit, max(s.Used-s.Held, 0)),
		Remaining:   policy.FormatAmount(l.Unit, max(l.Max-s.Used, 0)),
		Shadow:      l.Shadow,
		Description: l.Describe(),
	}
	if l.Unit != store.Concurrent {
		written.Period = durationpb.New(l.Period)
		written.ResetsAt = writeTime(s.Resets)
	}
	return written
}

// writeDenial is a denial as an answer carries it; nil for none.
func writeDenial(d *engine.Denial) *costv1.Denial {
	if d == nil {
		return nil
	}
	unit := d.Limit.Unit
	written := &costv1.Denial{
		Reason:      string(d.Reason),
		Message:     describe(d),
		Tier:        d.Tier,
		Id:          utf8Text(d.ID),
		Name:        d.Limit.Name,
		Unit:        unit.String(),
		Limit:       policy.FormatAmount(unit, d.Limit.Max),
		Used:        policy.FormatAmount(unit, d.Used),
		Asked:       policy.FormatAmount(unit, d.Asked),
		AvailableAt: writeTime(d.Available),
	}
	if mayRetry(d) {
		written.RetryAfter = durationpb.New(d.RetryIn)
	}
	return written
}

// mayRetry tells whether a denied call can ever pass.
func mayRetry(d *engine.Denial) bool {
	return d.Wait != store.Never && d.Reason != engine.RequestTooExpensive
}

// describe says how the limit stands, and of an exhausted budget that a retry before it is back is useless.
func describe(d *engine.Denial) string {
	unit := d.Limit.Unit
	text := d.Limit.Describe() + ": " + policy.FormatAmount(unit, d.Used) + " used, " + policy.FormatAmount(unit, d.Asked) + " asked for"
	switch {
	case !mayRetry(d):
		return text + "; that can never pass"
	case d.Reason == engine.UserBudgetExhausted || d.Reason == engine.GlobalBudgetExhausted:
		return text + "; it is back at " + engine.FormatMoment(d.Available) + ", and to retry before that is useless"
	default:
		return text
	}
}
