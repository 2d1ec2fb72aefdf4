package main

import (
	"fmt"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
)

// domain is the rate limit domain that the benchmark's policies serve.
const domain = "assistant"

// shape is the form of what is asked, apart from whose call it is.
type shape string

// The shapes that are measured.
const (
	oneDescriptor   shape = "1 x [user_id]"      // ShouldRateLimit
	fourDescriptors shape = "4 x [user_id, key]" // ShouldRateLimit
	pairShape       shape = "Reserve + Settle"   // two calls of CostService, counted as one
	usageShape      shape = "GetUsage"           // CostService
)

// ofCosts tells the shapes of CostService.
func (s shape) ofCosts() bool { return s == pairShape || s == usageShape }

// trips is how often the store is asked.
func (s shape) trips() float64 {
	if s == pairShape {
		return 2 //nolint:mnd // Reserve and Settle
	}

	return 1
}

// question is one caller's request of ShouldRateLimit. It is asked for one user after another, so its caller must wait for
// an answer before the next one.
type question struct {
	req *rlsv3.RateLimitRequest
	ids []*ratelimitv3.RateLimitDescriptor_Entry
}

// newQuestion returns a request of this shape that names no user yet.
func newQuestion(s shape) (*question, error) {
	var seconds []string

	switch s {
	case oneDescriptor:
		seconds = []string{""}
	case fourDescriptors:
		seconds = []string{"path", "method", "model", "remote_address"}
	case pairShape, usageShape:
		return nil, fmt.Errorf("shape %q is not of ShouldRateLimit", s)
	default:
		return nil, fmt.Errorf("shape %q: want %q, %q, %q or %q", s, oneDescriptor, fourDescriptors, pairShape, usageShape)
	}

	q := &question{req: &rlsv3.RateLimitRequest{Domain: domain}}

	for _, key := range seconds {
		id := &ratelimitv3.RateLimitDescriptor_Entry{Key: "user_id"}
		descriptor := &ratelimitv3.RateLimitDescriptor{Entries: []*ratelimitv3.RateLimitDescriptor_Entry{id}}

		if key != "" {
			descriptor.Entries = append(descriptor.Entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: key, Value: "value"})
		}

		q.ids = append(q.ids, id)
		q.req.Descriptors = append(q.req.Descriptors, descriptor)
	}

	return q, nil
}

// of makes the request that of a user.
func (q *question) of(user string) *rlsv3.RateLimitRequest {
	for _, id := range q.ids {
		id.Value = user
	}

	return q.req
}

// userNames returns the ids of the benchmark's users.
func userNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = userName(i)
	}

	return names
}

// userName returns the id of user i.
func userName(i int) string { return fmt.Sprintf("user-%06d", i) }
