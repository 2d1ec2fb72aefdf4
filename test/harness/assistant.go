package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
)

// AssistantServer stands for an assistant whose answers a test chooses. It counts what is asked of it, and how much of that
// at once.
type AssistantServer struct {
	Addr   string // "127.0.0.1:port"
	hits   atomic.Int64
	flight atomic.Int64
	most   atomic.Int64
}

// Reply is what an assistant answers to one request.
type Reply struct {
	// Wait is waited for before anything is answered; nil for no wait.
	Wait <-chan struct{}
	// Status is the answer's; 0 for 200.
	Status int
	// Header is the answer's, by name.
	Header map[string]string
	// Chunks is the body; each is sent before the next is written.
	Chunks []string
	// Stay is waited for after the body, before the answer ends; nil for no wait.
	Stay <-chan struct{}
	// Reset breaks the connection in place of the answer's end.
	Reset bool
}

// Assistant starts an HTTP server of the test's own process that answers each request as reply says. A request whose client
// has gone waits no longer.
func Assistant(t TB, reply func(r *http.Request) Reply) *AssistantServer {
	t.Helper()
	a := &AssistantServer{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer a.enter()()
		// Only a request whose body is read tells the server when its client goes.
		_, _ = io.Copy(io.Discard, r.Body)
		a.answer(w, r, reply(r))
	}))
	a.Addr = s.Listener.Addr().String()
	t.Cleanup(s.Close)
	return a
}

// enter counts a request in, and returns what counts it out.
func (a *AssistantServer) enter() func() {
	a.hits.Add(1)
	now := a.flight.Add(1)
	for most := a.most.Load(); now > most && !a.most.CompareAndSwap(most, now); most = a.most.Load() {
	}
	return func() { a.flight.Add(-1) }
}

func (a *AssistantServer) answer(w http.ResponseWriter, r *http.Request, reply Reply) {
	if !wait(r.Context(), reply.Wait) {
		return
	}
	for name, value := range reply.Header {
		w.Header().Set(name, value)
	}
	if reply.Status != 0 {
		w.WriteHeader(reply.Status)
	}
	flusher := http.NewResponseController(w)
	for _, chunk := range reply.Chunks {
		if _, err := io.WriteString(w, chunk); err != nil {
			return // the client has gone
		}
		if len(reply.Chunks) > 1 || reply.Stay != nil || reply.Reset {
			_ = flusher.Flush() // likewise
		}
	}
	wait(r.Context(), reply.Stay)
	if reply.Reset {
		panic(http.ErrAbortHandler) // the server's way to break a connection
	}
}

// wait waits for a channel, if there is one; false says that the context was over first.
func wait(ctx context.Context, c <-chan struct{}) bool {
	if c == nil {
		return true
	}
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	}
}

// Hits returns how many requests have reached the assistant.
func (a *AssistantServer) Hits() int64 { return a.hits.Load() }

// InFlight returns how many requests the assistant is answering.
func (a *AssistantServer) InFlight() int64 { return a.flight.Load() }

// MostAtOnce returns how many requests the assistant has been answering at once, at most.
func (a *AssistantServer) MostAtOnce() int64 { return a.most.Load() }

// WaitInFlight waits until the assistant is answering exactly n requests.
func (a *AssistantServer) WaitInFlight(t TB, n int64) {
	t.Helper()
	WaitFor(t, fmt.Sprintf("%d requests are in flight at the assistant", n), func(context.Context) error {
		if now := a.InFlight(); now != n {
			return fmt.Errorf("%d are", now)
		}
		return nil
	})
}
