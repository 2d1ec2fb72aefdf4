package app

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// loadPolicy reads the first policy. There is none to fall back on, so a bad one is an error.
func (a *App) loadPolicy() error {
	source, err := policy.NewSource(a.opt.Policy, a.opt.Adjust, a.reloaded)
	if err != nil {
		a.metrics.PolicyRejected()
		return fmt.Errorf("--policy (RATELIMITD_POLICY) %s:\n%w", a.opt.Policy, err)
	}
	a.policy = source
	a.metrics.PolicyLoaded(source.Current().Hash(), source.Current().Tiers(), time.Now())
	a.warn(source.Warnings())
	return nil
}

// reloaded tells how a reload ended.
func (a *App) reloaded(snapshot *policy.Snapshot, warnings []policy.Warning, err error) {
	if err != nil {
		a.metrics.PolicyRejected()
		a.log.Error("the new policy is refused; the old one stays in force",
			zap.String(telemetry.FieldPolicy, a.opt.Policy), zap.Error(err))
		return
	}
	a.metrics.PolicyLoaded(snapshot.Hash(), snapshot.Tiers(), time.Now())
	a.log.Info("a new policy is in force",
		zap.String(telemetry.FieldPolicy, a.opt.Policy), zap.String(telemetry.FieldHash, snapshot.Hash()))
	a.warn(warnings)
}

func (a *App) warn(warnings []policy.Warning) {
	for _, w := range warnings {
		a.log.Warn("the policy holds what cannot be meant", zap.Stringer(telemetry.FieldWarning, w))
	}
}

// Reload reads the policy again. If it errs, the old policy is still in force.
func (a *App) Reload() error {
	if err := a.policy.Reload(); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}
