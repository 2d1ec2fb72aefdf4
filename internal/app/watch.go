package app

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// probeEvery is how often the store is asked whether it answers, so that its metric is true without calls.
const probeEvery = 2 * time.Second

// watch follows the policy's file and the store's state until the daemon stops.
func (a *App) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := a.policy.Watch(ctx); err != nil {
			a.log.Error("the policy's file is not watched: send SIGHUP after a change", zap.Error(err))
		}
	})
	running.Go(func() { a.probe(ctx) })
	running.Go(func() { a.watchMemory(ctx) })
	a.push("end the watches", func(context.Context) error {
		cancel()
		running.Wait()
		return nil
	})
}

// probe asks the store now and then whether it answers, and logs when that changes.
func (a *App) probe(ctx context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	up := true
	for {
		err := a.engine.StoreErr(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && up:
			a.log.Error("the store does not answer: on_store_failure of the policy does", zap.Error(err))
		case err == nil && !up:
			a.log.Info("the store answers again")
		}
		up = err == nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
