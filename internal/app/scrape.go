package app

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/store/memory"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// gather collects the metrics, after those that are only read when they are asked for.
func (a *App) gather() ([]*dto.MetricFamily, error) {
	if s, ok := a.store.(*memory.Store); ok {
		a.metrics.Subjects.Set(float64(s.Stats().Subjects))
	}
	families, err := a.reg.Gather()
	if err != nil {
		return families, fmt.Errorf("collect the metrics: %w", err)
	}
	return families, nil
}

// evicted hears of a subject that the embedded store dropped.
func (a *App) evicted(early bool) {
	if early {
		a.metrics.EvictedEarly.Inc()
		return
	}
	a.metrics.Evicted.Inc()
}

// lapsed hears of leases that the store found over, and the nano-USD that they leave charged.
func (a *App) lapsed(leases int, usd int64) {
	a.metrics.LeaseExpiries.Add(float64(leases))
	a.metrics.LapsedUSD.Add(float64(usd) / budget.NanoPerUSD)
}

// trips is told of the engine's trips to the store, if the store does not tell of them itself.
func (a *App) trips() prometheus.Observer {
	if a.opt.Store == StoreMemory {
		return a.metrics.Stage(telemetry.StageStore)
	}
	return nil
}
