package admin

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// requestError says what is wrong with a request and what to send instead.
type requestError string

func (e requestError) Error() string { return string(e) }

// errNoOverride says that a subject has no override of its own.
var errNoOverride = errors.New("the subject has no override: the policy chooses its limits")

// translate turns an error into the code that the service's contract names for it.
func translate(err error) error {
	return status.Error(codeOf(err), err.Error()) //nolint:wrapcheck // the protocol's own error
}

func codeOf(err error) codes.Code {
	var bad requestError
	switch {
	case errors.As(err, &bad), errors.Is(err, engine.ErrBadCall):
		return codes.InvalidArgument
	case errors.Is(err, errNoOverride):
		return codes.NotFound
	case errors.Is(err, store.ErrCorrupt):
		return codes.DataLoss
	case errors.Is(err, store.ErrFull):
		return codes.ResourceExhausted
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return codes.Unavailable
	default:
		return codes.Internal
	}
}
