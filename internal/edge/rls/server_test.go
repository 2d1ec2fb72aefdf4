package rls

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// decider answers every call with the same decision and keeps a copy of the last call.
type decider struct {
	dec   engine.Decision
	err   error
	asked []policy.Descriptor
	ended []engine.StreamEnd
}

func (d *decider) EndStream(_ context.Context, end *engine.StreamEnd) {
	d.ended = append(d.ended, *end)
}

func (d *decider) Decide(_ context.Context, call *policy.Call, dec *engine.Decision) error {
	d.asked = d.asked[:0]
	for _, desc := range call.Descriptors {
		desc.Entries = append([]policy.Entry(nil), desc.Entries...)
		d.asked = append(d.asked, desc)
	}
	dec.Mode, dec.Denied, dec.Deciding, dec.Hold = d.dec.Mode, d.dec.Denied, d.dec.Deciding, d.dec.Hold
	dec.Statuses = append(dec.Statuses[:0], d.dec.Statuses...)
	return d.err
}

// all returns a decision in which one status is the answer to each of n descriptors.
func all(n int, mode engine.Mode, st engine.Status) engine.Decision {
	dec := engine.Decision{Mode: mode, Denied: st.Denied, Deciding: st}
	for range n {
		dec.Statuses = append(dec.Statuses, st)
	}
	return dec
}

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func newServer(d Decider, ietf bool) *Server {
	metrics := telemetry.NewMetrics(prometheus.NewRegistry())
	return New(Options{Decider: d, Metrics: metrics, IETFHeaders: ietf, Now: func() time.Time { return noon }})
}

// ask sends a request and returns the answer as a caller decodes it.
func ask(t *testing.T, s *Server, req *ratelimitv3.RateLimitRequest) *ratelimitv3.RateLimitResponse {
	t.Helper()
	resp, err := s.ShouldRateLimit(t.Context(), req)
	if err != nil {
		t.Fatalf("the call failed: %v", err)
	}
	wire, err := proto.Marshal(resp)
	if err != nil {
		t.Fatalf("the answer cannot be sent: %v", err)
	}
	decoded := new(ratelimitv3.RateLimitResponse)
	if err := proto.Unmarshal(wire, decoded); err != nil {
		t.Fatalf("the answer cannot be read: %v", err)
	}
	return decoded
}

func userDescriptor(id string) *ratelimit.RateLimitDescriptor {
	return &ratelimit.RateLimitDescriptor{
		Entries: []*ratelimit.RateLimitDescriptor_Entry{{Key: "user_id", Value: id}},
	}
}

func userRequest(n int) *ratelimitv3.RateLimitRequest {
	req := &ratelimitv3.RateLimitRequest{Domain: "assistant"}
	for i := range n {
		req.Descriptors = append(req.Descriptors, userDescriptor(strconv.Itoa(i)))
	}
	return req
}

func headersOf(resp *ratelimitv3.RateLimitResponse) map[string]string {
	got := make(map[string]string)
	for _, h := range resp.GetResponseHeadersToAdd() {
		got[h.GetKey()] = h.GetValue()
	}
	return got
}

func minuteLimit() *policy.Limit {
	return &policy.Limit{Name: "minute", Unit: store.Requests, Max: 10, Period: time.Minute}
}

func TestWhatACallAsksFor(t *testing.T) {
	u64 := wrapperspb.UInt64
	for _, tc := range []struct {
		name       string
		call       uint32
		descriptor *wrapperspb.UInt64Value
		negative   bool
		want       policy.Descriptor
	}{
		{"nothing said means 1", 0, nil, false, policy.Descriptor{Amount: 1}},
		{"the call's own addend", 3, nil, false, policy.Descriptor{Amount: 3}},
		{"the descriptor's wins over the call's", 3, u64(5), false, policy.Descriptor{Amount: 5}},
		{"the descriptor's explicit 0 only checks", 3, u64(0), false, policy.Descriptor{Amount: 0}},
		{"negative hits give back", 0, u64(2), true, policy.Descriptor{Amount: 2, Refund: true}},
		{"negative hits without an addend give one back", 0, nil, true, policy.Descriptor{Amount: 1, Refund: true}},
		{"giving nothing back only checks", 0, u64(0), true, policy.Descriptor{Amount: 0}},
		{"the largest addend of a call", math.MaxUint32, nil, false, policy.Descriptor{Amount: math.MaxUint32}},
		{"the largest addend of a descriptor", 0, u64(MaxHits), false, policy.Descriptor{Amount: MaxHits}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := &decider{dec: all(1, engine.Unmatched, engine.Status{})}
			req := userRequest(1)
			req.HitsAddend = tc.call
			req.Descriptors[0].HitsAddend = tc.descriptor
			req.Descriptors[0].IsNegativeHits = tc.negative
			ask(t, newServer(d, false), req)
			got := d.asked[0]
			if got.Amount != tc.want.Amount || got.Refund != tc.want.Refund {
				t.Errorf("asked for amount %d, refund %v; want amount %d, refund %v",
					got.Amount, got.Refund, tc.want.Amount, tc.want.Refund)
			}
			if len(got.Entries) != 1 || got.Entries[0] != (policy.Entry{Key: "user_id", Value: "0"}) {
				t.Errorf("asked with entries %v", got.Entries)
			}
		})
	}
}

func TestALimitThatTheDescriptorBrings(t *testing.T) {
	for _, tc := range []struct {
		name       string
		unit       typev3.RateLimitUnit
		multiplier *wrapperspb.UInt32Value
		want       *policy.Limit
	}{
		{"of a second", typev3.RateLimitUnit_SECOND, nil, &policy.Limit{Name: "second", Period: time.Second}},
		{"of a minute", typev3.RateLimitUnit_MINUTE, nil, &policy.Limit{Name: "minute", Period: time.Minute}},
		{"of an hour", typev3.RateLimitUnit_HOUR, nil, &policy.Limit{Name: "hour", Period: time.Hour}},
		{"of a day", typev3.RateLimitUnit_DAY, nil, &policy.Limit{Name: "day", Period: day}},
		{"of a month has 30 days", typev3.RateLimitUnit_MONTH, nil, &policy.Limit{Name: "month", Period: 30 * day}},
		{"of a year has 365 days", typev3.RateLimitUnit_YEAR, nil, &policy.Limit{Name: "year", Period: 365 * day}},
		{
			"of several units has no name of its own", typev3.RateLimitUnit_SECOND, wrapperspb.UInt32(90),
			&policy.Limit{Name: "descriptor", Period: 90 * time.Second},
		},
		{
			"of one unit written out", typev3.RateLimitUnit_HOUR, wrapperspb.UInt32(1),
			&policy.Limit{Name: "hour", Period: time.Hour},
		},
		{"of an unknown unit is ignored", typev3.RateLimitUnit_UNKNOWN, nil, nil},
		{"of a unit that does not exist is ignored", typev3.RateLimitUnit(99), wrapperspb.UInt32(0), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := &decider{dec: all(1, engine.Unmatched, engine.Status{})}
			req := userRequest(1)
			req.Descriptors[0].Limit = &ratelimit.RateLimitDescriptor_RateLimitOverride{
				RequestsPerUnit: 7, Unit: tc.unit, UnitMultiplier: tc.multiplier,
			}
			ask(t, newServer(d, false), req)
			got := d.asked[0].Own
			if tc.want == nil {
				if got != nil {
					t.Fatalf("asked under its own limit %+v, want the policy's", *got)
				}
				return
			}
			tc.want.Unit, tc.want.Max, tc.want.Ordinal = store.Requests, 7, -1
			if got == nil || *got != *tc.want {
				t.Fatalf("asked under %+v, want %+v", got, *tc.want)
			}
		})
	}
}

func TestWhatCannotBeAskedIsAnInvalidArgument(t *testing.T) {
	one := func(change func(*ratelimit.RateLimitDescriptor)) *ratelimitv3.RateLimitRequest {
		req := userRequest(1)
		change(req.Descriptors[0])
		return req
	}
	for _, tc := range []struct {
		name string
		req  *ratelimitv3.RateLimitRequest
		want string
	}{
		{"no domain", &ratelimitv3.RateLimitRequest{Descriptors: userRequest(1).GetDescriptors()}, "domain is empty"},
		{"no descriptors", &ratelimitv3.RateLimitRequest{Domain: "assistant"}, "no descriptors"},
		{"too many descriptors", userRequest(MaxDescriptors + 1), "more than the 256"},
		{"too many entries", one(func(d *ratelimit.RateLimitDescriptor) {
			d.Entries = make([]*ratelimit.RateLimitDescriptor_Entry, MaxEntries+1)
		}), "descriptors[0]: 65 entries"},
		{"hits out of bounds", one(func(d *ratelimit.RateLimitDescriptor) {
			d.HitsAddend = wrapperspb.UInt64(MaxHits + 1)
		}), "descriptors[0]: hits_addend 4294967296 is more than"},
		{"the largest number there is", one(func(d *ratelimit.RateLimitDescriptor) {
			d.HitsAddend = wrapperspb.UInt64(math.MaxUint64)
		}), "descriptors[0]: hits_addend"},
		{"a period of nothing", one(func(d *ratelimit.RateLimitDescriptor) {
			d.Limit = &ratelimit.RateLimitDescriptor_RateLimitOverride{
				Unit: typev3.RateLimitUnit_DAY, UnitMultiplier: wrapperspb.UInt32(0),
			}
		}), "limit.unit_multiplier 0 of unit day is not between 1 and 366"},
		{"a period of 4 billion years", one(func(d *ratelimit.RateLimitDescriptor) {
			d.Limit = &ratelimit.RateLimitDescriptor_RateLimitOverride{
				Unit: typev3.RateLimitUnit_YEAR, UnitMultiplier: wrapperspb.UInt32(math.MaxUint32),
			}
		}), "limit.unit_multiplier"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(&decider{dec: all(len(tc.req.GetDescriptors()), engine.Unmatched, engine.Status{})}, false)
			_, err := s.ShouldRateLimit(t.Context(), tc.req)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the call ended with %v, want INVALID_ARGUMENT with %q", err, tc.want)
			}
			if got := testutil.ToFloat64(s.badCalls); got != 1 {
				t.Errorf("%v bad calls were counted, want 1", got)
			}
		})
	}
}

func TestErrorsOfTheEngine(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want codes.Code
	}{
		{engine.ErrBadCall, codes.InvalidArgument},
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{errors.New("a defect"), codes.Internal},
	} {
		s := newServer(&decider{err: tc.err}, false)
		if _, err := s.ShouldRateLimit(t.Context(), userRequest(1)); status.Code(err) != tc.want {
			t.Errorf("%v becomes %v, want %v", tc.err, err, tc.want)
		}
	}
	s := newServer(&decider{dec: all(1, engine.Stored, engine.Status{})}, false)
	if _, err := s.ShouldRateLimit(t.Context(), userRequest(2)); status.Code(err) != codes.Internal {
		t.Errorf("a decision with fewer statuses than descriptors becomes %v, want INTERNAL", err)
	}
}

func TestStatusesAreOneToOneWithTheDescriptorsInOrder(t *testing.T) {
	for _, n := range []int{1, 2, 4, 5, MaxDescriptors} {
		dec := engine.Decision{Mode: engine.Stored}
		for i := range n {
			st := engine.Status{Matched: true, Tier: "user", Limit: minuteLimit(), Remaining: int64(i)}
			if i%2 == 1 {
				st = engine.Status{}
			}
			dec.Statuses = append(dec.Statuses, st)
		}
		dec.Deciding = dec.Statuses[0]
		resp := ask(t, newServer(&decider{dec: dec}, false), userRequest(n))
		if got := len(resp.GetStatuses()); got != n {
			t.Fatalf("%d statuses for %d descriptors", got, n)
		}
		for i, st := range resp.GetStatuses() {
			switch {
			case st.GetCode() != ratelimitv3.RateLimitResponse_OK:
				t.Errorf("status %d of %d is %v, want OK", i, n, st.GetCode())
			case i%2 == 1 && (st.GetCurrentLimit() != nil || st.GetDurationUntilReset() != nil):
				t.Errorf("status %d of %d matched nothing and is %v, want a bare OK", i, n, st)
			case i%2 == 0 && st.GetLimitRemaining() != uint32(i):
				t.Errorf("status %d of %d has %d remaining, want %d", i, n, st.GetLimitRemaining(), i)
			}
		}
	}
}

func TestAnAllowedCall(t *testing.T) {
	st := engine.Status{Matched: true, Tier: "user", Limit: minuteLimit(), Remaining: 7, Reset: 1500 * time.Millisecond}
	resp := ask(t, newServer(&decider{dec: all(1, engine.Stored, st)}, false), userRequest(1))
	if resp.GetOverallCode() != ratelimitv3.RateLimitResponse_OK {
		t.Errorf("overall %v, want OK", resp.GetOverallCode())
	}
	got := resp.GetStatuses()[0]
	want := &ratelimitv3.RateLimitResponse_RateLimit{
		Name: "minute", RequestsPerUnit: 10, Unit: ratelimitv3.RateLimitResponse_RateLimit_MINUTE,
	}
	if !proto.Equal(got.GetCurrentLimit(), want) {
		t.Errorf("the limit is %v, want %v", got.GetCurrentLimit(), want)
	}
	if got.GetLimitRemaining() != 7 || got.GetDurationUntilReset().AsDuration() != 1500*time.Millisecond {
		t.Errorf("%d remaining, reset in %v; want 7 and 1.5s", got.GetLimitRemaining(), got.GetDurationUntilReset().AsDuration())
	}
	if len(resp.GetResponseHeadersToAdd()) != 0 || len(resp.GetRawBody()) != 0 {
		t.Errorf("an allowed call brings headers %v and body %q, want none", headersOf(resp), resp.GetRawBody())
	}
	wantMetadata(t, resp, map[string]any{"tier": "user"})
}

func TestADenialTellsWhoWhyAndWhen(t *testing.T) {
	st := engine.Status{
		Matched: true, Denied: true, Tier: "user", Limit: minuteLimit(),
		Reset: 16001 * time.Millisecond, Wait: 16001 * time.Millisecond,
	}
	resp := ask(t, newServer(&decider{dec: all(2, engine.Stored, st)}, false), userRequest(2))
	if resp.GetOverallCode() != ratelimitv3.RateLimitResponse_OVER_LIMIT {
		t.Errorf("overall %v, want OVER_LIMIT", resp.GetOverallCode())
	}
	for i, s := range resp.GetStatuses() {
		if s.GetCode() != ratelimitv3.RateLimitResponse_OVER_LIMIT {
			t.Errorf("status %d is %v, want OVER_LIMIT", i, s.GetCode())
		}
	}
	wantHeaders := map[string]string{
		"Retry-After": "17", "x-ratelimitd-reason": "user:minute", "content-type": "application/json",
	}
	got := headersOf(resp)
	if len(got) != len(wantHeaders) {
		t.Errorf("headers %v, want %v", got, wantHeaders)
	}
	for k, v := range wantHeaders {
		if got[k] != v {
			t.Errorf("header %s is %q, want %q", k, got[k], v)
		}
	}
	const body = `{"detail":"Rate limit exceeded: 10 requests per minute",` +
		`"type":"urn:ratelimitd:problem:rate-limited","title":"Too Many Requests","status":429,` +
		`"tier":"user","limit":10,"remaining":0,"retry_after":17,"resets_at":"2030-01-02T12:00:17Z"}`
	if string(resp.GetRawBody()) != body {
		t.Errorf("the body is\n%s\nwant\n%s", resp.GetRawBody(), body)
	}
	wantMetadata(t, resp, map[string]any{"tier": "user"})
}

// wantMetadata fails unless the answer's metadata is this and no more.
func wantMetadata(t *testing.T, resp *ratelimitv3.RateLimitResponse, want map[string]any) {
	t.Helper()
	if got := resp.GetDynamicMetadata().AsMap(); !maps.Equal(got, want) {
		t.Errorf("the metadata is %v, want %v", got, want)
	}
}

func TestRetryAfterIsWholeSecondsRoundedUpAndAtLeastOne(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		time.Microsecond:                  "1",
		time.Second:                       "1",
		time.Second + time.Microsecond:    "2",
		59*time.Second + time.Millisecond: "60",
		0:                                 "1",
	} {
		st := engine.Status{Matched: true, Denied: true, Tier: "user", Limit: minuteLimit(), Wait: wait}
		resp := ask(t, newServer(&decider{dec: all(1, engine.Stored, st)}, false), userRequest(1))
		if got := headersOf(resp)["Retry-After"]; got != want {
			t.Errorf("a wait of %v gives Retry-After %s, want %s", wait, got, want)
		}
	}
}

func TestASlotIsAskedForAgainAfterAMoment(t *testing.T) {
	limit := &policy.Limit{Name: "concurrent", Unit: store.Concurrent, Max: 3}
	st := engine.Status{Matched: true, Denied: true, Tier: "global", Limit: limit, Wait: 30 * time.Second}
	resp := ask(t, newServer(&decider{dec: all(1, engine.Stored, st)}, false), userRequest(1))
	if got := headersOf(resp)["Retry-After"]; got != "1" {
		t.Errorf("Retry-After is %s, want 1: a slot may be free long before the first lease ends", got)
	}
}

func TestACallThatCanNeverPassNamesNoTime(t *testing.T) {
	st := engine.Status{
		Matched: true, Denied: true, Tier: "user", Limit: minuteLimit(), Remaining: 10, Wait: store.Never,
	}
	resp := ask(t, newServer(&decider{dec: all(1, engine.Stored, st)}, false), userRequest(1))
	if got, ok := headersOf(resp)["Retry-After"]; ok {
		t.Errorf("Retry-After is %s, want none", got)
	}
	var body map[string]any
	if err := json.Unmarshal(resp.GetRawBody(), &body); err != nil {
		t.Fatal(err)
	}
	if detail, _ := body["detail"].(string); !strings.Contains(detail, "can never pass") {
		t.Errorf("the detail is %q, want it to say that the call can never pass", detail)
	}
	if _, ok := body["retry_after"]; ok || body["type"] != ProblemNeverFits {
		t.Errorf("the body is %s", resp.GetRawBody())
	}
}

func TestWithoutTheStoreNoNumberIsStated(t *testing.T) {
	for _, tc := range []struct {
		mode   engine.Mode
		denied bool
		code   ratelimitv3.RateLimitResponse_Code
		failed string
	}{
		{engine.FailedOpen, false, ratelimitv3.RateLimitResponse_OK, "fail_open"},
		{engine.FailedShut, true, ratelimitv3.RateLimitResponse_OVER_LIMIT, "fail_shut"},
	} {
		st := engine.Status{Matched: true, Denied: tc.denied, Tier: "user"}
		resp := ask(t, newServer(&decider{dec: all(1, tc.mode, st)}, true), userRequest(1))
		if resp.GetOverallCode() != tc.code {
			t.Errorf("%v: overall %v, want %v", tc.mode, resp.GetOverallCode(), tc.code)
		}
		if s := resp.GetStatuses()[0]; s.GetCurrentLimit() != nil || s.GetDurationUntilReset() != nil || s.GetLimitRemaining() != 0 {
			t.Errorf("%v: the status states numbers: %v", tc.mode, s)
		}
		wantMetadata(t, resp, map[string]any{"tier": "user", tc.failed: true})
		got := headersOf(resp)
		if !tc.denied {
			if len(got) != 0 {
				t.Errorf("%v: headers %v, want none", tc.mode, got)
			}
			continue
		}
		if got["x-ratelimitd-reason"] != "store_unavailable" || got["Retry-After"] != "" || len(got) != 2 {
			t.Errorf("%v: headers %v, want only the reason store_unavailable and the content type", tc.mode, got)
		}
		var body map[string]any
		if err := json.Unmarshal(resp.GetRawBody(), &body); err != nil {
			t.Fatalf("%v: the body %q is no JSON: %v", tc.mode, resp.GetRawBody(), err)
		}
		if body["remaining"] != nil || body["limit"] != nil || body["tier"] != "user" {
			t.Errorf("%v: the body is %s, want a tier and no numbers", tc.mode, resp.GetRawBody())
		}
	}
}

func TestWhatNoLimitAppliesToIsABareOK(t *testing.T) {
	for _, mode := range []engine.Mode{engine.Unmatched, engine.Disabled} {
		resp := ask(t, newServer(&decider{dec: all(1, mode, engine.Status{})}, true), userRequest(1))
		want := &ratelimitv3.RateLimitResponse{
			OverallCode: ratelimitv3.RateLimitResponse_OK,
			Statuses:    []*ratelimitv3.RateLimitResponse_DescriptorStatus{{Code: ratelimitv3.RateLimitResponse_OK}},
		}
		if !proto.Equal(resp, want) {
			t.Errorf("%v: the answer is %v, want %v", mode, resp, want)
		}
	}
}

func TestIETFFieldsWhenAskedFor(t *testing.T) {
	l := minuteLimit()
	l.Name = `a"b\ü`
	st := engine.Status{Matched: true, Tier: "user", Limit: l, Remaining: 3, Reset: 19500 * time.Millisecond}
	got := headersOf(ask(t, newServer(&decider{dec: all(1, engine.Stored, st)}, true), userRequest(1)))
	if want := `"a\"b\\??";q=10;w=60`; got["RateLimit-Policy"] != want {
		t.Errorf("RateLimit-Policy is %s, want %s", got["RateLimit-Policy"], want)
	}
	if want := `"a\"b\\??";r=3;t=20`; got["RateLimit"] != want {
		t.Errorf("RateLimit is %s, want %s", got["RateLimit"], want)
	}
}

func TestHowALimitIsShown(t *testing.T) {
	type rl = ratelimitv3.RateLimitResponse_RateLimit
	const (
		unknown = ratelimitv3.RateLimitResponse_RateLimit_UNKNOWN
		second  = ratelimitv3.RateLimitResponse_RateLimit_SECOND
		hour    = ratelimitv3.RateLimitResponse_RateLimit_HOUR
		daily   = ratelimitv3.RateLimitResponse_RateLimit_DAY
		week    = ratelimitv3.RateLimitResponse_RateLimit_WEEK
	)
	for _, tc := range []struct {
		limit policy.Limit
		want  *rl
		words string
	}{
		{
			policy.Limit{Unit: store.Requests, Max: 1, Period: 90 * time.Second},
			&rl{RequestsPerUnit: 1, Unit: second, UnitMultiplier: wrapperspb.UInt32(90)}, "1 request per 90s",
		},
		{
			policy.Limit{Unit: store.Requests, Max: 5, Period: 7 * day},
			&rl{RequestsPerUnit: 5, Unit: week}, "5 requests per week",
		},
		{
			policy.Limit{Unit: store.Requests, Max: 5, Period: 36 * time.Hour},
			&rl{RequestsPerUnit: 5, Unit: hour, UnitMultiplier: wrapperspb.UInt32(36)}, "5 requests per 36h",
		},
		{
			policy.Limit{Unit: store.Requests, Max: 5, Period: 250 * time.Millisecond},
			&rl{RequestsPerUnit: 5, Unit: unknown}, "5 requests per 250ms",
		},
		{
			policy.Limit{Unit: store.Tokens, Max: store.MaxAmount, Period: time.Hour},
			&rl{RequestsPerUnit: math.MaxUint32, Unit: hour}, "4503599627370495 tokens per hour",
		},
		{
			policy.Limit{Unit: store.USD, Max: 5_500_000_000, Period: day},
			&rl{RequestsPerUnit: 55_000_000, Unit: daily}, "5.5 USD per day",
		},
		{
			policy.Limit{Unit: store.Concurrent, Max: 100},
			&rl{RequestsPerUnit: 100, Unit: unknown}, "100 concurrent requests",
		},
	} {
		if got := currentLimit(&tc.limit); !proto.Equal(got, tc.want) {
			t.Errorf("%s is shown as %v, want %v", tc.words, got, tc.want)
		}
		if got := tc.limit.Describe(); got != tc.words {
			t.Errorf("%v is described as %q, want %q", tc.want, got, tc.words)
		}
	}
}

func TestRemainingSaturates(t *testing.T) {
	for remaining, want := range map[int64]uint32{-1: 0, 0: 0, math.MaxUint32: math.MaxUint32, 1 << 40: math.MaxUint32} {
		st := engine.Status{Matched: true, Tier: "user", Limit: minuteLimit(), Remaining: remaining}
		resp := ask(t, newServer(&decider{dec: all(1, engine.Stored, st)}, false), userRequest(1))
		if got := resp.GetStatuses()[0].GetLimitRemaining(); got != want {
			t.Errorf("%d remaining is shown as %d, want %d", remaining, got, want)
		}
	}
}

func TestALaterPolicysLimitOfTheSameOrdinalIsShownAsItself(t *testing.T) {
	var kept faces
	before, after, far := minuteLimit(), minuteLimit(), minuteLimit()
	after.Max = 20
	far.Ordinal, far.Max = keptFaces, 30
	for _, l := range []*policy.Limit{before, after, before, far, before} {
		if got := kept.of("user", l).current.GetRequestsPerUnit(); int64(got) != l.Max {
			t.Errorf("a limit of %d is shown as %d", l.Max, got)
		}
	}
	if kept.of("org", before).reason != "org:minute" || kept.of("user", before).reason != "user:minute" {
		t.Error("two tiers of one plan share a reason")
	}
	copied := *before
	if kept.of("user", before) != kept.of("user", &copied) {
		t.Error("a reload that changes nothing builds a limit's face again")
	}
}

func TestAnAnswerSurvivesTheNextCall(t *testing.T) {
	d := &decider{dec: all(1, engine.Stored, engine.Status{Matched: true, Tier: "user", Limit: minuteLimit(), Remaining: 7})}
	s := newServer(d, false)
	first, err := s.ShouldRateLimit(t.Context(), userRequest(1))
	if err != nil {
		t.Fatal(err)
	}
	d.dec = all(1, engine.Stored, engine.Status{Matched: true, Denied: true, Tier: "global", Limit: minuteLimit()})
	for range 100 {
		if _, err := s.ShouldRateLimit(t.Context(), userRequest(1)); err != nil {
			t.Fatal(err)
		}
	}
	if first.GetStatuses()[0].GetLimitRemaining() != 7 || first.GetOverallCode() != ratelimitv3.RateLimitResponse_OK {
		t.Errorf("a later call changed an earlier answer to %v", first)
	}
}
