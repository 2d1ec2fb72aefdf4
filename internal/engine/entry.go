package engine

import (
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// Bounds of one entry of the decision log.
const (
	mostChecks = 16  // that are listed
	mostDomain = 128 // bytes of the domain that are shown
)

// entry is one entry of the decision log. It lives no longer than its call.
type entry struct {
	log      *telemetry.DecisionLog
	call     *policy.Call
	checks   []policy.Check
	decision *Decision
	took     time.Duration
}

// MarshalLogObject writes who asked for what, what the answer is, why, and how long it took.
func (n *entry) MarshalLogObject(to zapcore.ObjectEncoder) error {
	dec := n.decision
	to.AddString(telemetry.FieldVerdict, dec.verdict())
	to.AddString(telemetry.FieldMode, dec.Mode.String())
	to.AddString(telemetry.FieldDomain, n.call.Domain[:min(len(n.call.Domain), mostDomain)])
	to.AddString(telemetry.FieldTier, dec.Deciding.tier())
	to.AddString(telemetry.FieldLimit, dec.Deciding.limit())
	if l := dec.Deciding.Limit; l != nil {
		addLimit(to, &dec.Deciding, dec.Denied)
	}
	if usd, holds := dec.holding(n.call); holds {
		to.AddFloat64(telemetry.FieldHeld, dollars(usd))
	}
	if len(n.checks) > 0 {
		if err := to.AddArray(telemetry.FieldChecks, listed{n}); err != nil {
			return err //nolint:wrapcheck // the encoder's error is the encoder's
		}
	}
	if left := len(n.checks) - mostChecks; left > 0 {
		to.AddInt(telemetry.FieldLeftOut, left)
	}
	if len(dec.Shadowed) > 0 {
		if err := to.AddArray(telemetry.FieldShadow, shadows(dec.Shadowed)); err != nil {
			return err //nolint:wrapcheck // the encoder's error is the encoder's
		}
	}
	to.AddFloat64(telemetry.FieldDuration, n.took.Seconds())
	return nil
}

// addLimit writes the numbers of the limit that decided.
func addLimit(to zapcore.ObjectEncoder, st *Status, denied bool) {
	l := st.Limit
	to.AddString(telemetry.FieldUnit, l.Unit.String())
	addAmount(to, telemetry.FieldMax, l.Unit, l.Max)
	addAmount(to, telemetry.FieldRemaining, l.Unit, max(st.Remaining, 0))
	switch {
	case !denied:
	case st.Wait == store.Never:
		to.AddBool(telemetry.FieldNever, true)
	default:
		to.AddFloat64(telemetry.FieldRetryAfter, st.Wait.Seconds())
	}
}

// addAmount writes an amount of a unit, money in USD.
func addAmount(to zapcore.ObjectEncoder, field string, unit store.Unit, amount int64) {
	if unit == store.USD {
		to.AddFloat64(field, dollars(amount))
		return
	}
	to.AddInt64(field, amount)
}

// listed are the checks of an entry.
type listed struct{ *entry }

// MarshalLogArray writes the first of the checks.
func (c listed) MarshalLogArray(to zapcore.ArrayEncoder) error {
	for i := range min(len(c.checks), mostChecks) {
		if err := to.AppendObject(wish{c.log, &c.checks[i]}); err != nil {
			return err //nolint:wrapcheck // the encoder's error is the encoder's
		}
	}
	return nil
}

// wish is one check of an entry.
type wish struct {
	log   *telemetry.DecisionLog
	check *policy.Check
}

// MarshalLogObject writes who asks for how much of what.
func (w wish) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString(telemetry.FieldTier, w.check.Tier)
	if id := w.log.ID(w.check.Subject.ID); id != "" {
		to.AddString(telemetry.FieldID, id)
	}
	to.AddString(telemetry.FieldUnit, w.check.Unit.String())
	addAmount(to, telemetry.FieldAmount, w.check.Unit, w.check.Amount)
	return nil
}

// shadows are the shadow limits that a call went past.
type shadows []Shadowed

// MarshalLogArray writes their names.
func (s shadows) MarshalLogArray(to zapcore.ArrayEncoder) error {
	for _, sh := range s {
		to.AppendString(sh.name())
	}
	return nil
}
