package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// SetOverride gives a subject a plan or limits of its own; see policy.Snapshot.ParseOverride for the value. An empty value
// removes it. It errs with ErrBadCall for a subject kind that the policy does not know or a value that does not parse.
func (e *Engine) SetOverride(ctx context.Context, s store.Subject, value string) (int64, error) {
	snapshot := e.opt.Policy()
	if err := knownKind(snapshot, s.Kind); err != nil {
		return 0, err
	}
	if value != "" {
		if _, err := snapshot.ParseOverride(s.Kind, value); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrBadCall, err)
		}
	}
	version, err := e.opt.Store.SetOverride(ctx, s, value)
	if err != nil {
		return 0, fmt.Errorf("setting an override: %w", err)
	}
	return version, nil
}

// Override returns a subject's stored override and its version; 0 and "" if there is none.
func (e *Engine) Override(ctx context.Context, s store.Subject) (version int64, value string, err error) {
	if err := knownKind(e.opt.Policy(), s.Kind); err != nil {
		return 0, "", err
	}
	version, value, err = e.opt.Store.Override(ctx, s)
	if err != nil {
		return 0, "", fmt.Errorf("reading an override: %w", err)
	}
	return version, value, nil
}

// Reset forgets a subject's hits; its override stays.
func (e *Engine) Reset(ctx context.Context, s store.Subject) error {
	if err := knownKind(e.opt.Policy(), s.Kind); err != nil {
		return err
	}
	if err := e.opt.Store.Reset(ctx, s); err != nil {
		return fmt.Errorf("resetting a subject: %w", err)
	}
	return nil
}

func knownKind(snapshot *policy.Snapshot, kind string) error {
	tiers := snapshot.Tiers()
	if slices.Contains(tiers, kind) {
		return nil
	}
	return fmt.Errorf("%w: the policy has no tier %q; it has %q", ErrBadCall, kind, tiers)
}
