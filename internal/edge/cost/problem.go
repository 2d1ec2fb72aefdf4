package cost

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratelimitd/ratelimitd/internal/engine"
)

// problemPrefix and a reason in small letters are a problem's type.
const problemPrefix = "urn:ratelimitd:problem:"

// statusGone is what is noted for a caller that gave up: it reads no answer.
const statusGone = 499

// problem is a problem document, RFC 9457, of what a status says with its details.
type problem struct {
	Detail string `json:"detail"`
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Reason string `json:"reason"`

	// Of a field that is wrong: the first one, and all of them.
	Field  string         `json:"field,omitempty"`
	Errors []fieldProblem `json:"errors,omitempty"`

	// Of a limit that denies. RetryAfter is in whole seconds; nil if a retry is useless.
	Tier        string `json:"tier,omitempty"`
	ID          string `json:"id,omitempty"`
	Name        string `json:"name,omitempty"`
	Unit        string `json:"unit,omitempty"`
	Limit       string `json:"limit,omitempty"`
	Used        string `json:"used,omitempty"`
	Asked       string `json:"asked,omitempty"`
	RetryAfter  *int64 `json:"retry_after,omitempty"`
	AvailableAt string `json:"available_at,omitempty"`
}

type fieldProblem struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

// newProblem is a problem that has no status.
func newProblem(code int, reason, detail string) *problem {
	p := &problem{Detail: detail, Status: code, Reason: reason}
	p.Type = problemPrefix + strings.ReplaceAll(strings.ToLower(reason), "_", "-")
	p.Title = http.StatusText(code)
	if code == statusGone {
		p.Title = "Client Closed Request"
	}
	return p
}

// readProblem reads the problem from an error of the service.
func readProblem(err error) *problem {
	st := status.Convert(err)
	p := newProblem(runtime.HTTPStatusFromCode(st.Code()), reasonOf(st.Code()), st.Message())
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			about := d.GetMetadata()
			named := newProblem(p.Status, d.GetReason(), p.Detail)
			p.Reason, p.Type = named.Reason, named.Type
			p.Tier, p.ID, p.Name, p.Unit = about[keyTier], about[keyID], about[keyName], about[keyUnit]
			p.Limit, p.Used, p.Asked = about[keyLimit], about[keyUsed], about[keyAsked]
			p.AvailableAt = about[keyAvailable]
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				p.Errors = append(p.Errors, fieldProblem{Field: v.GetField(), Detail: v.GetDescription()})
			}
			if len(p.Errors) > 0 {
				p.Field = p.Errors[0].Field
			}
		case *errdetails.RetryInfo:
			seconds := max(int64((d.GetRetryDelay().AsDuration()+time.Second-1)/time.Second), 1)
			p.RetryAfter = &seconds
		}
	}
	return p
}

// reasonOf is the reason of a status that has none of its own: of the caller's own end, and of what is no message at all.
func reasonOf(code codes.Code) string {
	reasons := map[codes.Code]string{
		codes.Canceled:         "CANCELLED",
		codes.DeadlineExceeded: "DEADLINE_EXCEEDED",
		codes.InvalidArgument:  string(engine.InvalidArgument),
	}
	if reason, ok := reasons[code]; ok {
		return reason
	}
	return string(reasonInternal)
}

// write answers with the problem.
func (p *problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if p.RetryAfter != nil {
		h.Set("Retry-After", strconv.FormatInt(*p.RetryAfter, 10))
	}
	body, err := json.Marshal(p)
	if err != nil { // texts and numbers can always be written
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // a caller that has gone needs no answer
}
