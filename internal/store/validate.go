package store

import (
	"errors"
	"fmt"
	"time"
)

// ErrBad is wrapped by the errors for requests that no policy makes: what is out of the contract's bounds.
var ErrBad = errors.New("bad request to the store")

// Validate errs with an ErrBad that names the first thing that is out of the contract's bounds. Every store asks it first.
func (r *Request) Validate() error {
	for i := range r.Checks {
		if err := validateCheck(&r.Checks[i], r.Look || (r.Hold != nil && r.Hold.Slot)); err != nil {
			return fmt.Errorf("%w: check %d (%.32q): %w", ErrBad, i, r.Checks[i].Subject.Kind, err)
		}
	}
	if r.Hold != nil && !r.Look {
		if err := r.validateHold(); err != nil {
			return fmt.Errorf("%w: %w", ErrBad, err)
		}
	}
	return nil
}

// ValidateRefund is Validate for a refund, which gives back requests alone.
func (r *Request) ValidateRefund() error {
	if r.At < 0 || r.At > MaxAmount {
		return fmt.Errorf("%w: a refund of the hits of the moment %d, which is not within 0 to %d", ErrBad, r.At, int64(MaxAmount))
	}
	for i := range r.Checks {
		if u := r.Checks[i].Unit; u != Requests {
			return fmt.Errorf("%w: check %d (%.32q): unit %s cannot be refunded, only requests can: settle or release a hold instead",
				ErrBad, i, r.Checks[i].Subject.Kind, u)
		}
	}
	return r.Validate()
}

// validateCheck errs with what is wrong about a check. Only a request that takes a slot, or looks, may ask for one.
func validateCheck(c *Check, slot bool) error {
	most, limits := int64(MaxAmount), MaxLimits
	if c.Unit == Concurrent {
		most, limits = 0, 1
		if slot {
			most = 1
		}
	}
	switch {
	case c.Unit < Requests || c.Unit > Concurrent:
		return fmt.Errorf("unit %d is not known", c.Unit)
	case c.Amount < 0 || c.Amount > most:
		return fmt.Errorf("amount %d of %s is not within 0 to %d", c.Amount, c.Unit, most)
	case len(c.Limits) > limits:
		return fmt.Errorf("%d limits of %s, at most %d are allowed", len(c.Limits), c.Unit, limits)
	case c.Unit == Concurrent && c.Amount > 0 && len(c.Limits) == 0:
		return errors.New("a slot is asked for without a limit of slots")
	}
	for j := range c.Limits {
		if err := validateLimit(c.Unit, &c.Limits[j]); err != nil {
			return fmt.Errorf("limit %d: %w", j, err)
		}
	}
	return nil
}

// validateLimit errs with what is wrong about a limit.
func validateLimit(u Unit, l *Limit) error {
	switch {
	case l.Max < 0 || l.Max > MaxAmount:
		return fmt.Errorf("max %d is not within 0 to %d", l.Max, int64(MaxAmount))
	case u == Concurrent && (l.Period != 0 || l.Calendar != nil):
		return fmt.Errorf("a limit of slots has a period of %s, it must have none", l.Period)
	case u == Concurrent:
		return nil
	case l.Calendar != nil && u == Requests:
		return fmt.Errorf("%s have no windows of the calendar, only tokens and usd have", u)
	case l.Calendar != nil && l.Period != l.Calendar.Longest():
		return fmt.Errorf("period %s is not the calendar's longest window, %s", l.Period, l.Calendar.Longest())
	}
	return validatePeriod(l.Period)
}

// validatePeriod errs if a period is out of bounds.
func validatePeriod(d time.Duration) error {
	switch {
	case d < MinPeriod || d > MaxPeriod:
		return fmt.Errorf("period %s is not within %s to %s", d, MinPeriod, MaxPeriod)
	case d%time.Microsecond != 0:
		return fmt.Errorf("period %s is not whole microseconds", d)
	}
	return nil
}

// validateHold errs with what is wrong about a request's hold.
func (r *Request) validateHold() error {
	h := r.Hold
	switch {
	case len(h.ID) < 1 || len(h.ID) > MaxHoldID:
		return fmt.Errorf("hold: the id has %d bytes, not 1 to %d", len(h.ID), MaxHoldID)
	case h.Lease < MinLease || h.Lease > MaxLease:
		return fmt.Errorf("hold: lease %s is not within %s to %s", h.Lease, MinLease, MaxLease)
	case h.Lease%time.Microsecond != 0:
		return fmt.Errorf("hold: lease %s is not whole microseconds", h.Lease)
	case h.USD < 0 || h.USD > MaxAmount:
		return fmt.Errorf("hold: %d nano-USD are not within 0 to %d", h.USD, int64(MaxAmount))
	case h.Tokens < 0 || h.Tokens > MaxAmount:
		return fmt.Errorf("hold: %d tokens are not within 0 to %d", h.Tokens, int64(MaxAmount))
	case len(r.Checks) == 0:
		return errors.New("hold: no check names the subject that is to keep it")
	case len(r.Checks) > MaxHeldChecks:
		return fmt.Errorf("hold: %d checks are more than %d", len(r.Checks), MaxHeldChecks)
	}
	return nil
}

// Validate errs with an ErrBad that names the first thing that is out of the contract's bounds. Every store asks it first.
func (st *Settlement) Validate() error {
	switch {
	case len(st.ID) < 1 || len(st.ID) > MaxHoldID:
		return fmt.Errorf("%w: settlement: the id has %d bytes, not 1 to %d", ErrBad, len(st.ID), MaxHoldID)
	case len(st.Parts) < 1 || len(st.Parts) > MaxHeldChecks:
		return fmt.Errorf("%w: settlement: %d parts are not 1 to %d", ErrBad, len(st.Parts), MaxHeldChecks)
	case st.USD < 0 || st.USD > MaxAmount:
		return fmt.Errorf("%w: settlement: %d nano-USD are not within 0 to %d", ErrBad, st.USD, int64(MaxAmount))
	case st.Tokens < 0 || st.Tokens > MaxAmount:
		return fmt.Errorf("%w: settlement: %d tokens are not within 0 to %d", ErrBad, st.Tokens, int64(MaxAmount))
	case st.Book < 0 || st.Book > MaxAmount:
		return fmt.Errorf("%w: settlement: it is to be booked at %d, which is not within 0 to %d", ErrBad, st.Book, int64(MaxAmount))
	case len(st.Memo) > MaxMemo:
		return fmt.Errorf("%w: settlement: the memo has %d bytes, at most %d are kept", ErrBad, len(st.Memo), MaxMemo)
	}
	for i := range st.Parts {
		p := &st.Parts[i]
		for j := range i {
			if st.Parts[j].Subject == p.Subject {
				return fmt.Errorf("%w: settlement: parts %d and %d (%.32q) name the same subject", ErrBad, j, i, p.Subject.Kind)
			}
		}
		for _, period := range []time.Duration{p.USD, p.Tokens} {
			if period == 0 {
				continue
			}
			if err := validatePeriod(period); err != nil {
				return fmt.Errorf("%w: settlement: part %d (%.32q): %w", ErrBad, i, p.Subject.Kind, err)
			}
		}
	}
	return nil
}
