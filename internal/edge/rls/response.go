package rls

import (
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ratelimitd/ratelimitd/internal/engine"
)

// respond builds the answer to a decision. The answer shares nothing with dec, which is used again before the answer is
// sent.
func (s *Server) respond(dec *engine.Decision) *ratelimitv3.RateLimitResponse {
	r := newReply(len(dec.Statuses))
	r.resp.OverallCode = ratelimitv3.RateLimitResponse_OK
	if dec.Denied {
		r.resp.OverallCode = ratelimitv3.RateLimitResponse_OVER_LIMIT
	}
	for i := range dec.Statuses {
		s.writeStatus(&dec.Statuses[i], &r.statuses[i], &r.resets[i])
	}
	deciding := &dec.Deciding
	if !deciding.Matched && !dec.Denied {
		return r.resp
	}
	var f *face
	if deciding.Limit != nil {
		f = s.faces.of(deciding.Tier, deciding.Limit)
	}
	if f == nil || dec.Hold != "" || dec.Mode == engine.FailedOpen || dec.Mode == engine.FailedShut {
		attach(r.resp, metadata(deciding.Tier, dec.Mode, dec.Hold))
	} else {
		attach(r.resp, f.meta)
	}
	if dec.Denied {
		s.writeDenial(r.resp, f, deciding)
	}
	if s.ietf && f != nil {
		r.resp.ResponseHeadersToAdd = append(r.resp.ResponseHeadersToAdd, ietfHeaders(f, deciding)...)
	}
	return r.resp
}

// writeStatus writes one descriptor's status. Without numbers of the store it states none.
func (s *Server) writeStatus(
	from *engine.Status, to *ratelimitv3.RateLimitResponse_DescriptorStatus, reset *durationpb.Duration,
) {
	to.Code = ratelimitv3.RateLimitResponse_OK
	if from.Denied {
		to.Code = ratelimitv3.RateLimitResponse_OVER_LIMIT
	}
	if from.Limit == nil {
		return
	}
	to.CurrentLimit = s.faces.of(from.Tier, from.Limit).current
	to.LimitRemaining = clamp32(protocolAmount(from.Limit.Unit, from.Remaining))
	reset.Seconds = int64(from.Reset / time.Second)
	reset.Nanos = int32(from.Reset % time.Second)
	to.DurationUntilReset = reset
}

// ietfHeaders are the fields of draft-ietf-httpapi-ratelimit-headers for the limit that decided: its quota and window,
// what remains of it, and the seconds until it grows.
func ietfHeaders(f *face, st *engine.Status) []*corev3.HeaderValue {
	item := f.item + strconv.FormatInt(max(st.Remaining, 0), 10) + ";t=" + strconv.FormatInt(ceilSeconds(st.Reset), 10)
	return []*corev3.HeaderValue{
		{Key: "RateLimit-Policy", Value: f.quota},
		{Key: "RateLimit", Value: item},
	}
}

// reply is an answer and the memory of its statuses.
type reply struct {
	resp     *ratelimitv3.RateLimitResponse
	statuses []ratelimitv3.RateLimitResponse_DescriptorStatus
	resets   []durationpb.Duration
}

// smallReply and mediumReply hold an answer in one piece of memory: most calls have one descriptor, and few more than
// four. The answer is marshalled after the handler has returned, so its memory cannot be used again.
type smallReply struct {
	resp     ratelimitv3.RateLimitResponse
	pointers [1]*ratelimitv3.RateLimitResponse_DescriptorStatus
	statuses [1]ratelimitv3.RateLimitResponse_DescriptorStatus
	resets   [1]durationpb.Duration
}

type mediumReply struct {
	resp     ratelimitv3.RateLimitResponse
	pointers [4]*ratelimitv3.RateLimitResponse_DescriptorStatus
	statuses [4]ratelimitv3.RateLimitResponse_DescriptorStatus
	resets   [4]durationpb.Duration
}

// newReply returns an answer with n empty statuses.
func newReply(n int) reply {
	var r reply
	var pointers []*ratelimitv3.RateLimitResponse_DescriptorStatus
	switch {
	case n <= 1:
		b := new(smallReply)
		r = reply{&b.resp, b.statuses[:n], b.resets[:n]}
		pointers = b.pointers[:n]
	case n <= 4:
		b := new(mediumReply)
		r = reply{&b.resp, b.statuses[:n], b.resets[:n]}
		pointers = b.pointers[:n]
	default:
		r = reply{
			new(ratelimitv3.RateLimitResponse),
			make([]ratelimitv3.RateLimitResponse_DescriptorStatus, n),
			make([]durationpb.Duration, n),
		}
		pointers = make([]*ratelimitv3.RateLimitResponse_DescriptorStatus, n)
	}
	for i := range pointers {
		pointers[i] = &r.statuses[i]
	}
	r.resp.Statuses = pointers
	return r
}
