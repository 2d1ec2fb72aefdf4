package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// usageTimeout bounds a question about usage, which no request waits for.
const usageTimeout = time.Second

// LimitUsage is one limit of a subject as it stands.
type LimitUsage struct {
	Limit  policy.Limit
	Used   int64
	Resets time.Time // when the oldest live hit leaves; the zero time if none is live
}

// TierUsage is all limits of one subject as they stand.
type TierUsage struct {
	Tier, ID, Plan        string
	Requests, Tokens, USD []LimitUsage
	Concurrent            *LimitUsage // nil if the tier bounds no concurrency
}

// Usage reads the usage of the user with this id and of the global tier. It changes nothing. It errs when the store cannot
// be asked.
func (e *Engine) Usage(ctx context.Context, userID string) (user, global TierUsage, err error) {
	snapshot := e.opt.Policy()
	for range maxRestarts {
		users, globals := TierUsage{Tier: snapshot.UserTier(), ID: userID}, TierUsage{Tier: policy.GlobalTier}
		again, err := e.read(ctx, snapshot, &users, &globals)
		if err != nil {
			return TierUsage{}, TierUsage{}, fmt.Errorf("reading usage: %w", err)
		}
		if !again {
			return users, globals, nil
		}
	}
	return TierUsage{}, TierUsage{}, fmt.Errorf("reading usage: %w: the override changed meanwhile", store.ErrUnavailable)
}

// part is where the states of one check of a reading belong.
type part struct {
	limits []policy.Limit
	to     *[]LimitUsage
}

// read fills the tiers by one question of amount 0. It asks for another try when an override was not the one known.
func (e *Engine) read(ctx context.Context, snapshot *policy.Snapshot, tiers ...*TierUsage) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	var (
		checks []policy.Check
		parts  []part
	)
	for _, t := range tiers {
		subject := store.Subject{Kind: t.Tier, ID: t.ID}
		version, override := e.overrides.known(snapshot, subject)
		limits := snapshot.SubjectLimits(subject, "", override)
		t.Plan = limits.Plan
		if limits.Concurrent != nil {
			t.Concurrent = &LimitUsage{Limit: *limits.Concurrent}
		}
		add := func(unit store.Unit, named []policy.Limit, asked []store.Limit, to *[]LimitUsage) {
			if len(asked) == 0 {
				return
			}
			checks = append(checks, policy.Check{
				Check: store.Check{Subject: subject, Unit: unit, Limits: asked, Override: version}, Tier: t.Tier,
			})
			parts = append(parts, part{limits: named, to: to})
		}
		add(store.Requests, limits.Requests, limits.StoreRequests, &t.Requests)
		add(store.Tokens, limits.Tokens, limits.StoreTokens, &t.Tokens)
		add(store.USD, limits.USD, limits.StoreUSD, &t.USD)
	}
	if len(checks) == 0 {
		return false, nil
	}
	sc := scratch{}
	sc.ask(checks, time.Now().Add(usageTimeout))
	if err := e.opt.Store.Admit(ctx, &sc.request, &sc.answer); err != nil {
		return false, fmt.Errorf("asking the store: %w", err)
	}
	if e.stale(snapshot, sc.answer.Stale, checks) {
		return true, nil
	}
	now := time.UnixMicro(sc.answer.Now)
	next := 0
	for _, p := range parts {
		for i := range p.limits {
			state := sc.answer.States[next]
			u := LimitUsage{Limit: p.limits[i], Used: state.Used}
			if state.Reset > 0 {
				u.Resets = now.Add(state.Reset)
			}
			*p.to = append(*p.to, u)
			next++
		}
	}
	return false, nil
}

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
