package engine

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// told reports a decision that its caller is about to hear: on the call, with the checks that it made, none while rate limiting
// is switched off, and since when. It keeps nothing of them.
func (e *Engine) told(ctx context.Context, call *policy.Call, checks []policy.Check, dec *Decision, began time.Time) {
	e.counters.count(dec)
	if dec.Denied && dec.Deciding.Limit != nil {
		e.opt.Log.Denied(ctx, dec.Deciding.Tier, dec.Deciding.limit(), dec.Deciding.unit())
	}
	if e.opt.Traced {
		describe(trace.SpanFromContext(ctx), call, checks, dec)
	}
	if d := e.opt.Decisions; d.Wants(dec.Denied || len(dec.Shadowed) > 0) {
		now := time.Now()
		d.Write(now, dec.verdict(), &entry{
			log: d, call: call, checks: checks, decision: dec, took: now.Sub(began),
		}, telemetry.InTrace(ctx))
	}
}

// verdict is what the caller hears, as metrics, spans and logs spell it.
func (d *Decision) verdict() string {
	if d.Denied {
		return telemetry.VerdictDenied
	}
	return telemetry.VerdictAllowed
}

// holding is the money that a call holds from now on, nano-USD, and whether it holds anything.
func (d *Decision) holding(call *policy.Call) (usd int64, holds bool) {
	if d.Denied || d.Mode != Stored || call.Hold == nil {
		return 0, false
	}
	return call.Hold.USD, true
}

// limit is the name of the limit that decided.
func (s *Status) limit() string {
	if s.Limit == nil {
		return telemetry.LimitNone
	}
	return labelOf(s.Limit)
}

// unit is what the limit that decided counts.
func (s *Status) unit() string {
	if s.Limit == nil {
		return telemetry.UnitNone
	}
	return s.Limit.Unit.String()
}

// tier is the tier of the limit that decided.
func (s *Status) tier() string {
	if s.Tier == "" {
		return telemetry.TierNone
	}
	return s.Tier
}

// name is tier:limit:unit.
func (s Shadowed) name() string { return s.Tier + ":" + labelOf(s.Limit) + ":" + s.Limit.Unit.String() }

// describe puts a decision into the attributes of its call's span.
func describe(span trace.Span, call *policy.Call, checks []policy.Check, dec *Decision) {
	if !span.IsRecording() {
		return
	}
	const most = 9 // of what follows
	attrs := append(make([]attribute.KeyValue, 0, most),
		telemetry.AttrVerdict.String(dec.verdict()), telemetry.AttrMode.String(dec.Mode.String()),
		telemetry.AttrTier.String(dec.Deciding.tier()), telemetry.AttrLimit.String(dec.Deciding.limit()),
		telemetry.AttrUnit.String(dec.Deciding.unit()))
	if tiers := tiersOf(checks, allChecks); len(tiers) > 0 {
		attrs = append(attrs, telemetry.AttrTiers.StringSlice(tiers))
	}
	if len(dec.Shadowed) > 0 {
		names := make([]string, 0, len(dec.Shadowed))
		for _, sh := range dec.Shadowed {
			names = append(names, sh.name())
		}
		attrs = append(attrs, telemetry.AttrShadowDenied.StringSlice(names))
	}
	if dec.Denied && dec.Deciding.Limit != nil && dec.Deciding.Wait != store.Never {
		attrs = append(attrs, telemetry.AttrRetryAfter.Float64(dec.Deciding.Wait.Seconds()))
	}
	if usd, holds := dec.holding(call); holds {
		attrs = append(attrs, telemetry.AttrHeld.Float64(dollars(usd)))
	}
	span.SetAttributes(attrs...)
}

// allChecks is a set of checks, bit by bit, that has all of them.
const allChecks = ^uint64(0)

// tiersOf are the tiers of the checks of a set, each once and in their order.
func tiersOf(checks []policy.Check, set uint64) []string {
	var tiers []string
	for i := range checks {
		if set&(1<<i) != 0 && !slices.Contains(tiers, checks[i].Tier) {
			tiers = append(tiers, checks[i].Tier)
		}
	}
	return tiers
}

// toldEnd reports the end of a reservation, or a record, on its call's span.
func (e *Engine) toldEnd(ctx context.Context, out *store.Settled) {
	if !e.opt.Traced {
		return
	}
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(telemetry.AttrEnd.String(endOf(out)), telemetry.AttrCost.Float64(dollars(out.USD)))
	if out.Repeat {
		span.SetAttributes(telemetry.AttrDuplicate.Bool(true))
	}
}
