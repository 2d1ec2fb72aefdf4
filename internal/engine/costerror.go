package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Reason says why a call is denied or cannot be done. Its values are those of ErrorInfo.reason on the wire.
type Reason string

// The reasons.
const (
	RateLimited           Reason = "RATE_LIMITED"
	ConcurrencyLimit      Reason = "CONCURRENCY_LIMIT"
	TokenLimit            Reason = "TOKEN_LIMIT"
	UserBudgetExhausted   Reason = "USER_BUDGET_EXHAUSTED" // of any subject but the system as a whole
	GlobalBudgetExhausted Reason = "GLOBAL_BUDGET_EXHAUSTED"
	PriceUnknown          Reason = "PRICE_UNKNOWN"
	RequestTooExpensive   Reason = "REQUEST_TOO_EXPENSIVE" // more than a limit in all: it can never pass
	ReservationNotFound   Reason = "RESERVATION_NOT_FOUND"
	ReservationNotActive  Reason = "RESERVATION_NOT_ACTIVE"
	IdempotencyMismatch   Reason = "IDEMPOTENCY_MISMATCH"
	StoreUnavailable      Reason = "STORE_UNAVAILABLE"
	InvalidArgument       Reason = "INVALID_ARGUMENT"
)

// CostError is every error of the cost API but the context's.
type CostError struct {
	Reason Reason
	Field  string  // of InvalidArgument: the field, as the proto names it
	Text   string  // what is wrong, and what to do about it
	Denial *Denial // of the reasons of a limit
	Err    error   // what it wraps; nil if nothing
}

// Error says what is wrong.
func (e *CostError) Error() string { return e.Text }

// Unwrap returns what the error wraps.
func (e *CostError) Unwrap() error { return e.Err }

// isReason reports whether err is a CostError of a reason.
func isReason(err error, reason Reason) bool {
	var cost *CostError
	return errors.As(err, &cost) && cost.Reason == reason
}

// errNotFound is the answer to a reservation id that nothing is known of.
func errNotFound(err error) *CostError {
	return &CostError{
		Reason: ReservationNotFound, Err: err,
		Text: "no such reservation: send the reservation_id of an answer, within a day of the reservation's end",
	}
}

// errStore is the answer to what the store did not do.
func errStore(err error) *CostError {
	return &CostError{
		Reason: StoreUnavailable, Err: err,
		Text: "the store of usage cannot be asked right now; repeat the call with the same ids, which is safe",
	}
}

// errUnpriced is the answer to a call of a model without a price, where the policy refuses it.
func errUnpriced(model string) *CostError {
	return &CostError{
		Reason: PriceUnknown,
		Text:   "model " + quoted(model) + " has no price; add one to the policy's prices, or say there what on_unknown_price is",
	}
}

// translate turns an error of the store, or of the call, into one of the cost API; the context's stay what they are. mismatch is
// what an id that is known with other contents comes to.
func (e *Engine) translate(ctx context.Context, err error, mismatch *CostError) error {
	var cost *CostError
	switch {
	case errors.As(err, &cost):
		return err
	case mismatch != nil && errors.Is(err, store.ErrMismatch):
		mismatch.Err = err
		return mismatch
	case errors.Is(err, store.ErrNoHold):
		return errNotFound(err)
	case errors.Is(err, ErrBadCall):
		return &CostError{Reason: InvalidArgument, Field: "subjects", Text: err.Error(), Err: err}
	case ctx.Err() != nil:
		return fmt.Errorf("the call has ended: %w", ctx.Err())
	default:
		e.trouble(ctx, err)
		return errStore(err)
	}
}

// quoted is a caller's text within a sentence, cut: it may be of any length.
func quoted(text string) string {
	const shown = 64
	if len(text) > shown {
		text = text[:shown] + "..."
	}
	return strconv.Quote(text)
}
