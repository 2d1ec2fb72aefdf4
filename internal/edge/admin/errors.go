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

// translate turns an error into the code that the service's contract names for it. What is not the caller's fault is told in
// words that hold nothing of the error: its text may hold a key of the store, and so a subject's id, and goes to the log alone.
func (s *Server) translate(ctx context.Context, err error) error {
	code := codeOf(err)
	text, ours := ownText(code)
	if ours {
		s.log.AdminTrouble(ctx, err, engine.KindOf(err))
	} else {
		text = err.Error()
	}
	return status.Error(code, text) //nolint:wrapcheck // the protocol's own error
}

// ownText is what is said with a code that is not the caller's fault; false for all others.
func ownText(code codes.Code) (text string, ours bool) {
	switch code { //nolint:exhaustive // the others are the caller's
	case codes.Unavailable:
		return "the store cannot be asked right now, but may have made a change all the same: repeat the call, which is safe", true
	case codes.DataLoss:
		return "what the store holds of this subject was not written by ratelimitd, or is damaged: the log says more", true
	case codes.Internal:
		return "internal error: the log says more", true
	default:
		return "", false
	}
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
