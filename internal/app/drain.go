package app

import (
	"context"
	"net/http"
	"time"
)

// drain says that calls should go elsewhere, and answers those that still come for the delay or until the context ends.
// Who sends calls needs that long to notice: until then, a refused connection would be a call lost.
func (a *App) drain(ctx context.Context, delay time.Duration) {
	a.withdraw()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// withdraw says that calls should go elsewhere: /readyz and the health service do. It changes no answer.
func (a *App) withdraw() {
	a.ready.Store(false)
	a.health.Shutdown()
}

// closeUnlessReady has a client of a daemon that is about to stop make its next connection elsewhere. A connection that
// is only closed at the end may be so while a request is on its way.
func (a *App) closeUnlessReady(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.ready.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
