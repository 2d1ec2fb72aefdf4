package cost

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// call makes the call that a request is for.
func call(ctx context.Context, s *Server, req proto.Message) (proto.Message, error) {
	switch r := req.(type) {
	case *costv1.QuoteRequest:
		return s.Quote(ctx, r)
	case *costv1.ReserveRequest:
		return s.Reserve(ctx, r)
	case *costv1.ExtendRequest:
		return s.Extend(ctx, r)
	case *costv1.SettleRequest:
		return s.Settle(ctx, r)
	case *costv1.ReleaseRequest:
		return s.Release(ctx, r)
	case *costv1.RecordRequest:
		return s.Record(ctx, r)
	case *costv1.RecordBatchRequest:
		return s.RecordBatch(ctx, r)
	default:
		return s.GetUsage(ctx, r.(*costv1.GetUsageRequest))
	}
}

func TestTheEngineIsAskedWhatTheCallerAsks(t *testing.T) {
	acme, chat := map[string]string{"org_id": "acme"}, map[string]string{"feature": "chat"}
	spender := engine.Spender{UserID: "123", Plan: "pro", Model: "m", Subjects: acme, Tags: chat}
	nothing, cent := int64(0), int64(10_000_000)
	for _, tc := range []struct {
		req  proto.Message
		want any
	}{
		{
			&costv1.QuoteRequest{
				UserId: "123", Plan: "pro", Model: "m", Subjects: acme, Tags: chat, InputTokens: 868, CachedInputTokens: 5,
				MaxOutputTokens: 145, ExpectedOutputTokens: 45, MaxCostUsd: "0.01",
			},
			&engine.QuoteAsk{
				Spender:              spender,
				Ask:                  engine.Ask{InputTokens: 868, CachedInputTokens: 5, MaxOutputTokens: 145, MaxCost: cent},
				ExpectedOutputTokens: 45,
			},
		},
		{
			&costv1.ReserveRequest{
				IdempotencyKey: "k", UserId: "123", Plan: "pro", Model: "m", Subjects: acme, Tags: chat, InputTokens: 868,
				CachedInputTokens: 5, MaxOutputTokens: 145, MaxCostUsd: "0.01", Ttl: durationpb.New(time.Hour),
				Slot: new(false), Partial: true, WaitTimeout: durationpb.New(5 * time.Minute),
			},
			&engine.Reservation{
				Spender: spender, Key: "k", TTL: time.Hour, NoSlot: true, Partial: true, Wait: 5 * time.Minute,
				Ask: engine.Ask{InputTokens: 868, CachedInputTokens: 5, MaxOutputTokens: 145, MaxCost: cent},
			},
		},
		{&costv1.ReserveRequest{UserId: "1"}, &engine.Reservation{Spender: engine.Spender{UserID: "1"}}},
		{&costv1.ReserveRequest{UserId: "1", Slot: new(true)}, &engine.Reservation{Spender: engine.Spender{UserID: "1"}}},
		{
			&costv1.ExtendRequest{ReservationId: theID, Ttl: durationpb.New(time.Second), MaxOutputTokens: 9, MaxCostUsd: "0.01"},
			&engine.Extension{ReservationID: theID, TTL: time.Second, MaxOutputTokens: 9, MaxCost: cent},
		},
		{
			&costv1.SettleRequest{
				ReservationId: theID, IdempotencyKey: "k", Model: "m2", Outcome: "cancelled", ResponseCacheHit: true,
				ProviderCostUsd: "0.01",
				Usage: &costv1.Usage{
					InputTokens: 1, CacheReadTokens: 2, CacheWriteTokens: 3, OutputTokens: 4, ReasoningTokens: 5,
				},
			},
			&engine.Settlement{
				ReservationID: theID, Model: "m2", Outcome: "cancelled", CacheHit: true, ProviderCost: &cent,
				Usage: &budget.Usage{Input: 1, CacheRead: 2, CacheWrite: 3, Output: 4, Reasoning: 5},
			},
		},
		{&costv1.SettleRequest{ReservationId: theID}, &engine.Settlement{ReservationID: theID}},
		{
			&costv1.SettleRequest{ReservationId: theID, Usage: &costv1.Usage{}, ProviderCostUsd: "0"},
			&engine.Settlement{ReservationID: theID, Usage: &budget.Usage{}, ProviderCost: &nothing},
		},
		{&costv1.ReleaseRequest{ReservationId: theID, IdempotencyKey: "k"}, theID},
		{
			&costv1.RecordRequest{
				IdempotencyKey: "k", UserId: "123", Plan: "pro", Model: "m", Subjects: acme, Tags: chat,
				Usage: &costv1.Usage{InputTokens: 7}, ResponseCacheHit: true, ProviderCostUsd: "0.01",
				OccurredAt: timestamppb.New(noon),
			},
			&engine.Record{
				Spender: spender, Key: "k", Usage: budget.Usage{Input: 7}, Occurred: noon, CacheHit: true, ProviderCost: &cent,
			},
		},
		{
			&costv1.RecordBatchRequest{Records: []*costv1.RecordRequest{
				{IdempotencyKey: "k", UserId: "123", Usage: &costv1.Usage{}},
			}},
			&engine.Record{Spender: engine.Spender{UserID: "123"}, Key: "k"},
		},
		{&costv1.GetUsageRequest{UserId: "123"}, "123"},
		{&costv1.GetUsageRequest{}, ""},
	} {
		fake := &fakeEngine{}
		if _, err := call(t.Context(), newServer(t, fake), tc.req); err != nil {
			t.Errorf("%T %v: %v", tc.req, tc.req, err)
		}
		if !reflect.DeepEqual(fake.asked, tc.want) {
			t.Errorf("%T %v\nasks %+v\nwant %+v", tc.req, tc.req, fake.asked, tc.want)
		}
	}
}

func TestWhatIsOutOfBoundsIsRefusedByItsField(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	many := map[string]string{}
	for i := range engine.MaxEntries {
		many[long(i+1)] = "v"
	}
	reserve := func(change func(*costv1.ReserveRequest)) proto.Message {
		r := &costv1.ReserveRequest{UserId: "1"}
		change(r)
		return r
	}
	settle := func(change func(*costv1.SettleRequest)) proto.Message {
		r := &costv1.SettleRequest{ReservationId: theID}
		change(r)
		return r
	}
	record := func(change func(*costv1.RecordRequest)) proto.Message {
		r := &costv1.RecordRequest{UserId: "1", IdempotencyKey: "k", Usage: &costv1.Usage{}}
		change(r)
		return r
	}
	for _, tc := range []struct {
		req   proto.Message
		field string
		says  string
	}{
		{&costv1.QuoteRequest{}, "user_id", "1 to 512"},
		{&costv1.QuoteRequest{UserId: "1", ExpectedOutputTokens: 1}, "expected_output_tokens", "at most max_output_tokens"},
		{reserve(func(r *costv1.ReserveRequest) { r.UserId = "" }), "user_id", "1 to 512"},
		{reserve(func(r *costv1.ReserveRequest) { r.UserId = long(513) }), "user_id", "at most 512"},
		{reserve(func(r *costv1.ReserveRequest) { r.UserId = "a\x00" }), "user_id", "NUL"},
		{reserve(func(r *costv1.ReserveRequest) { r.UserId = "a\xff" }), "user_id", "UTF-8"},
		{reserve(func(r *costv1.ReserveRequest) { r.Plan = long(513) }), "plan", "at most 512"},
		{reserve(func(r *costv1.ReserveRequest) { r.Model = long(257) }), "model", "at most 256"},
		{reserve(func(r *costv1.ReserveRequest) { r.IdempotencyKey = long(257) }), "idempotency_key", "at most 256"},
		{reserve(func(r *costv1.ReserveRequest) { r.Subjects = map[string]string{"": "v"} }), "subjects key", "is empty"},
		{reserve(func(r *costv1.ReserveRequest) { r.Subjects = map[string]string{"k": ""} }), "subjects[k]", "is empty"},
		{reserve(func(r *costv1.ReserveRequest) { r.Tags = map[string]string{"k": "\x00"} }), "tags[k]", "NUL"},
		{reserve(func(r *costv1.ReserveRequest) { r.Tags = map[string]string{long(513): "v"} }), "tags key", "at most 512"},
		{reserve(func(r *costv1.ReserveRequest) { r.Tags, r.Subjects = map[string]string{"k": "v"}, many }), "subjects", "at most 14"},
		{reserve(func(r *costv1.ReserveRequest) { r.InputTokens = -1 }), "input_tokens", "0 to 1000000000000"},
		{reserve(func(r *costv1.ReserveRequest) { r.CachedInputTokens = -1 }), "cached_input_tokens", "0 to"},
		{reserve(func(r *costv1.ReserveRequest) { r.MaxOutputTokens = engine.MaxTokens + 1 }), "max_output_tokens", "0 to"},
		{reserve(func(r *costv1.ReserveRequest) { r.MaxCostUsd = "-1" }), "max_cost_usd", "digits"},
		{reserve(func(r *costv1.ReserveRequest) { r.MaxCostUsd = "1e3" }), "max_cost_usd", "digits"},
		{reserve(func(r *costv1.ReserveRequest) { r.MaxCostUsd = "$5" }), "max_cost_usd", "digits"},
		{reserve(func(r *costv1.ReserveRequest) { r.MaxCostUsd = "1.2.3" }), "max_cost_usd", "one point"},
		{reserve(func(r *costv1.ReserveRequest) { r.MaxCostUsd = "\xff" }), "max_cost_usd", "digits"},
		{reserve(func(r *costv1.ReserveRequest) { r.MaxCostUsd = "0.0000000001" }), "max_cost_usd", "9 digits"},
		{reserve(func(r *costv1.ReserveRequest) { r.MaxCostUsd = "4503599.627370496" }), "max_cost_usd", "0 to 4503599.627370495"},
		{reserve(func(r *costv1.ReserveRequest) { r.MaxCostUsd = strings.Repeat("9", 1000) }), "max_cost_usd", "at most 32"},
		{reserve(func(r *costv1.ReserveRequest) { r.MaxCostUsd = "0" }), "max_cost_usd", "leave it out"},
		{reserve(func(r *costv1.ReserveRequest) { r.Ttl = durationpb.New(0) }), "ttl", "1s to 1h"},
		{reserve(func(r *costv1.ReserveRequest) { r.Ttl = durationpb.New(time.Second - 1) }), "ttl", "1s to 1h"},
		{reserve(func(r *costv1.ReserveRequest) { r.Ttl = durationpb.New(time.Hour + 1) }), "ttl", "1s to 1h"},
		{reserve(func(r *costv1.ReserveRequest) { r.Ttl = &durationpb.Duration{Seconds: 1 << 60} }), "ttl", "not a valid duration"},
		{reserve(func(r *costv1.ReserveRequest) { r.WaitTimeout = durationpb.New(-1) }), "wait_timeout", "0s to 5m"},
		{reserve(func(r *costv1.ReserveRequest) { r.WaitTimeout = durationpb.New(engine.MaxWait + 1) }), "wait_timeout", "0s to 5m"},
		{&costv1.ExtendRequest{}, "reservation_id", "1 to 16384"},
		{&costv1.ExtendRequest{ReservationId: "a/b"}, "reservation_id", "a character that no id has"},
		{&costv1.ExtendRequest{ReservationId: long(MaxReservationID + 1)}, "reservation_id", "1 to 16384"},
		{&costv1.ExtendRequest{ReservationId: theID, MaxOutputTokens: -1}, "max_output_tokens", "0 to"},
		{&costv1.ReleaseRequest{ReservationId: theID, IdempotencyKey: "\x00"}, "idempotency_key", "NUL"},
		{settle(func(r *costv1.SettleRequest) { r.Outcome = "fine" }), "outcome", "success, error, cancelled or timeout"},
		{settle(func(r *costv1.SettleRequest) { r.Usage = &costv1.Usage{InputTokens: -1} }), "usage.input_tokens", "0 to"},
		{settle(func(r *costv1.SettleRequest) { r.Usage = &costv1.Usage{CacheReadTokens: -1} }), "usage.cache_read_tokens", "0 to"},
		{settle(func(r *costv1.SettleRequest) { r.Usage = &costv1.Usage{CacheWriteTokens: -1} }), "usage.cache_write_tokens", "0 to"},
		{settle(func(r *costv1.SettleRequest) { r.Usage = &costv1.Usage{OutputTokens: 1 << 62} }), "usage.output_tokens", "0 to"},
		{settle(func(r *costv1.SettleRequest) { r.Usage = &costv1.Usage{ReasoningTokens: -1} }), "usage.reasoning_tokens", "0 to"},
		{settle(func(r *costv1.SettleRequest) { r.ProviderCostUsd = "one" }), "provider_cost_usd", "digits"},
		{record(func(r *costv1.RecordRequest) { r.IdempotencyKey = "" }), "idempotency_key", "1 to 256"},
		{record(func(r *costv1.RecordRequest) { r.Usage = nil }), "usage", "unset"},
		{record(func(r *costv1.RecordRequest) { r.OccurredAt = &timestamppb.Timestamp{} }), "occurred_at", "after 1970"},
		{record(func(r *costv1.RecordRequest) { r.OccurredAt = &timestamppb.Timestamp{Seconds: 1 << 60} }), "occurred_at", "after 1970"},
		{&costv1.RecordBatchRequest{}, "records", "1 to 1000"},
		{&costv1.RecordBatchRequest{Records: make([]*costv1.RecordRequest, 1001)}, "records", "1 to 1000"},
		{&costv1.GetUsageRequest{UserId: long(513)}, "user_id", "at most 512"},
	} {
		fake := &fakeEngine{}
		_, err := call(t.Context(), newServer(t, fake), tc.req)
		st := status.Convert(err)
		if st.Code() != codes.InvalidArgument || fake.calls != 0 {
			t.Errorf("%T %.200v: %v after %d calls, want INVALID_ARGUMENT", tc.req, tc.req, err, fake.calls)
			continue
		}
		var bad *errdetails.BadRequest
		for _, d := range st.Details() {
			if b, ok := d.(*errdetails.BadRequest); ok {
				bad = b
			}
		}
		if len(bad.GetFieldViolations()) != 1 || bad.GetFieldViolations()[0].GetField() != tc.field ||
			!strings.Contains(bad.GetFieldViolations()[0].GetDescription(), tc.says) ||
			!strings.Contains(st.Message(), tc.field) {
			t.Errorf("%T %.200v: %q with %v, want field %s that says %q", tc.req, tc.req, st.Message(), bad, tc.field, tc.says)
		}
	}
}

func TestTheCallerIsAnsweredWhatTheEngineAnswers(t *testing.T) {
	denial := &costv1.Denial{
		Reason: "USER_BUDGET_EXHAUSTED", Tier: "user", Id: "123", Name: "day", Unit: "usd", Limit: "5", Used: "4.99", Asked: "0.02",
		Message: "5 USD per day: 4.99 used, 0.02 asked for; it is back at 2030-01-02T14:00:00.000Z, " +
			"and to retry before that is useless",
		RetryAfter: durationpb.New(2*time.Hour - 1), AvailableAt: timestamppb.New(noon.Add(2 * time.Hour)),
	}
	limits := []*costv1.LimitState{
		{
			Tier: "user", Id: "123", Plan: "free", Name: "minute", Unit: "requests", Period: durationpb.New(time.Minute),
			Limit: "10", Used: "12", Held: "0", Spent: "12", Remaining: "0", ResetsAt: timestamppb.New(noon),
			Description: "10 requests per minute",
		},
		{
			Tier: "user", Id: "123", Plan: "free", Name: "day", Unit: "usd", Period: durationpb.New(day),
			Limit: "5", Used: "0.000260601", Held: "0.000000001", Spent: "0.0002606", Remaining: "4.999739399",
			ResetsAt: timestamppb.New(noon), Description: "5 USD per day",
		},
		{
			Tier: "global", Plan: "global", Name: "concurrent", Unit: "concurrent",
			Limit: "100", Used: "40", Held: "0", Spent: "40", Remaining: "60",
			Description: "100 concurrent requests",
		},
	}
	breakdown := &costv1.Breakdown{
		InputUsd: "0.0001736", CacheReadUsd: "0", CacheWriteUsd: "0", OutputUsd: "0.000087", ReasoningUsd: "0",
	}
	unknown := []*costv1.Warning{{Code: "USAGE_UNKNOWN", Text: "unknown"}}
	record := &costv1.RecordRequest{UserId: "1", IdempotencyKey: "k", Usage: &costv1.Usage{}}
	recorded := &costv1.RecordResponse{
		CostUsd: "0.0002606", Breakdown: breakdown, SavedUsd: "0.000000003", Duplicate: true, Warnings: unknown,
	}
	for _, tc := range []struct{ req, want proto.Message }{
		{
			&costv1.QuoteRequest{UserId: "1"},
			&costv1.QuoteResponse{
				ExpectedCostUsd: "0.0002006", MaximumCostUsd: "0.0002606", Binding: denial, MaxOutputTokens: 44, Limits: limits,
				Warnings: []*costv1.Warning{{Code: "SHADOW_LIMIT", Text: "a shadow"}},
			},
		},
		{
			&costv1.ReserveRequest{UserId: "1"},
			&costv1.ReserveResponse{
				ReservationId: theID, State: "ACTIVE", HeldUsd: "0.0002606", GrantedOutputTokens: 145,
				ExpiresAt: timestamppb.New(noon.Add(30 * time.Second)), HeartbeatInterval: durationpb.New(10 * time.Second),
				Limits: limits, Warnings: []*costv1.Warning{{Code: "PARTIAL", Text: "less"}}, Duplicate: true,
			},
		},
		{
			&costv1.ExtendRequest{ReservationId: theID},
			&costv1.ExtendResponse{
				ExpiresAt: timestamppb.New(noon.Add(time.Minute)), HeldUsd: "0.000000001",
				HeartbeatInterval: durationpb.New(20 * time.Second), MustStop: true, Denial: denial,
			},
		},
		{
			&costv1.SettleRequest{ReservationId: theID},
			&costv1.SettleResponse{
				CostUsd: "0.0002606", Breakdown: breakdown, ReleasedUsd: "1", OverageUsd: "0.000000002", SavedUsd: "0.000000003",
				Duplicate: true, Late: true, State: "SETTLED", Warnings: unknown,
			},
		},
		{
			&costv1.ReleaseRequest{ReservationId: theID},
			&costv1.ReleaseResponse{ReleasedUsd: "1", Duplicate: true, Late: true, State: "RELEASED", Warnings: unknown},
		},
		{record, recorded},
		{
			&costv1.RecordBatchRequest{Records: []*costv1.RecordRequest{record, {}}},
			&costv1.RecordBatchResponse{Results: []*costv1.RecordResult{
				{Result: &costv1.RecordResult_Response{Response: recorded}},
				{Result: &costv1.RecordResult_Error{Error: &costv1.RecordError{
					Reason: "INVALID_ARGUMENT", Field: "user_id",
					Message: "user_id is empty: send 1 to 512 bytes; idempotency_key is empty: send 1 to 256 bytes; " +
						"usage is unset: send what the call has used",
				}}},
			}},
		},
		{&costv1.GetUsageRequest{UserId: "123"}, &costv1.GetUsageResponse{UserId: "123", Limits: limits}},
	} {
		got, err := call(t.Context(), newServer(t, &fakeEngine{limits: someLimits()}), tc.req)
		if err != nil || !proto.Equal(got, tc.want) {
			t.Errorf("%T is answered\n%v, %v\nwant\n%v", tc.req, got, err, tc.want)
		}
	}
}
