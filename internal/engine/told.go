package engine

import (
	"context"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
)

// told reports a decision that its caller is about to hear: on the call, with the checks that it made, none while rate limiting is
// switched off, and since when. It keeps nothing of them.
func (e *Engine) told(_ context.Context, _ *policy.Call, _ []policy.Check, dec *Decision, _ time.Time) {
	e.counters.count(dec)
}
