package rls

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/memory"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// fuzzPolicy has every kind of thing that a call can touch.
const fuzzPolicy = `domain: assistant
subjects:
  user: {key: user_id, default_plan: free, plan_key: plan, trust_plan: true}
  org: {key: org_id, default_plan: team, on_store_failure: deny}
plans:
  free: {limits: [2/second, 10/minute, {limit: 3/hour, shadow: true}, 1000000/day, 5 USD/day, 100 tokens/hour]}
  team: {limits: [7/90s, 0/week]}
global: {limits: [1000/hour, 100 concurrent]}
`

// lostStore never answers.
type lostStore struct{ store.Store }

func (lostStore) Admit(context.Context, *store.Request, *store.Answer) error {
	return store.ErrUnavailable
}

func (lostStore) Refund(context.Context, *store.Request, *store.Answer) (int64, error) {
	return 0, store.ErrUnavailable
}

func (lostStore) Settle(context.Context, *store.Settlement, *store.Settled) error {
	return store.ErrUnavailable
}

func newFuzzServer(f *testing.F, s store.Store) *Server {
	f.Helper()
	snapshot, _, err := policy.Parse("fuzz.yaml", []byte(fuzzPolicy), policy.Adjustments{})
	if err != nil {
		f.Fatal(err)
	}
	metrics := telemetry.NewMetrics(prometheus.NewRegistry())
	e := engine.New(engine.Options{
		Store: s, Policy: func() *policy.Snapshot { return snapshot },
		Timeout: time.Minute, Metrics: metrics, Log: telemetry.NopLog(),
	})
	f.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	return New(Options{Decider: e, Metrics: metrics, IETFHeaders: true})
}

// fuzzed reads a request from fuzz bytes, so that each byte makes a difference to the call: keys are mostly those that
// the policy knows.
type fuzzed []byte

func (f *fuzzed) next() byte {
	if len(*f) == 0 {
		return 0
	}
	b := (*f)[0]
	*f = (*f)[1:]
	return b
}

func (f *fuzzed) text(n int) string {
	n = min(n, len(*f))
	text := string((*f)[:n])
	*f = (*f)[n:]
	return text
}

func (f *fuzzed) number() uint64 {
	var b [8]byte
	copy(b[:], f.text(int(f.next()%9)))
	return binary.LittleEndian.Uint64(b[:])
}

func (f *fuzzed) key() string {
	keys := []string{"user_id", "org_id", "plan", "request_id", "", "x", "usage", "hold", "model", "outcome"}
	if k := int(f.next()); k%16 < len(keys) {
		return keys[k%16]
	}
	return f.text(int(f.next()))
}

func (f *fuzzed) descriptor() *ratelimit.RateLimitDescriptor {
	d := new(ratelimit.RateLimitDescriptor)
	shape := f.next()
	for range int(shape % 5) {
		d.Entries = append(d.Entries, &ratelimit.RateLimitDescriptor_Entry{Key: f.key(), Value: f.text(int(f.next() % 32))})
	}
	if shape&0x20 != 0 {
		d.HitsAddend = wrapperspb.UInt64(f.number())
	}
	d.IsNegativeHits = shape&0x40 != 0
	if shape&0x80 != 0 {
		d.Limit = &ratelimit.RateLimitDescriptor_RateLimitOverride{
			RequestsPerUnit: uint32(f.number()), Unit: typev3.RateLimitUnit(int8(f.next())),
		}
		if f.next()&1 != 0 {
			d.Limit.UnitMultiplier = wrapperspb.UInt32(uint32(f.number()))
		}
	}
	return d
}

func (f *fuzzed) request() *ratelimitv3.RateLimitRequest {
	req := &ratelimitv3.RateLimitRequest{Domain: "assistant"}
	shape := f.next()
	if shape&0x80 != 0 {
		req.Domain = f.text(int(f.next() % 16))
	}
	if shape&0x40 != 0 {
		req.HitsAddend = uint32(f.number())
	}
	for range int(shape % 8) {
		req.Descriptors = append(req.Descriptors, f.descriptor())
	}
	return req
}

// FuzzShouldRateLimit asks whole calls, of arbitrary descriptors and as arbitrary messages, of servers over a store that
// answers and over one that does not. Whatever the call, the answer fits it or says what is wrong with it.
func FuzzShouldRateLimit(f *testing.F) {
	// A call as Envoy sends it, a peek, a refund, a limit of its own, four descriptors, and messages that are none.
	f.Add([]byte("\x01\x01\x00\x03123"))
	f.Add([]byte("\x01\x21\x00\x03123\x00"))
	f.Add([]byte("\x01\x61\x00\x03123\x01\x05"))
	f.Add([]byte("\x01\x81\x00\x03123\x01\x07\x02\x01\x01\x03"))
	f.Add([]byte("\x04\x02\x00\x01a\x02\x04free\x01\x01\x01b\x02\x00\x01a\x01\x01c\x00"))
	f.Add([]byte("\xff\x10\xff\xfe{}:_"))
	f.Add([]byte("\x01\x02\x00\x01a\x03\x01r"))                                             // a call that holds
	f.Add([]byte("\x02\x22\x00\x01a\x06\x04cost\x01\x05\x23\x00\x01a\x07\x01t\x06\x03end")) // a stream's end
	f.Add([]byte("\x02\x22\x00\x01a\x06\x0coutput_tokens\x01\x05\x01\x00\x01b"))            // and beside it a call
	for _, req := range []*ratelimitv3.RateLimitRequest{userRequest(1), userRequest(4), {Domain: "assistant"}} {
		wire, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	servers := map[string]*Server{
		"memory":     newFuzzServer(f, memory.New(memory.Options{MaxBytes: 1 << 20})),
		"lost store": newFuzzServer(f, lostStore{memory.New(memory.Options{})}),
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		bytes := fuzzed(data)
		calls := []*ratelimitv3.RateLimitRequest{bytes.request()}
		message := new(ratelimitv3.RateLimitRequest)
		if err := proto.Unmarshal(data, message); err == nil {
			calls = append(calls, message)
		}
		for name, s := range servers {
			for _, call := range calls {
				checkAnswer(t, name, s, call)
			}
		}
	})
}

// checkAnswer asks a call and fails unless the answer fits it.
func checkAnswer(t *testing.T, name string, s *Server, req *ratelimitv3.RateLimitRequest) {
	t.Helper()
	resp, err := s.ShouldRateLimit(t.Context(), req)
	if err != nil {
		if code := status.Code(err); code != codes.InvalidArgument || status.Convert(err).Message() == "" {
			t.Fatalf("%s: %v is answered with %v", name, req, err)
		}
		return
	}
	wire, err := proto.Marshal(resp)
	if err != nil {
		t.Fatalf("%s: the answer to %v cannot be sent: %v", name, req, err)
	}
	sent := new(ratelimitv3.RateLimitResponse)
	if err := proto.Unmarshal(wire, sent); err != nil {
		t.Fatalf("%s: the answer to %v cannot be read: %v", name, req, err)
	}
	if err := fits(req, sent); err != nil {
		t.Fatalf("%s: the answer to %v is %v: %v", name, req, sent, err)
	}
}

// fits says why an answer does not fit its call.
func fits(req *ratelimitv3.RateLimitRequest, resp *ratelimitv3.RateLimitResponse) error {
	if len(resp.GetStatuses()) != len(req.GetDescriptors()) {
		return errors.New("its statuses are not one to one with the descriptors")
	}
	over := false
	for _, st := range resp.GetStatuses() {
		switch {
		case st.GetCode() == ratelimitv3.RateLimitResponse_OVER_LIMIT:
			over = true
		case st.GetCode() != ratelimitv3.RateLimitResponse_OK:
			return errors.New("a status is neither OK nor OVER_LIMIT")
		}
		if st.GetCurrentLimit() == nil && (st.GetLimitRemaining() != 0 || st.GetDurationUntilReset() != nil) {
			return errors.New("a status without a limit states numbers")
		}
		if st.GetCurrentLimit() != nil && st.GetDurationUntilReset().CheckValid() != nil {
			return errors.New("a status has no valid reset")
		}
	}
	switch resp.GetOverallCode() {
	case ratelimitv3.RateLimitResponse_OK:
		if over {
			return errors.New("it is OK over all and denies a descriptor")
		}
		if len(resp.GetRawBody()) != 0 {
			return errors.New("it is OK and has a body")
		}
	case ratelimitv3.RateLimitResponse_OVER_LIMIT:
		if !over || len(resp.GetRawBody()) == 0 {
			return errors.New("it denies without a denied descriptor or a body")
		}
	case ratelimitv3.RateLimitResponse_UNKNOWN:
		return errors.New("it is UNKNOWN over all")
	}
	return nil
}
