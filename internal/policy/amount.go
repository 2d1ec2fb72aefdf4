package policy

import (
	"strconv"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// FormatAmount writes an amount of a unit as a number that is valid JSON too: money, given in nano-USD, in USD with all its
// digits, everything else as it is.
func FormatAmount(unit store.Unit, amount int64) string {
	if unit == store.USD {
		return budget.FormatMoney(amount)
	}
	return strconv.FormatInt(amount, 10)
}
