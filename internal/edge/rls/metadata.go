package rls

import (
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ratelimitd/ratelimitd/internal/engine"
)

// The fields of the dynamic metadata. There are few, because reading them is what costs a client most of an answer: the tier,
// and on an answer without the store which way it failed. A denial's limit is in its reason header.
const (
	metaTier     = "tier"      // the tier that decided
	metaFailOpen = "fail_open" // true: the call went through because the store could not be asked
	metaHold     = "hold"      // the token of what the call holds, to be sent back when its stream is done
	metaFailShut = "fail_shut" // true: the call was denied because the store could not be asked
)

// The numbers of the protocol's fields: of RateLimitResponse, google.protobuf.Struct with its map's entries, and
// google.protobuf.Value.
const (
	numDynamicMetadata protowire.Number = 6
	numFields          protowire.Number = 1
	numKey             protowire.Number = 1
	numValue           protowire.Number = 2
	numString          protowire.Number = 3
	numBool            protowire.Number = 4
)

// encoded is the field dynamic_metadata as it is sent. Marshalling a Struct costs more than all the rest of an answer,
// since it is a map; so a limit's is encoded once, and an answer carries the bytes among its unknown fields, which are
// sent as they are. A reader of the sent answer sees no difference.
type encoded = protoreflect.RawFields

// attach adds encoded metadata to an answer. The bytes are shared and never written to.
func attach(resp *ratelimitv3.RateLimitResponse, meta encoded) {
	resp.ProtoReflect().SetUnknown(meta)
}

// metadata says which tier decided, how if it was without the store, and what the call holds.
func metadata(tier string, m engine.Mode, hold string) encoded {
	var fields []byte
	if tier != "" {
		fields = appendText(fields, metaTier, tier)
	}
	if hold != "" {
		fields = appendText(fields, metaHold, hold)
	}
	switch m {
	case engine.FailedOpen:
		fields = appendTrue(fields, metaFailOpen)
	case engine.FailedShut:
		fields = appendTrue(fields, metaFailShut)
	case engine.Stored, engine.Local, engine.Unmatched, engine.Disabled:
	}
	return asField(fields)
}

// appendText appends an entry of a Struct's map whose value is a text.
func appendText(fields []byte, key, text string) []byte {
	value := protowire.AppendTag(nil, numString, protowire.BytesType)
	return appendEntry(fields, key, protowire.AppendString(value, text))
}

// appendTrue appends an entry of a Struct's map whose value is true.
func appendTrue(fields []byte, key string) []byte {
	value := protowire.AppendTag(nil, numBool, protowire.VarintType)
	return appendEntry(fields, key, protowire.AppendVarint(value, 1))
}

func appendEntry(fields []byte, key string, value []byte) []byte {
	entry := protowire.AppendTag(nil, numKey, protowire.BytesType)
	entry = protowire.AppendString(entry, key)
	entry = protowire.AppendTag(entry, numValue, protowire.BytesType)
	entry = protowire.AppendBytes(entry, value)
	fields = protowire.AppendTag(fields, numFields, protowire.BytesType)
	return protowire.AppendBytes(fields, entry)
}

// asField makes a Struct's fields the answer's metadata.
func asField(fields []byte) encoded {
	return protowire.AppendBytes(protowire.AppendTag(nil, numDynamicMetadata, protowire.BytesType), fields)
}
