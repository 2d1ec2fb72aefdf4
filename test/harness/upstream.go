package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
)

// UpstreamServer stands for the assistant: it answers 200 to everything and counts.
type UpstreamServer struct {
	Addr string // "127.0.0.1:port"
	hits atomic.Int64
}

// Upstream starts an HTTP server of the test's own process that counts what reaches it.
func Upstream(t TB) *UpstreamServer {
	t.Helper()
	return UpstreamAt(t, Addr(t))
}

// UpstreamAt is Upstream at an address of the caller's choice.
func UpstreamAt(t TB, addr string) *UpstreamServer {
	t.Helper()
	u := &UpstreamServer{Addr: addr}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("start the upstream: %v", err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		u.hits.Add(1)
		_, _ = io.WriteString(w, "hello\n") // a client that has gone needs no answer
	}))
	_ = s.Listener.Close() // replaced before anything could connect
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return u
}

// Hits returns how many requests have reached the upstream.
func (u *UpstreamServer) Hits() int64 { return u.hits.Load() }

// getOK asks a page and errs unless it answers 200.
func getOK(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	res, err := pollClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read only
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // for the message only
		return fmt.Errorf("%s answers %s: %s", url, res.Status, body)
	}
	return nil
}

// pollClient leaves no connection behind.
var pollClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func portOf(t TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatalf("the address %q has no port: %v", addr, err)
	}
	return port
}
