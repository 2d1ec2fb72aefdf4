package app

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/redis"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// Redis is asked about its memory as often as this, and sooner while it has not said.
const (
	memoryEvery = 10 * time.Second
	memoryRetry = probeEvery
	// memoryTimeout bounds one question; no call waits for it.
	memoryTimeout = time.Second
)

// memoryWatch keeps the metrics of Redis's memory, and warns while Redis may evict keys. It is one goroutine's.
type memoryWatch struct {
	ask     func(context.Context) (redis.Memory, error)
	metrics *telemetry.RedisMemory
	log     *telemetry.Log

	policy string // that was last told of; empty before the first
	mute   bool   // it was said that Redis does not say
}

// watchMemory watches the memory of Redis until ctx ends. With the embedded store there is none to watch.
func (a *App) watchMemory(ctx context.Context) {
	s, ok := a.store.(*redis.Store)
	if !ok {
		return
	}
	w := &memoryWatch{ask: s.Memory, metrics: a.metrics.Redis, log: a.log}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(w.look(ctx))
		}
	}
}

// look asks once, and returns when to ask again.
func (w *memoryWatch) look(ctx context.Context) time.Duration {
	asking, cancel := context.WithTimeout(ctx, memoryTimeout)
	defer cancel()
	memory, err := w.ask(asking)
	switch {
	case err != nil && ctx.Err() == nil:
		w.untold(err)
		return memoryRetry
	case err != nil:
		return memoryRetry
	}
	w.mute = false
	w.metrics.Set(memory.Used, memory.Max, memory.MayEvict())
	w.tell(memory)
	return memoryEvery
}

// tell says what is wrong with the policy of evictions, and once it is right again, that.
func (w *memoryWatch) tell(memory redis.Memory) {
	before := w.policy
	w.policy = memory.Policy
	switch {
	case before == memory.Policy:
	case memory.MayEvict():
		w.log.Warn("Redis may evict keys when its memory is full: usage and reservations would be forgotten, and more admitted than the "+
			"limits say; run CONFIG SET maxmemory-policy noeviction, and write it into the configuration of every Redis server",
			zap.String(telemetry.FieldEviction, memory.Policy), zap.Int64(telemetry.FieldMaxMemory, memory.Max))
	case before != "":
		w.log.Info("Redis no longer evicts keys", zap.String(telemetry.FieldEviction, memory.Policy))
	}
}

// untold takes note that Redis has not said. That it is away is the probe's to tell.
func (w *memoryWatch) untold(err error) {
	w.metrics.Unknown()
	if w.mute || errors.Is(err, store.ErrUnavailable) {
		return
	}
	w.mute = true
	w.log.Warn("Redis does not say how much memory it uses, nor whether it may evict keys: those metrics are absent", zap.Error(err))
}
