package cost

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/store"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

func writeQuotation(q *engine.Quotation) *costv1.QuoteResponse {
	return &costv1.QuoteResponse{
		ExpectedCostUsd: budget.FormatMoney(q.ExpectedUSD),
		MaximumCostUsd:  budget.FormatMoney(q.MaximumUSD),
		Admitted:        q.Admitted,
		Binding:         writeDenial(q.Binding),
		MaxOutputTokens: q.MaxOutputTokens,
		Limits:          writeLimits(q.Limits),
		Warnings:        writeWarnings(q.Warnings),
	}
}

func writeGrant(g *engine.Grant) *costv1.ReserveResponse {
	return &costv1.ReserveResponse{
		ReservationId:       g.ReservationID,
		State:               stateName(g.Status),
		HeldUsd:             budget.FormatMoney(g.HeldUSD),
		GrantedOutputTokens: g.GrantedOutputTokens,
		ExpiresAt:           writeTime(g.ExpiresAt),
		HeartbeatInterval:   durationpb.New(g.Heartbeat),
		Limits:              writeLimits(g.Limits),
		Warnings:            writeWarnings(g.Warnings),
		Duplicate:           g.Repeat,
	}
}

func writeExtended(e *engine.Extended) *costv1.ExtendResponse {
	return &costv1.ExtendResponse{
		ExpiresAt:         writeTime(e.ExpiresAt),
		HeldUsd:           budget.FormatMoney(e.HeldUSD),
		HeartbeatInterval: durationpb.New(e.Heartbeat),
		MustStop:          e.MustStop,
		Denial:            writeDenial(e.Denial),
	}
}

func writeSettled(r *engine.Receipt) *costv1.SettleResponse {
	return &costv1.SettleResponse{
		CostUsd:     budget.FormatMoney(r.CostUSD),
		Breakdown:   writeBreakdown(r.Breakdown),
		ReleasedUsd: budget.FormatMoney(r.ReleasedUSD),
		OverageUsd:  budget.FormatMoney(r.OverageUSD),
		SavedUsd:    budget.FormatMoney(r.SavedUSD),
		Duplicate:   r.Duplicate,
		Late:        r.Late,
		State:       stateName(r.Status),
		Warnings:    writeWarnings(r.Warnings),
	}
}

func writeReleased(r *engine.Receipt) *costv1.ReleaseResponse {
	return &costv1.ReleaseResponse{
		ReleasedUsd: budget.FormatMoney(r.ReleasedUSD),
		Duplicate:   r.Duplicate,
		Late:        r.Late,
		State:       stateName(r.Status),
		Warnings:    writeWarnings(r.Warnings),
	}
}

func writeRecorded(r *engine.Receipt) *costv1.RecordResponse {
	return &costv1.RecordResponse{
		CostUsd:   budget.FormatMoney(r.CostUSD),
		Breakdown: writeBreakdown(r.Breakdown),
		SavedUsd:  budget.FormatMoney(r.SavedUSD),
		Duplicate: r.Duplicate,
		Warnings:  writeWarnings(r.Warnings),
	}
}

func writeBreakdown(b budget.Breakdown) *costv1.Breakdown {
	return &costv1.Breakdown{
		InputUsd:      budget.FormatMoney(b.Input),
		CacheReadUsd:  budget.FormatMoney(b.CacheRead),
		CacheWriteUsd: budget.FormatMoney(b.CacheWrite),
		OutputUsd:     budget.FormatMoney(b.Output),
		ReasoningUsd:  budget.FormatMoney(b.Reasoning),
	}
}

func writeWarnings(warnings []engine.Warning) []*costv1.Warning {
	written := make([]*costv1.Warning, 0, len(warnings))
	for _, w := range warnings {
		written = append(written, &costv1.Warning{Code: w.Code, Text: utf8Text(w.Text)})
	}
	return written
}

// stateName is a state as the API spells it.
func stateName(s store.HoldStatus) string {
	switch s {
	case store.Active:
		return "ACTIVE"
	case store.Closed:
		return "SETTLED"
	case store.Released:
		return "RELEASED"
	case store.Expired:
		return "EXPIRED"
	case store.NoHold:
		return "NONE"
	default:
		return "UNKNOWN"
	}
}

// writeTime is a moment; nil for the zero time.
func writeTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// utf8Text is a text that can be sent. What came by another protocol, as a subject's id in Envoy's, may be any bytes.
func utf8Text(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
