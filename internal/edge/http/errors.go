package httpedge

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/ratelimitd/ratelimitd/internal/engine"
)

// problem is a problem document, RFC 9457.
type problem struct {
	Detail string `json:"detail"`
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
}

const (
	problemBadRequest       = "urn:ratelimitd:problem:bad-request"
	problemStoreUnavailable = "urn:ratelimitd:problem:store-unavailable"
	problemBusy             = "urn:ratelimitd:problem:busy"
)

// errNoUser says that a request names no user.
var errNoUser = errors.New("no user is named: add ?user_id=... or the header x-user-id")

// errBusy says that as many questions as may be are being answered.
var errBusy = fmt.Errorf("%d statistics are being read, and no more may be at once: ask again after Retry-After", maxQuestions)

// writeError tells the caller what is wrong. What is not the caller's fault is the store's, since the engine asks nobody
// else.
func (h *handler) writeError(w http.ResponseWriter, err error) {
	p := problem{
		Detail: err.Error(),
		Type:   problemStoreUnavailable,
		Status: http.StatusServiceUnavailable,
	}
	switch {
	case errors.Is(err, errBusy):
		p.Type = problemBusy
	case errors.Is(err, errNoUser), errors.Is(err, engine.ErrBadCall):
		h.bad.Inc()
		p.Type, p.Status = problemBadRequest, http.StatusBadRequest
	}
	p.Title = http.StatusText(p.Status)
	writeJSON(w, p.Status, "application/problem+json", p)
}
