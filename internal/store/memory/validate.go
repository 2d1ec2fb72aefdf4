package memory

import (
	"errors"
	"fmt"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// errBad is wrapped by the errors for requests that no policy makes.
var errBad = errors.New("memory store: bad request")

// validate errs, naming it, with the first thing that is out of the contract's bounds.
func validate(req *store.Request) error {
	for i := range req.Checks {
		if err := validateCheck(&req.Checks[i], req.Look || (req.Hold != nil && req.Hold.Slot)); err != nil {
			return fmt.Errorf("%w: check %d (%.32q): %w", errBad, i, req.Checks[i].Subject.Kind, err)
		}
	}
	if req.Hold != nil && !req.Look {
		if err := validateHold(req); err != nil {
			return fmt.Errorf("%w: %w", errBad, err)
		}
	}
	return nil
}

// validateRefund errs with the first thing that is out of the contract's bounds of a refund.
func validateRefund(req *store.Request) error {
	if req.At < 0 || req.At > store.MaxAmount {
		return fmt.Errorf("%w: a refund of the hits of the moment %d, which is not within 0 to %d", errBad, req.At, int64(store.MaxAmount))
	}
	for i := range req.Checks {
		if u := req.Checks[i].Unit; u != store.Requests {
			return fmt.Errorf("%w: check %d (%.32q): unit %s cannot be refunded, only requests can: settle or release a hold instead",
				errBad, i, req.Checks[i].Subject.Kind, u)
		}
	}
	return validate(req)
}

// validateCheck errs with what is wrong about a check. Only a request that takes a slot, or looks, may ask for one.
func validateCheck(c *store.Check, slot bool) error {
	most, limits := int64(store.MaxAmount), store.MaxLimits
	if c.Unit == store.Concurrent {
		most, limits = 0, 1
		if slot {
			most = 1
		}
	}
	switch {
	case c.Unit < store.Requests || c.Unit > store.Concurrent:
		return fmt.Errorf("unit %d is not known", c.Unit)
	case c.Amount < 0 || c.Amount > most:
		return fmt.Errorf("amount %d of %s is not within 0 to %d", c.Amount, c.Unit, most)
	case len(c.Limits) > limits:
		return fmt.Errorf("%d limits of %s, at most %d are allowed", len(c.Limits), c.Unit, limits)
	case c.Unit == store.Concurrent && c.Amount > 0 && len(c.Limits) == 0:
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
func validateLimit(u store.Unit, l *store.Limit) error {
	switch {
	case l.Max < 0 || l.Max > store.MaxAmount:
		return fmt.Errorf("max %d is not within 0 to %d", l.Max, int64(store.MaxAmount))
	case u == store.Concurrent && (l.Period != 0 || l.Calendar != nil):
		return fmt.Errorf("a limit of slots has a period of %s, it must have none", l.Period)
	case u == store.Concurrent:
		return nil
	case l.Calendar != nil && !holds(u):
		return fmt.Errorf("%s have no windows of the calendar, only tokens and usd have", u)
	case l.Calendar != nil && l.Period != l.Calendar.Longest():
		return fmt.Errorf("period %s is not the calendar's longest window, %s", l.Period, l.Calendar.Longest())
	}
	return validatePeriod(l.Period)
}

// validatePeriod errs if a period is out of bounds.
func validatePeriod(d time.Duration) error {
	switch {
	case d < store.MinPeriod || d > store.MaxPeriod:
		return fmt.Errorf("period %s is not within %s to %s", d, store.MinPeriod, store.MaxPeriod)
	case d%time.Microsecond != 0:
		return fmt.Errorf("period %s is not whole microseconds", d)
	}
	return nil
}

// validateHold errs with what is wrong about a request's hold.
func validateHold(req *store.Request) error {
	h := req.Hold
	switch {
	case len(h.ID) < 1 || len(h.ID) > store.MaxHoldID:
		return fmt.Errorf("hold: the id has %d bytes, not 1 to %d", len(h.ID), store.MaxHoldID)
	case h.Lease < store.MinLease || h.Lease > store.MaxLease:
		return fmt.Errorf("hold: lease %s is not within %s to %s", h.Lease, store.MinLease, store.MaxLease)
	case h.Lease%time.Microsecond != 0:
		return fmt.Errorf("hold: lease %s is not whole microseconds", h.Lease)
	case h.USD < 0 || h.USD > store.MaxAmount:
		return fmt.Errorf("hold: %d nano-USD are not within 0 to %d", h.USD, int64(store.MaxAmount))
	case h.Tokens < 0 || h.Tokens > store.MaxAmount:
		return fmt.Errorf("hold: %d tokens are not within 0 to %d", h.Tokens, int64(store.MaxAmount))
	case len(req.Checks) == 0:
		return errors.New("hold: no check names the subject that is to keep it")
	}
	return nil
}

// maxParts is how many subjects a settlement may name: a check of each was in one request.
const maxParts = 64

// validateSettlement errs, naming it, with the first thing that is out of the contract's bounds.
func validateSettlement(st *store.Settlement) error {
	switch {
	case len(st.ID) < 1 || len(st.ID) > store.MaxHoldID:
		return fmt.Errorf("%w: settlement: the id has %d bytes, not 1 to %d", errBad, len(st.ID), store.MaxHoldID)
	case len(st.Parts) < 1 || len(st.Parts) > maxParts:
		return fmt.Errorf("%w: settlement: %d parts are not 1 to %d", errBad, len(st.Parts), maxParts)
	case st.USD < 0 || st.USD > store.MaxAmount:
		return fmt.Errorf("%w: settlement: %d nano-USD are not within 0 to %d", errBad, st.USD, int64(store.MaxAmount))
	case st.Tokens < 0 || st.Tokens > store.MaxAmount:
		return fmt.Errorf("%w: settlement: %d tokens are not within 0 to %d", errBad, st.Tokens, int64(store.MaxAmount))
	case st.Book < 0:
		return fmt.Errorf("%w: settlement: it is to be booked at %d, before 1970", errBad, st.Book)
	case len(st.Memo) > store.MaxMemo:
		return fmt.Errorf("%w: settlement: the memo has %d bytes, at most %d are kept", errBad, len(st.Memo), store.MaxMemo)
	}
	for i := range st.Parts {
		p := &st.Parts[i]
		for j := range i {
			if st.Parts[j].Subject == p.Subject {
				return fmt.Errorf("%w: settlement: parts %d and %d (%.32q) name the same subject", errBad, j, i, p.Subject.Kind)
			}
		}
		for _, period := range []time.Duration{p.USD, p.Tokens} {
			if period == 0 {
				continue
			}
			if err := validatePeriod(period); err != nil {
				return fmt.Errorf("%w: settlement: part %d (%.32q): %w", errBad, i, p.Subject.Kind, err)
			}
		}
	}
	return nil
}
