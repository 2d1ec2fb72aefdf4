package rls

import (
	"fmt"
	"unicode/utf8"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what Codec is made of
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// notUTF8 stands for each byte of a text that is not UTF-8.
const notUTF8 = '?'

// codec is the codec of Protocol Buffers, which reads a RateLimitRequest also where a text of it is not UTF-8.
type codec struct{ encoding.CodecV2 }

// Codec returns the codec for the gRPC server of a Server. Envoy sends the value of a client's header byte by byte as it is,
// and passes the request if it gets an error for an answer: a call that were refused because of one byte that is not UTF-8 would be
// the client's way past every limit. So such a byte is read as a question mark. Other messages must be UTF-8.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

// Unmarshal reads a message.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	err := c.CodecV2.Unmarshal(data, v)
	req, ok := v.(*ratelimitv3.RateLimitRequest)
	if err == nil || !ok {
		return err //nolint:wrapcheck // the codec's error is the codec's
	}
	raw := data.Materialize()
	makeUTF8(raw, req.ProtoReflect().Descriptor())
	if err := proto.Unmarshal(raw, req); err != nil {
		return fmt.Errorf("read a rate limit request: %w", err)
	}
	return nil
}

// makeUTF8 replaces, in the bytes of a message of a kind that holds none of itself, what is not UTF-8 in a text. It leaves the rest
// of what is no such message as it is.
func makeUTF8(raw []byte, kind protoreflect.MessageDescriptor) {
	for len(raw) > 0 {
		number, wire, size := protowire.ConsumeTag(raw)
		if size < 0 {
			return
		}
		raw = raw[size:]
		size = protowire.ConsumeFieldValue(number, wire, raw)
		if size < 0 {
			return
		}
		field := kind.Fields().ByNumber(number)
		if value, n := protowire.ConsumeBytes(raw); wire == protowire.BytesType && n > 0 && field != nil {
			if within := field.Message(); within != nil {
				makeUTF8(value, within)
			} else if field.Kind() == protoreflect.StringKind {
				replaceNotUTF8(value)
			}
		}
		raw = raw[size:]
	}
}

// replaceNotUTF8 replaces in place, so that the lengths around the text stay right.
func replaceNotUTF8(text []byte) {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			text[0] = notUTF8
		}
		text = text[size:]
	}
}
