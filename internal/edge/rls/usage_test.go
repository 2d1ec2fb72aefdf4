package rls

import (
	"reflect"
	"testing"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
)

// report is a descriptor of entries, key and value in turn, with a count.
func report(hits uint64, entries ...string) *ratelimit.RateLimitDescriptor {
	d := &ratelimit.RateLimitDescriptor{HitsAddend: wrapperspb.UInt64(hits)}
	for i := 0; i+1 < len(entries); i += 2 {
		d.Entries = append(d.Entries, &ratelimit.RateLimitDescriptor_Entry{Key: entries[i], Value: entries[i+1]})
	}
	return d
}

func TestAnAdmittedHoldIsInTheMetadata(t *testing.T) {
	for _, mode := range []engine.Mode{engine.Stored, engine.FailedOpen} {
		dec := all(1, mode, engine.Status{Matched: true, Tier: "user", Limit: minuteLimit(), Remaining: 3})
		if mode == engine.FailedOpen {
			dec = all(1, mode, engine.Status{Matched: true, Tier: "user"})
		}
		dec.Hold = "the-token"
		fields := ask(t, newServer(&decider{dec: dec}, false), userRequest(1)).GetDynamicMetadata().GetFields()
		if fields["hold"].GetStringValue() != "the-token" || fields["tier"].GetStringValue() != "user" {
			t.Errorf("%s: got the metadata %v, want the token beside the tier", mode, fields)
		}
	}
	dec := all(1, engine.Stored, engine.Status{Matched: true, Tier: "user", Limit: minuteLimit()})
	fields := ask(t, newServer(&decider{dec: dec}, false), userRequest(1)).GetDynamicMetadata().GetFields()
	if _, ok := fields["hold"]; ok {
		t.Errorf("got %v of a call that holds nothing", fields)
	}
}

func TestWhatAStreamReportsIsToldOncePerHold(t *testing.T) {
	d := &decider{dec: all(0, engine.Unmatched, engine.Status{})}
	s := newServer(d, false)
	resp := ask(t, s, &ratelimitv3.RateLimitRequest{Domain: "assistant", Descriptors: []*ratelimit.RateLimitDescriptor{
		report(1, "user_id", "7", "hold", "t1", "usage", "end", "outcome", "success", "model", "m"),
		report(12, "user_id", "7", "hold", "t1", "usage", "input_tokens"),
		report(856, "user_id", "7", "hold", "t1", "usage", "cache_read_tokens"),
		report(3, "user_id", "7", "hold", "t1", "usage", "cache_write_tokens"),
		report(145, "user_id", "7", "hold", "t1", "usage", "output_tokens"),
		report(0, "user_id", "7", "hold", "t1", "usage", "reasoning_tokens"),
		report(2606, "user_id", "7", "hold", "t1", "usage", "cost"),
		report(2606, "org_id", "9", "hold", "t1", "usage", "cost"), // of the same request: told once
		report(1, "user_id", "7", "usage", "cache_hit"),
		report(1, "user_id", "7", "usage", "something new"),
	}})
	nano := int64(260_600)
	want := []engine.StreamEnd{
		{
			Hold: "t1", Domain: "assistant", Outcome: "success", Model: "m", Cost: &nano,
			Usage:   &budget.Usage{Input: 12, CacheRead: 856, CacheWrite: 3, Output: 145},
			Entries: []policy.Entry{{Key: "user_id", Value: "7"}, {Key: "model", Value: "m"}, {Key: "org_id", Value: "9"}},
		},
		{Domain: "assistant", CacheHit: true, Entries: []policy.Entry{{Key: "user_id", Value: "7"}}},
	}
	if !reflect.DeepEqual(d.ended, want) {
		t.Errorf("told %+v, want %+v", d.ended, want)
	}
	if len(d.asked) != 0 {
		t.Errorf("asked for %v, want nothing", d.asked)
	}
	if resp.GetOverallCode() != ratelimitv3.RateLimitResponse_OK || len(resp.GetStatuses()) != 10 {
		t.Fatalf("got %v, want ten times OK", resp)
	}
	for i, st := range resp.GetStatuses() {
		if st.GetCode() != ratelimitv3.RateLimitResponse_OK || st.GetCurrentLimit() != nil {
			t.Errorf("status %d: got %v, want a bare OK", i, st)
		}
	}
}

func TestAStreamWithoutAWordOnItsUsageHasNone(t *testing.T) {
	d := &decider{dec: all(0, engine.Unmatched, engine.Status{})}
	ask(t, newServer(d, false), &ratelimitv3.RateLimitRequest{Domain: "assistant", Descriptors: []*ratelimit.RateLimitDescriptor{
		report(1, "user_id", "7", "hold", "t1", "usage", "end", "outcome", "cancelled"),
	}})
	if len(d.ended) != 1 || d.ended[0].Usage != nil || d.ended[0].Cost != nil || d.ended[0].Outcome != "cancelled" {
		t.Fatalf("told %+v, want an unknown usage", d.ended)
	}
}

func TestReportsAmongOtherDescriptorsAreAnsweredOK(t *testing.T) {
	denied := engine.Status{Matched: true, Denied: true, Tier: "user", Limit: minuteLimit()}
	dec := engine.Decision{
		Mode: engine.Stored, Denied: true, Deciding: denied,
		Statuses: []engine.Status{denied, {Matched: true, Tier: "user", Limit: minuteLimit(), Remaining: 4}},
	}
	d := &decider{dec: dec}
	s := newServer(d, false)
	for range 3 { // the memory of a call is used again
		d.ended = nil
		resp := ask(t, s, &ratelimitv3.RateLimitRequest{Domain: "assistant", Descriptors: []*ratelimit.RateLimitDescriptor{
			report(1, "user_id", "7", "hold", "t", "usage", "end"), report(1, "user_id", "a"),
			report(5, "user_id", "7", "hold", "t", "usage", "output_tokens"), report(1, "user_id", "b"),
		}})
		if len(d.asked) != 2 || d.asked[0].Entries[0].Value != "a" || d.asked[1].Entries[0].Value != "b" || len(d.ended) != 1 {
			t.Fatalf("asked for %v and told %v", d.asked, d.ended)
		}
		over, st := ratelimitv3.RateLimitResponse_OVER_LIMIT, resp.GetStatuses()
		if resp.GetOverallCode() != over || st[0].GetCode() == over || st[1].GetCode() != over || st[2].GetCode() == over ||
			st[2].GetCurrentLimit() != nil || st[3].GetLimitRemaining() != 4 {
			t.Fatalf("got %v", resp)
		}
	}
}
