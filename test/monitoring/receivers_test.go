package monitoring_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

// receivers stand for Slack and PagerDuty: they keep what an Alertmanager sends.
type receivers struct {
	URL string // without a slash at the end

	mu     sync.Mutex
	slack  []slackMessage
	events []pagerEvent
}

// slackMessage is a message to a channel, as far as it is looked at here.
type slackMessage struct {
	Channel     string
	Attachments []struct {
		Title string
		Text  string
		Color string
	}
}

// pagerEvent is an event of PagerDuty's API, version 2: an incident that is opened or ended is known by its key.
type pagerEvent struct {
	Action  string `json:"event_action"` // trigger or resolve
	Key     string `json:"dedup_key"`
	Payload struct {
		Summary  string
		Severity string
		Details  map[string]string `json:"custom_details"`
	}
}

// newReceivers listens on loopback until the test is over.
func newReceivers(t *testing.T) *receivers {
	t.Helper()
	r := &receivers{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /slack", func(w http.ResponseWriter, req *http.Request) {
		keep(t, r, req, &r.slack)
		_, _ = w.Write([]byte("ok")) // the Alertmanager that has gone away tries again
	})
	mux.HandleFunc("POST /pagerduty", func(w http.ResponseWriter, req *http.Request) {
		keep(t, r, req, &r.events)
		w.WriteHeader(http.StatusAccepted)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

// keep reads what is sent and adds it to what was sent before.
func keep[T any](t *testing.T, r *receivers, req *http.Request, to *[]T) {
	var sent T
	if err := json.NewDecoder(req.Body).Decode(&sent); err != nil {
		t.Errorf("%s gets what is no JSON: %v", req.URL.Path, err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	*to = append(*to, sent)
}

// messages returns what Slack was sent so far.
func (r *receivers) messages() []slackMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.slack)
}

// incidents returns what PagerDuty was sent so far.
func (r *receivers) incidents() []pagerEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}
