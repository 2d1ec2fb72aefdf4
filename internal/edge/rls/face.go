package rls

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
)

// face is everything that answers say about one limit of one tier and that is the same in each of them. It is built once
// and then only read: messages that are marshalled are not changed by it.
type face struct {
	tier  string
	limit policy.Limit

	current *ratelimitv3.RateLimitResponse_RateLimit
	meta    encoded // the metadata of an answer by the store's numbers
	reason  string  // "user:minute"
	limited string  // the start of the problem document of a denial with a wait, up to the limit's amount
	never   string  // the same for a denial of what can never pass
	quota   string  // the limit as a RateLimit-Policy item
	item    string  // the limit's name as the start of a RateLimit item
}

func newFace(tier string, l *policy.Limit) *face {
	quoted := quoteField(l.Name)
	exceeded := "Rate limit exceeded: " + l.Describe()
	f := &face{
		tier:    tier,
		limit:   *l,
		current: currentLimit(l),
		meta:    metadata(tier, engine.Stored, ""),
		reason:  tier + ":" + l.Name,
		limited: startProblem(exceeded, ProblemRateLimited, tier) + `,"limit":` + policy.FormatAmount(l.Unit, l.Max),
		never:   startProblem(exceeded+neverFits, ProblemNeverFits, tier) + `,"limit":` + policy.FormatAmount(l.Unit, l.Max),
		quota:   quoted + ";q=" + strconv.FormatInt(l.Max, 10),
		item:    quoted + ";r=",
	}
	if w := int64(l.Period / time.Second); w > 0 {
		f.quota += ";w=" + strconv.FormatInt(w, 10)
	}
	return f
}

// keptFaces is how many faces are kept; a power of two.
const keptFaces = 1024

// faces keeps the faces of the policy in force, each at the place of its limit's ordinal. A limit of a later policy, or
// one whose place is taken, replaces what is there; so memory is bounded however often the policy is loaded.
type faces struct {
	kept [keptFaces]atomic.Pointer[face]
}

// of returns the face of a tier's limit.
func (fs *faces) of(tier string, l *policy.Limit) *face {
	if l.Ordinal < 0 {
		return newFace(tier, l) // brought by one subject's override or one call; keeping it would help nobody else
	}
	place := &fs.kept[l.Ordinal&(keptFaces-1)]
	if f := place.Load(); f != nil && f.limit == *l && f.tier == tier {
		return f
	}
	f := newFace(tier, l)
	place.Store(f)
	return f
}

// currentLimit is a limit as Envoy reads it. A period that is no whole number of seconds, or none at all, has the unit
// UNKNOWN: Envoy then leaves the window out of X-RateLimit-Limit.
func currentLimit(l *policy.Limit) *ratelimitv3.RateLimitResponse_RateLimit {
	r := &ratelimitv3.RateLimitResponse_RateLimit{
		Name:            l.Name,
		RequestsPerUnit: clamp32(protocolAmount(l.Unit, l.Max)),
	}
	for _, u := range responseUnits() {
		if l.Period <= 0 || l.Period%u.period != 0 {
			continue
		}
		r.Unit = u.unit
		if n := int64(l.Period / u.period); n > 1 {
			r.UnitMultiplier = wrapperspb.UInt32(clamp32(n))
		}
		return r
	}
	return r
}

type responseUnit struct {
	unit   ratelimitv3.RateLimitResponse_RateLimit_Unit
	period time.Duration
}

// responseUnits are the protocol's units of time, longest first.
func responseUnits() []responseUnit {
	return []responseUnit{
		{ratelimitv3.RateLimitResponse_RateLimit_YEAR, 365 * day},
		{ratelimitv3.RateLimitResponse_RateLimit_MONTH, 30 * day},
		{ratelimitv3.RateLimitResponse_RateLimit_WEEK, 7 * day},
		{ratelimitv3.RateLimitResponse_RateLimit_DAY, day},
		{ratelimitv3.RateLimitResponse_RateLimit_HOUR, time.Hour},
		{ratelimitv3.RateLimitResponse_RateLimit_MINUTE, time.Minute},
		{ratelimitv3.RateLimitResponse_RateLimit_SECOND, time.Second},
	}
}

// quoteField writes a name as a string of RFC 9651, which has only printable ASCII; other bytes become "?".
func quoteField(name string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(name) {
		switch c := name[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
