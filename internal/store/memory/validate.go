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
		c := &req.Checks[i]
		switch {
		case c.Unit < store.Requests || c.Unit > store.USD:
			return fmt.Errorf("%w: check %d (%.32q): unit %d has no windows", errBad, i, c.Subject.Kind, c.Unit)
		case c.Amount < 0 || c.Amount > store.MaxAmount:
			return fmt.Errorf("%w: check %d (%.32q): amount %d is not within 0 to %d",
				errBad, i, c.Subject.Kind, c.Amount, int64(store.MaxAmount))
		case len(c.Limits) > store.MaxLimits:
			return fmt.Errorf("%w: check %d (%.32q): %d limits, at most %d are allowed",
				errBad, i, c.Subject.Kind, len(c.Limits), store.MaxLimits)
		}
		for j := range c.Limits {
			if err := validateLimit(&c.Limits[j]); err != nil {
				return fmt.Errorf("%w: check %d (%.32q), limit %d: %w", errBad, i, c.Subject.Kind, j, err)
			}
		}
	}
	return nil
}

// validateLimit errs with what is wrong about a limit.
func validateLimit(l *store.Limit) error {
	switch {
	case l.Max < 0 || l.Max > store.MaxAmount:
		return fmt.Errorf("max %d is not within 0 to %d", l.Max, int64(store.MaxAmount))
	case l.Period < store.MinPeriod || l.Period > store.MaxPeriod:
		return fmt.Errorf("period %s is not within %s to %s", l.Period, store.MinPeriod, store.MaxPeriod)
	case l.Period%time.Microsecond != 0:
		return fmt.Errorf("period %s is not whole microseconds", l.Period)
	}
	return nil
}
