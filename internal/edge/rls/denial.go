package rls

import (
	"encoding/json"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// The headers of a denial.
const (
	headerContentType = "content-type"
	headerReason      = "x-ratelimitd-reason"
	headerRetryAfter  = "Retry-After"
)

// ReasonStoreUnavailable is the reason of a denial by a tier that denies when the store cannot be asked.
const ReasonStoreUnavailable = "store_unavailable"

// The types of a denial's problem document, RFC 9457.
const (
	ProblemRateLimited      = "urn:ratelimitd:problem:rate-limited"
	ProblemNeverFits        = "urn:ratelimitd:problem:never-fits"
	ProblemStoreUnavailable = "urn:ratelimitd:problem:store-unavailable"
)

// The texts of a denial.
const (
	contentJSON = "application/json"
	neverFits   = "; this call asks for more than that at once and can never pass"
	storeDetail = "Rate limits cannot be checked right now"
)

// denialHeaders is the memory of a denial's headers in one piece.
type denialHeaders struct {
	pointers [3]*corev3.HeaderValue
	values   [3]corev3.HeaderValue
}

// writeDenial adds what the client is told: when to come back, which tier and limit denied, and a problem document. f is
// nil when the store could not be asked; then there is no number to tell.
func (s *Server) writeDenial(resp *ratelimitv3.RateLimitResponse, f *face, st *engine.Status) {
	h := new(denialHeaders)
	headers := h.pointers[:0]
	add := func(key, value string) {
		v := &h.values[len(headers)]
		v.Key, v.Value = key, value
		headers = append(headers, v)
	}
	add(headerContentType, contentJSON)
	if f == nil {
		add(headerReason, ReasonStoreUnavailable)
		resp.RawBody = storeBody(st.Tier)
	} else {
		add(headerReason, f.reason)
		retry := ""
		if st.Wait != store.Never {
			retry = strconv.FormatInt(max(ceilSeconds(retryIn(st)), 1), 10)
			add(headerRetryAfter, retry)
		}
		resp.RawBody = limitBody(f, st, retry, s.now())
	}
	resp.ResponseHeadersToAdd = headers
}

// retryIn is when to try again: after the wait, but for a slot, which may be free at any time, after a moment.
func retryIn(st *engine.Status) time.Duration {
	if st.Limit.Unit == store.Concurrent {
		return min(st.Wait, time.Second)
	}
	return st.Wait
}

// limitBody is the problem document of a denial by a limit. retry is Retry-After, empty if the call can never pass. The
// reset is rounded up to a whole second: at the stated moment it has happened.
func limitBody(f *face, st *engine.Status, retry string, now time.Time) []byte {
	start := f.limited
	if retry == "" {
		start = f.never
	}
	const rest = 100 // enough for the members that follow
	b := append(make([]byte, 0, len(start)+rest), start...)
	b = append(b, `,"remaining":`...)
	b = append(b, policy.FormatAmount(f.limit.Unit, max(st.Remaining, 0))...)
	if retry != "" {
		b = append(b, `,"retry_after":`...)
		b = append(b, retry...)
	}
	b = append(b, `,"resets_at":"`...)
	b = engine.RoundUp(now.Add(st.Reset), time.Second).AppendFormat(b, time.RFC3339)
	return append(b, `"}`...)
}

// storeBody is the problem document of a denial by a tier that denies when the store cannot be asked.
func storeBody(tier string) []byte {
	return []byte(startProblem(storeDetail, ProblemStoreUnavailable, tier) + "}")
}

// startProblem writes the members that every problem document has, without its closing brace.
func startProblem(detail, kind, tier string) string {
	start := `{"detail":` + quoteJSON(detail) + `,"type":"` + kind + `","title":"Too Many Requests","status":429`
	if tier != "" {
		start += `,"tier":` + quoteJSON(tier)
	}
	return start
}

// quoteJSON writes a text as a JSON string. A string can always be written.
func quoteJSON(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		return `""`
	}
	return string(b)
}
