package rls

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratelimitd/ratelimitd/internal/engine"
)

// requestError says what is wrong with a request and what to send instead.
type requestError string

func (e requestError) Error() string { return string(e) }

// countError says that a decision does not fit its call. It is a defect of the decider.
type countError struct{ got, want int }

func (e countError) Error() string {
	return fmt.Sprintf("the decision has %d statuses for %d descriptors", e.got, e.want)
}

// translate turns an error into what the caller is told. A store that cannot be asked never comes this way: the engine
// answers in its place.
func (s *Server) translate(err error) error {
	var bad requestError
	switch {
	case errors.As(err, &bad), errors.Is(err, engine.ErrBadCall):
		s.badCalls.Inc()
		return status.Error(codes.InvalidArgument, err.Error()) //nolint:wrapcheck // the protocol's own error
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the caller gave up") //nolint:wrapcheck // the protocol's own error
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the caller's deadline has passed") //nolint:wrapcheck // likewise
	default:
		return status.Error(codes.Internal, err.Error()) //nolint:wrapcheck // the protocol's own error
	}
}
