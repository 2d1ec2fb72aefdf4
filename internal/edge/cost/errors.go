package cost

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// domain is the domain of the reasons, as ErrorInfo names it.
const domain = "ratelimitd"

// The reasons that are the edge's own.
const (
	reasonStopping engine.Reason = "SHUTTING_DOWN"
	reasonBusy     engine.Reason = "BUSY"
	reasonInternal engine.Reason = "INTERNAL"
)

// retrySoon is when to ask again what could not be done for the moment.
const retrySoon = time.Second

// Errors that are the edge's own.
var (
	errStopping = &engine.CostError{
		Reason: reasonStopping,
		Text:   "this ratelimitd is about to stop, and takes no new calls and no waits: ask again, of another one if there is one",
	}
	errManyWait = &engine.CostError{
		Reason: reasonBusy,
		Text:   fmt.Sprintf("%d calls wait for a slot here, and no more may at once: ask again later, or without wait_timeout", maxWaits),
	}
)

// codeOf is the code that the service's contract gives a reason.
func codeOf(reason engine.Reason) codes.Code {
	switch reason {
	case engine.RateLimited, engine.ConcurrencyLimit, engine.TokenLimit,
		engine.UserBudgetExhausted, engine.GlobalBudgetExhausted:
		return codes.ResourceExhausted
	case engine.PriceUnknown, engine.RequestTooExpensive, engine.ReservationNotActive:
		return codes.FailedPrecondition
	case engine.ReservationNotFound:
		return codes.NotFound
	case engine.IdempotencyMismatch:
		return codes.AlreadyExists
	case engine.StoreUnavailable, reasonStopping, reasonBusy:
		return codes.Unavailable
	case engine.InvalidArgument:
		return codes.InvalidArgument
	default:
		return codes.Internal
	}
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// translate turns an error into the status that a caller is told, with its details.
func (s *Server) translate(err error) error {
	var (
		wrong fieldError
		known *engine.CostError
	)
	switch {
	case errors.As(err, &wrong):
		s.badCalls.Inc()
		return wrong.status()
	case errors.As(err, &known):
		if known.Reason == engine.InvalidArgument {
			s.badCalls.Inc()
		}
		return costStatus(known)
	case errors.Is(err, context.Canceled):
		return newStatus(codes.Canceled, "the caller gave up")
	case errors.Is(err, context.DeadlineExceeded):
		return newStatus(codes.DeadlineExceeded, "the caller's deadline has passed")
	case errors.Is(err, store.ErrUnavailable):
		return costStatus(&engine.CostError{Reason: engine.StoreUnavailable, Text: err.Error()})
	default:
		return newStatus(codes.Internal, err.Error(), errorInfo(reasonInternal, nil))
	}
}

// status is the status of a request with wrong fields.
func (e fieldError) status() error {
	bad := new(errdetails.BadRequest)
	for _, v := range e {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: utf8Text(v.field), Description: utf8Text(v.what),
		})
	}
	return newStatus(codes.InvalidArgument, e.Error(), errorInfo(engine.InvalidArgument, nil), bad)
}

// costStatus is the status of an error of the engine.
func costStatus(e *engine.CostError) error {
	code := codeOf(e.Reason)
	if e.Reason == engine.InvalidArgument && e.Field != "" {
		return fieldError{{e.Field, strings.TrimPrefix(e.Text, e.Field+" ")}}.status()
	}
	if d := e.Denial; d != nil {
		return newStatus(code, e.Text, denialDetails(e.Reason, d)...)
	}
	details := []protoadapt.MessageV1{errorInfo(e.Reason, nil)}
	if code == codes.Unavailable {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retrySoon)})
	}
	return newStatus(code, e.Text, details...)
}

// denialDetails say which limit denies, how it stands, and when to ask again unless the call can never pass.
func denialDetails(reason engine.Reason, d *engine.Denial) []protoadapt.MessageV1 {
	unit := d.Limit.Unit
	about := map[string]string{
		keyTier:  d.Tier,
		keyID:    utf8Text(d.ID),
		keyName:  d.Limit.Name,
		keyUnit:  unit.String(),
		keyLimit: policy.FormatAmount(unit, d.Limit.Max),
		keyUsed:  policy.FormatAmount(unit, d.Used),
		keyAsked: policy.FormatAmount(unit, d.Asked),
	}
	subject := d.Tier
	if d.ID != "" {
		subject += ":" + utf8Text(d.ID)
	}
	quota := &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{
		Subject: subject, Description: describe(d),
	}}}
	if !mayRetry(d) {
		return []protoadapt.MessageV1{errorInfo(reason, about), quota}
	}
	if !d.Available.IsZero() {
		about[keyAvailable] = engine.FormatMoment(d.Available)
	}
	retry := &errdetails.RetryInfo{RetryDelay: durationpb.New(d.RetryIn)}
	return []protoadapt.MessageV1{errorInfo(reason, about), quota, retry}
}

// The keys of ErrorInfo's metadata, which are members of a problem document too.
const (
	keyTier      = "tier"
	keyID        = "id"
	keyName      = "name"
	keyUnit      = "unit"
	keyLimit     = "limit"
	keyUsed      = "used"
	keyAsked     = "asked"
	keyAvailable = "available_at"
)

func errorInfo(reason engine.Reason, about map[string]string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: string(reason), Domain: domain, Metadata: about}
}

// newStatus is the status that a caller is told. Details that cannot be written are left out: the code and the text are not.
func newStatus(code codes.Code, text string, details ...protoadapt.MessageV1) error {
	st := status.New(code, utf8Text(text))
	if detailed, err := st.WithDetails(details...); err == nil {
		st = detailed
	}
	return st.Err() //nolint:wrapcheck // the protocol's own error
}
