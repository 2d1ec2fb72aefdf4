package rls

import (
	"fmt"
	"slices"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Bounds of a call.
const (
	// MaxDescriptors is how many descriptors one call may have.
	MaxDescriptors = 256
	// MaxEntries is how many entries one descriptor may have.
	MaxEntries = 64
	// MaxHits is the largest hits_addend, of a call or of a descriptor.
	MaxHits = store.MaxRequests
)

// ownLimitName names a limit that a descriptor brought with a unit_multiplier. A name is a metric label, so it cannot
// hold the multiplier, which is a request's value.
const ownLimitName = "descriptor"

// readCall reads a request into call, reusing its memory. It errs with a requestError.
func readCall(req *ratelimitv3.RateLimitRequest, call *policy.Call) error {
	if req.GetDomain() == "" {
		return requestError("domain is empty: set the domain of Envoy's rate limit filter")
	}
	descriptors := req.GetDescriptors()
	switch n := len(descriptors); {
	case n == 0:
		return requestError("there are no descriptors: send at least one")
	case n > MaxDescriptors:
		return requestError(fmt.Sprintf("%d descriptors are more than the %d that one call may have", n, MaxDescriptors))
	}
	call.Domain = req.GetDomain()
	call.Descriptors = slices.Grow(call.Descriptors[:0], len(descriptors))[:len(descriptors)]
	for i, d := range descriptors {
		if err := readDescriptor(d, req.GetHitsAddend(), &call.Descriptors[i]); err != nil {
			return requestError(fmt.Sprintf("descriptors[%d]: %s", i, err.Error()))
		}
	}
	return nil
}

// readDescriptor reads one descriptor into to, reusing its memory; callHits is the call's own hits_addend.
func readDescriptor(d *ratelimit.RateLimitDescriptor, callHits uint32, to *policy.Descriptor) error {
	entries := d.GetEntries()
	if n := len(entries); n > MaxEntries {
		return requestError(fmt.Sprintf("%d entries are more than the %d that one descriptor may have", n, MaxEntries))
	}
	to.Entries = to.Entries[:0]
	for _, e := range entries {
		to.Entries = append(to.Entries, policy.Entry{Key: e.GetKey(), Value: e.GetValue()})
	}
	amount, err := hits(d, callHits)
	if err != nil {
		return err
	}
	own, err := ownLimit(d.GetLimit())
	if err != nil {
		return err
	}
	to.Amount = amount
	to.Refund = d.GetIsNegativeHits() && amount > 0 // giving nothing back is only looking
	to.Own = own
	return nil
}

// hits is a descriptor's amount. The descriptor's own wins, and then 0 only checks; the call's is next, where 0 is the
// protocol's way to leave it out and means 1.
func hits(d *ratelimit.RateLimitDescriptor, callHits uint32) (int64, error) {
	if own := d.GetHitsAddend(); own != nil {
		if own.GetValue() > MaxHits {
			return 0, requestError(fmt.Sprintf("hits_addend %d is more than %d", own.GetValue(), uint64(MaxHits)))
		}
		return int64(own.GetValue()), nil
	}
	return max(int64(callHits), 1), nil
}

// ownLimit reads a descriptor's own limit; nil if it has none, or one of an unknown unit.
func ownLimit(o *ratelimit.RateLimitDescriptor_RateLimitOverride) (*policy.Limit, error) {
	if o == nil {
		return nil, nil //nolint:nilnil // no limit and no error: most descriptors bring none
	}
	name, period := unitPeriod(o.GetUnit())
	if period == 0 {
		return nil, nil //nolint:nilnil // a unit that is not known gives no limit
	}
	if m := o.GetUnitMultiplier(); m != nil && m.GetValue() != 1 {
		longest := uint64(store.MaxPeriod / period)
		if n := uint64(m.GetValue()); n == 0 || n > longest {
			return nil, requestError(fmt.Sprintf("limit.unit_multiplier %d of unit %s is not between 1 and %d", n, name, longest))
		}
		name, period = ownLimitName, period*time.Duration(m.GetValue())
	}
	return &policy.Limit{
		Name:    name,
		Unit:    store.Requests,
		Max:     int64(o.GetRequestsPerUnit()),
		Period:  period,
		Ordinal: -1,
	}, nil
}

const day = 24 * time.Hour

// unitPeriod is a unit's name and length, as Envoy counts them: a month has 30 days and a year 365. Zero for UNKNOWN and
// for numbers that the protocol does not define.
func unitPeriod(u typev3.RateLimitUnit) (name string, period time.Duration) {
	switch u {
	case typev3.RateLimitUnit_SECOND:
		return "second", time.Second
	case typev3.RateLimitUnit_MINUTE:
		return "minute", time.Minute
	case typev3.RateLimitUnit_HOUR:
		return "hour", time.Hour
	case typev3.RateLimitUnit_DAY:
		return "day", day
	case typev3.RateLimitUnit_MONTH:
		return "month", 30 * day
	case typev3.RateLimitUnit_YEAR:
		return "year", 365 * day
	case typev3.RateLimitUnit_UNKNOWN:
		return "", 0
	default:
		return "", 0
	}
}

// forget drops what a caller sent and keeps the memory.
func forget(call *policy.Call) {
	call.Domain = ""
	for i := range call.Descriptors {
		d := &call.Descriptors[i]
		clear(d.Entries)
		*d = policy.Descriptor{Entries: d.Entries[:0]}
	}
	call.Descriptors = call.Descriptors[:0]
}
