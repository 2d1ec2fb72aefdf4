package cost

import (
	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// spending is what the requests of Quote, Reserve and Record have in common.
type spending interface {
	GetUserId() string
	GetPlan() string
	GetModel() string
	GetSubjects() map[string]string
	GetTags() map[string]string
}

func (f *fields) spender(req spending) engine.Spender {
	f.entries(req.GetSubjects(), req.GetTags())
	return engine.Spender{
		UserID:   f.required("user_id", req.GetUserId(), engine.MaxID),
		Plan:     f.text("plan", req.GetPlan(), engine.MaxID),
		Model:    f.text("model", req.GetModel(), engine.MaxModel),
		Subjects: req.GetSubjects(),
		Tags:     req.GetTags(),
	}
}

// asking is what the requests of Quote and Reserve have in common.
type asking interface {
	GetInputTokens() int64
	GetCachedInputTokens() int64
	GetMaxOutputTokens() int64
	GetMaxCostUsd() string
}

func (f *fields) ask(req asking) engine.Ask {
	return engine.Ask{
		InputTokens:       f.tokens("input_tokens", req.GetInputTokens()),
		CachedInputTokens: f.tokens("cached_input_tokens", req.GetCachedInputTokens()),
		MaxOutputTokens:   f.tokens("max_output_tokens", req.GetMaxOutputTokens()),
		MaxCost:           f.maxCost("max_cost_usd", req.GetMaxCostUsd()),
	}
}

// ending is what the requests of Settle and Release have in common.
type ending interface {
	GetReservationId() string
	GetIdempotencyKey() string
}

// ending is the id of the reservation that a request ends. The idempotency key goes no further: a reservation ends once.
func (f *fields) ending(req ending) string {
	id := f.reservation(req.GetReservationId())
	f.text("idempotency_key", req.GetIdempotencyKey(), engine.MaxKey)
	return id
}

// usage reads what was used; nil if that is not known.
func (f *fields) usage(u *costv1.Usage) *budget.Usage {
	if u == nil {
		return nil
	}
	return &budget.Usage{
		Input:      f.tokens("usage.input_tokens", u.GetInputTokens()),
		CacheRead:  f.tokens("usage.cache_read_tokens", u.GetCacheReadTokens()),
		CacheWrite: f.tokens("usage.cache_write_tokens", u.GetCacheWriteTokens()),
		Output:     f.tokens("usage.output_tokens", u.GetOutputTokens()),
		Reasoning:  f.tokens("usage.reasoning_tokens", u.GetReasoningTokens()),
	}
}

// providerCost is what the provider says, nano-USD; nil if it says nothing.
func (f *fields) providerCost(text string) *int64 {
	nano, given := f.money("provider_cost_usd", text)
	if !given {
		return nil
	}
	return &nano
}

func readQuote(req *costv1.QuoteRequest) (*engine.QuoteAsk, error) {
	var f fields
	ask := &engine.QuoteAsk{
		Spender:              f.spender(req),
		Ask:                  f.ask(req),
		ExpectedOutputTokens: f.tokens("expected_output_tokens", req.GetExpectedOutputTokens()),
	}
	if ask.ExpectedOutputTokens > ask.Ask.MaxOutputTokens {
		f.bad("expected_output_tokens", "is %d: send at most max_output_tokens, which is %d",
			ask.ExpectedOutputTokens, ask.Ask.MaxOutputTokens)
	}
	return ask, f.err()
}

func readReservation(req *costv1.ReserveRequest) (*engine.Reservation, error) {
	var f fields
	r := &engine.Reservation{
		Spender: f.spender(req),
		Ask:     f.ask(req),
		Key:     f.text("idempotency_key", req.GetIdempotencyKey(), engine.MaxKey),
		TTL:     f.duration("ttl", req.GetTtl(), engine.MinTTL, engine.MaxTTL),
		NoSlot:  req.Slot != nil && !req.GetSlot(),
		Partial: req.GetPartial(),
		Wait:    f.duration("wait_timeout", req.GetWaitTimeout(), 0, engine.MaxWait),
	}
	return r, f.err()
}

func readExtension(req *costv1.ExtendRequest) (*engine.Extension, error) {
	var f fields
	x := &engine.Extension{
		ReservationID:   f.reservation(req.GetReservationId()),
		TTL:             f.duration("ttl", req.GetTtl(), engine.MinTTL, engine.MaxTTL),
		MaxOutputTokens: f.tokens("max_output_tokens", req.GetMaxOutputTokens()),
		MaxCost:         f.maxCost("max_cost_usd", req.GetMaxCostUsd()),
	}
	return x, f.err()
}

func readSettlement(req *costv1.SettleRequest) (*engine.Settlement, error) {
	var f fields
	s := &engine.Settlement{
		ReservationID: f.ending(req),
		Usage:         f.usage(req.GetUsage()),
		Model:         f.text("model", req.GetModel(), engine.MaxModel),
		Outcome:       f.outcome(req.GetOutcome()),
		CacheHit:      req.GetResponseCacheHit(),
		ProviderCost:  f.providerCost(req.GetProviderCostUsd()),
	}
	return s, f.err()
}

func readRelease(req *costv1.ReleaseRequest) (id string, err error) {
	var f fields
	id = f.ending(req)
	return id, f.err()
}

func readRecord(req *costv1.RecordRequest) (*engine.Record, error) {
	var f fields
	r := &engine.Record{
		Spender:      f.spender(req),
		Key:          f.required("idempotency_key", req.GetIdempotencyKey(), engine.MaxKey),
		Occurred:     f.moment("occurred_at", req.GetOccurredAt()),
		CacheHit:     req.GetResponseCacheHit(),
		ProviderCost: f.providerCost(req.GetProviderCostUsd()),
	}
	if usage := f.usage(req.GetUsage()); usage != nil {
		r.Usage = *usage
	} else {
		f.bad("usage", "is unset: send what the call has used")
	}
	return r, f.err()
}

func readUsageOf(req *costv1.GetUsageRequest) (userID string, err error) {
	var f fields
	userID = f.text("user_id", req.GetUserId(), engine.MaxID)
	return userID, f.err()
}
