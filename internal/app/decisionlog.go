package app

import (
	"os"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// startDecisionLog begins the decision log if the options say so.
func (a *App) startDecisionLog() {
	if a.opt.DecisionLog == telemetry.DecisionsOff || a.opt.DecisionLog == "" {
		return
	}
	out := a.opt.DecisionLogTo
	if out == nil {
		out = os.Stdout
	}
	a.decisions = telemetry.NewDecisionLog(telemetry.DecisionLogOptions{
		Which: a.opt.DecisionLog, IDs: a.opt.DecisionLogIDs, Key: a.opt.DecisionLogKey, Out: out,
	}, a.log, a.metrics.LostDecisions)
	a.push("write the decision log", a.decisions.Close)
}
