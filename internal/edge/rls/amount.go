package rls

import (
	"math"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// nanoPerUnit is the money that one unit of this protocol stands for: 1e-7 USD, in nano-USD. The protocol's numbers have
// 32 bits, so they end at 429 USD.
const nanoPerUnit = 100

// protocolAmount is an amount in the protocol's units: money is counted in 1e-7 USD, everything else as it is.
func protocolAmount(u store.Unit, amount int64) int64 {
	if u == store.USD {
		return amount / nanoPerUnit
	}
	return amount
}

// clamp32 fits n into 32 bits, saturating at both ends.
func clamp32(n int64) uint32 {
	return uint32(min(max(n, 0), math.MaxUint32))
}

// ceilSeconds is d in whole seconds, rounded up; 0 for nothing and less.
func ceilSeconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64((d-1)/time.Second) + 1
}
