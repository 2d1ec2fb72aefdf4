package engine

import (
	"context"
	"fmt"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// abandon releases what a call by the rate limit API holds whose caller has gone before it was answered: it has no token to end
// the hold with, and Envoy has forwarded nothing, or without an answer of ours. The store may have taken the hold all the
// same, or may still take it, so the release comes a moment later, in the background; a hold that comes after it ends by its
// lease. It returns ctx's error.
func (e *Engine) abandon(ctx context.Context, sc *scratch, t *token) error {
	err := fmt.Errorf("deciding: %w", context.Cause(ctx))
	if t != nil {
		e.releaseLater(sc)
	}
	return err
}

// releaseLater releases, a moment later and in the background, the hold of a call that was not admitted as far as its caller
// knows, though the store may have taken the hold, or may still take it. It is not for a hold that the caller can ask for again.
func (e *Engine) releaseLater(sc *scratch) {
	if len(sc.resolution.Admit) == 0 {
		return
	}
	e.ends.release(e, &ending{model: sc.model, untold: true, Settlement: store.Settlement{
		Parts: partsOf(sc.resolution.Admit), ID: sc.hold.ID, Fingerprint: releasePrint, Release: true,
	}})
}
