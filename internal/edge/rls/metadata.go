package rls

import (
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/ratelimitd/ratelimitd/internal/engine"
)

// The fields of the dynamic metadata.
const (
	metaTier     = "tier"      // the tier that decided
	metaLimit    = "limit"     // the name of the limit that decided; left out when the store gave no numbers
	metaMode     = "mode"      // where the answer came from, as engine.Mode spells it
	metaFailOpen = "fail_open" // true if the call went through because the store could not be asked
)

// dynamicMetadata is the number of RateLimitResponse.dynamic_metadata.
const dynamicMetadata protowire.Number = 6

// encoded is the field dynamic_metadata as it is sent. Marshalling a Struct costs more than all the rest of an answer,
// since it is a map; so it is done once per limit, and an answer carries the bytes among its unknown fields, which are
// sent as they are. A reader of the sent answer sees no difference.
type encoded = protoreflect.RawFields

// attach adds encoded metadata to an answer. The bytes are shared and never written to.
func attach(resp *ratelimitv3.RateLimitResponse, meta encoded) {
	resp.ProtoReflect().SetUnknown(meta)
}

// metadata says which tier and limit decided, and how. Empty names are left out.
func metadata(tier, limit string, m engine.Mode) encoded {
	fields := map[string]*structpb.Value{
		metaMode:     structpb.NewStringValue(m.String()),
		metaFailOpen: structpb.NewBoolValue(m == engine.FailedOpen),
	}
	if tier != "" {
		fields[metaTier] = structpb.NewStringValue(tier)
	}
	if limit != "" {
		fields[metaLimit] = structpb.NewStringValue(limit)
	}
	value, err := (proto.MarshalOptions{Deterministic: true}).Marshal(&structpb.Struct{Fields: fields})
	if err != nil {
		return nil // only a name that is not UTF-8 cannot be sent; the policy refuses those
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, dynamicMetadata, protowire.BytesType), value)
}
