package rls

import (
	"bytes"
	"testing"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// wireOf is a message as it is sent, in two pieces, with the placeholder "#!" of its texts replaced by other bytes.
func wireOf(t *testing.T, m proto.Message, by string) mem.BufferSlice {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.ReplaceAll(raw, []byte("#!"), []byte(by))
	half := len(raw) / 2
	return mem.BufferSlice{mem.SliceBuffer(raw[:half]), mem.SliceBuffer(raw[half:])}
}

func asking(text string) *ratelimitv3.RateLimitRequest {
	return &ratelimitv3.RateLimitRequest{
		Domain: "assistant", HitsAddend: 3,
		Descriptors: []*ratelimit.RateLimitDescriptor{
			{
				Entries:    []*ratelimit.RateLimitDescriptor_Entry{{Key: "user_id", Value: "é" + text}, {Key: text, Value: "mine"}},
				HitsAddend: wrapperspb.UInt64(7),
			},
			{Entries: []*ratelimit.RateLimitDescriptor_Entry{{Key: "user_id", Value: "b"}}},
		},
	}
}

func TestACallWithATextThatIsNotUTF8IsRead(t *testing.T) {
	for by, want := range map[string]string{"ab": "ab", "é": "é", "\xff\xfe": "??", "a\xc3": "a?", "\xed\xa0": "??"} {
		var got ratelimitv3.RateLimitRequest
		if err := Codec().Unmarshal(wireOf(t, asking("#!"), by), &got); err != nil {
			t.Errorf("with %q: %v", by, err)
		} else if !proto.Equal(&got, asking(want)) {
			t.Errorf("with %q it is read as %v\nwant %v", by, &got, asking(want))
		}
	}
}

func TestWhatIsNoCallIsRefused(t *testing.T) {
	whole := wireOf(t, asking("#!"), "\xff\xfe").Materialize()
	for size := 1; size < len(whole); size++ {
		cut := append([]byte(nil), whole[:size]...)
		_ = Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(cut)}, new(ratelimitv3.RateLimitRequest)) // must not panic
	}
	if err := Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer("\xff\xff")}, new(ratelimitv3.RateLimitRequest)); err == nil {
		t.Error("bytes of no message are read as a call")
	}
	other := wireOf(t, wrapperspb.String("#!"), "\xff\xfe")
	if err := Codec().Unmarshal(other, new(wrapperspb.StringValue)); err == nil {
		t.Error("another message is read though its text is not UTF-8")
	}
}
