package httpedge

import (
	"encoding/json"
	"net/http"
)

const (
	contentJSON = "application/json"
	contentText = "text/plain; charset=utf-8"
)

// healthAnswer says how the service is. It is answered with 200 whenever requests are answered: a lost store degrades
// the service and does not end it.
type healthAnswer struct {
	Status string       `json:"status"` // healthy or degraded
	Checks healthChecks `json:"checks"`
	Detail string       `json:"detail,omitempty"` // what is wrong
}

type healthChecks struct {
	AssistantService string `json:"assistant_service"` // always available: it is this process that answers
	Redis            string `json:"redis"`             // connected, unavailable, or embedded
}

func (h *handler) health(w http.ResponseWriter, r *http.Request) {
	answer := healthAnswer{
		Status: "healthy",
		Checks: healthChecks{AssistantService: "available", Redis: "connected"},
	}
	if h.opt.Embedded {
		answer.Checks.Redis = "embedded"
	}
	if err := h.opt.Engine.StoreErr(r.Context()); err != nil {
		answer.Status, answer.Detail = "degraded", err.Error()
		if !h.opt.Embedded {
			answer.Checks.Redis = "unavailable"
		}
	}
	writeJSON(w, http.StatusOK, contentJSON, answer)
}

// alive says that the process answers at all.
func (h *handler) alive(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "ok\n")
}

// ready says whether calls should be sent here. A lost store does not make it unready: the policy says what to answer
// then, and every other instance would be as badly off.
func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	if !h.opt.Ready() {
		writeText(w, http.StatusServiceUnavailable, "not serving\n")
		return
	}
	writeText(w, http.StatusOK, "ready\n")
}

func writeText(w http.ResponseWriter, status int, text string) {
	write(w, status, contentText, []byte(text))
}

// writeJSON answers with a value that can always be written as JSON.
func writeJSON(w http.ResponseWriter, status int, contentType string, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		writeText(w, http.StatusInternalServerError, "the answer cannot be written: "+err.Error()+"\n")
		return
	}
	write(w, status, contentType, append(body, '\n'))
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that has gone needs no answer
}
