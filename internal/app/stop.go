package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/grpc"
)

// errCut says that calls were still in flight when the time was up.
var errCut = errors.New("calls in flight were cut off: they took longer than the shutdown timeout")

// stopGRPC lets calls in flight end, until the context does; then it cuts them off.
func stopGRPC(ctx context.Context, s *grpc.Server, accepted *conns) error {
	done := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(done)
	}()
	accepted.closeSilent()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		accepted.closeAll()
		s.Stop() // ends GracefulStop too
		<-done
		return errCut
	}
}

// stopHTTP lets requests in flight end, until the context does; then it cuts them off.
func stopHTTP(ctx context.Context, s *http.Server) error {
	err := s.Shutdown(ctx)
	if err == nil {
		return nil
	}
	if closing := s.Close(); closing != nil || !errors.Is(err, ctx.Err()) {
		return errors.Join(err, closing)
	}
	return errCut
}

// lastWords is what the steps after the servers have in all, when calls in flight have used up a stop's time: settlements, traces
// and decisions that are left go out then.
const lastWords = time.Second

// Stop ends the daemon: it refuses new calls, lets those in flight end until the context does, and closes the store. It
// returns what went wrong on the way; the daemon has ended in any case. When the context's deadline has cut off calls in flight, the
// rest takes a second more at most; when it was cancelled, nothing waits.
func (a *App) Stop(ctx context.Context) error { return errors.Join(a.stop(ctx)) }

// stop is Stop, which tells calls that were cut off from all that went wrong.
func (a *App) stop(ctx context.Context) (cut, wrong error) {
	var cuts, problems []error
	late, tooLate := context.WithCancel(context.WithoutCancel(ctx))
	defer tooLate()
	for len(a.onStop) > 0 {
		last := a.onStop[len(a.onStop)-1]
		a.onStop = a.onStop[:len(a.onStop)-1]
		within := ctx
		if len(cuts) > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			within = late
		}
		switch err := last.do(within); {
		case errors.Is(err, errCut):
			cuts = append(cuts, fmt.Errorf("%s: %w", last.what, err))
			if len(cuts) == 1 {
				time.AfterFunc(lastWords, tooLate)
			}
		case err != nil:
			problems = append(problems, fmt.Errorf("%s: %w", last.what, err))
		}
	}
	a.serving.Wait()
	return errors.Join(cuts...), errors.Join(problems...)
}
