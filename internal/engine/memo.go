package engine

import (
	"encoding/binary"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// memo is what a receipt says beyond the store's own numbers. It is kept with the settlement, so that a repeat has the first
// answer, whatever the prices are by then. Its bytes: version, flags, and as unsigned varints the parts of the breakdown in their
// order and what was saved.
type memo struct {
	flags     memoFlags
	breakdown budget.Breakdown // Total is the store's number
	saved     int64
}

// memoFlags are the warnings of a receipt. Their values are part of the stored format.
type memoFlags byte

const (
	usageUnknown   memoFlags = 1 << iota // the policy said what to charge
	priceUnknown                         // the model has no price: what was held is charged, or nothing without a hold
	priceByDefault                       // the model has no price: the default one was taken
)

const memoVersion = 1

func (m *memo) encode() []byte {
	b := append(make([]byte, 0, 32), memoVersion, byte(m.flags))
	for _, n := range []int64{
		m.breakdown.Input, m.breakdown.CacheRead, m.breakdown.CacheWrite, m.breakdown.Output, m.breakdown.Reasoning, m.saved,
	} {
		b = appendNumber(b, n)
	}
	return b
}

// parseMemo reads a memo. One of another version, or none at all, says nothing.
func parseMemo(b []byte) memo {
	var m memo
	if len(b) < 2 || b[0] != memoVersion {
		return m
	}
	m.flags = memoFlags(b[1])
	rest := b[2:]
	for _, to := range []*int64{
		&m.breakdown.Input, &m.breakdown.CacheRead, &m.breakdown.CacheWrite, &m.breakdown.Output, &m.breakdown.Reasoning, &m.saved,
	} {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > store.MaxAmount {
			return memo{}
		}
		*to, rest = int64(n), rest[size:]
	}
	return m
}

// warnings are the flags as a caller reads them.
func (m *memo) warnings() []Warning {
	var warnings []Warning
	if m.flags&usageUnknown != 0 {
		warnings = append(warnings, Warning{
			Code: WarnUsageUnknown, Text: "no usage was reported: the policy's on_unknown_usage says what was charged",
		})
	}
	if m.flags&priceUnknown != 0 {
		warnings = append(warnings, Warning{
			Code: WarnPriceUnknown, Text: "the model that ran has no price: what was held is charged; without a reservation, nothing",
		})
	}
	if m.flags&priceByDefault != 0 {
		warnings = append(warnings, Warning{
			Code: WarnPriceUnknown, Text: "the model that ran has no price: the default price is charged",
		})
	}
	return warnings
}
