package engine

import (
	"strconv"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Denial is why a limit denies.
type Denial struct {
	Reason    Reason
	Tier, ID  string
	Limit     policy.Limit
	Used      int64         // of the limit's unit; held included
	Asked     int64         // of the limit's unit
	Wait      time.Duration // until it would fit if nothing else is admitted; store.Never if it cannot
	RetryIn   time.Duration // when to try again: the wait, or for a slot, which may be free at any time, a moment
	Available time.Time     // when the wait is over; zero if never
}

// slotRetry is when to ask for a slot again: one may be free at any time.
const slotRetry = time.Second

// denial tells which limit denies the call: the enforced one with the longest wait. It is nil if none does. now is the moment
// that waits count from.
func (sc *scratch) denial(now time.Time) *Denial {
	worst := -1
	for i, r := range sc.results {
		if r.denied && (worst < 0 || r.state.Wait > sc.results[worst].state.Wait) {
			worst = i
		}
	}
	if worst < 0 {
		return nil
	}
	check, r := &sc.resolution.Admit[worst], sc.results[worst]
	d := &Denial{
		Tier: check.Tier, ID: check.Subject.ID, Limit: check.Named[r.limit],
		Used: r.state.Used, Asked: max(check.Amount, 1), Wait: r.state.Wait, RetryIn: r.state.Wait,
	}
	d.Reason = reasonOf(d)
	switch {
	case d.Wait == store.Never:
		d.RetryIn = 0
	case d.Limit.Unit == store.Concurrent:
		d.RetryIn = slotRetry
		d.Available = now.Add(d.Wait)
	default:
		d.Available = now.Add(d.Wait)
	}
	return d
}

// answered is the moment that the waits of the call's answer count from.
func (sc *scratch) answered(from heard) time.Time {
	if from == fromStore {
		return time.UnixMicro(sc.answer.Now)
	}
	return time.Now()
}

func reasonOf(d *Denial) Reason {
	switch d.Limit.Unit {
	case store.Concurrent:
		return ConcurrencyLimit
	case store.Tokens:
		return TokenLimit
	case store.USD:
		switch {
		case d.Wait == store.Never:
			return RequestTooExpensive
		case d.Tier == policy.GlobalTier:
			return GlobalBudgetExhausted
		default:
			return UserBudgetExhausted
		}
	case store.Requests:
		return RateLimited
	default:
		return RateLimited
	}
}

// failure is a denial as an error.
func (d *Denial) failure() *CostError {
	return &CostError{Reason: d.Reason, Text: d.text(), Denial: d}
}

// text says which limit denies, and when to come back.
func (d *Denial) text() string {
	limit := "the limit of " + d.Limit.Describe() + " of tier " + d.Tier
	if d.Wait == store.Never {
		return d.neverText(limit)
	}
	back := RoundUp(d.Available, time.Second).Format(time.RFC3339)
	switch d.Limit.Unit {
	case store.USD:
		return limit + " does not have the " + budget.FormatMoney(d.Asked) + " USD that the call may cost; it is back at " + back +
			", and unless reserved money is given back, retrying before that is useless"
	case store.Tokens:
		return limit + " has no room for " + strconv.FormatInt(d.Asked, 10) + " tokens until " + back
	case store.Concurrent:
		return "all slots of " + limit + " are in use; try again in a second, or reserve with a wait_timeout"
	case store.Requests:
		return limit + " is used up until " + back
	default:
		return limit + " is used up until " + back
	}
}

// neverText says why a call can never pass.
func (d *Denial) neverText(limit string) string {
	switch d.Limit.Unit {
	case store.USD:
		return "the call may cost " + budget.FormatMoney(d.Asked) + " USD, more than " + limit +
			" in all, so that it can never pass; ask for fewer tokens"
	case store.Tokens:
		return "the call may use " + strconv.FormatInt(d.Asked, 10) + " tokens, more than " + limit +
			" in all, so that it can never pass; ask for fewer"
	case store.Requests, store.Concurrent:
		return limit + " admits no call"
	default:
		return limit + " admits no call"
	}
}
