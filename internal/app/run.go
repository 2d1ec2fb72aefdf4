package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// Run makes a daemon, serves, and obeys signals until it is to end: SIGHUP reloads the policy, any other signal stops,
// and one more cuts off what is still in flight. A daemon that is to stop says so by its health, answers on for the drain
// delay, and then has the shutdown timeout to answer what is in flight. Run errs when the daemon cannot start or a server
// ends by itself. It tunes the process's garbage collection, see TuneRuntime, and has OpenTelemetry's libraries tell their troubles
// to the log.
func Run(ctx context.Context, opt Options, log *telemetry.Log, signals <-chan os.Signal) error {
	if opt.Tracing != nil {
		telemetry.HearOpenTelemetry(log)
	}
	a, err := New(opt, log)
	if err != nil {
		return err
	}
	TuneRuntime(opt.MemoryLimit)
	if err := a.Start(ctx); err != nil {
		return err
	}
	return a.obey(ctx, signals)
}

// obey runs until a signal, the context or a failed server ends it.
func (a *App) obey(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				_ = a.Reload() // was logged and counted
				continue
			}
			a.log.Info("stopping", zap.Stringer(telemetry.FieldSignal, sig))
			return a.stopUnlessHurried(ctx, signals, a.opt.DrainDelay)
		case <-ctx.Done():
			return a.stopUnlessHurried(context.WithoutCancel(ctx), signals, a.opt.DrainDelay)
		case err := <-a.failed:
			a.log.Error("a server ended by itself", zap.Error(err))
			return errors.Join(err, a.stopUnlessHurried(ctx, signals, 0))
		}
	}
}

// stopUnlessHurried drains for the delay and stops within the shutdown timeout, or at once when one more signal comes.
func (a *App) stopUnlessHurried(ctx context.Context, signals <-chan os.Signal, delay time.Duration) error {
	ctx, hurry := context.WithCancel(ctx)
	defer hurry()
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		for {
			select {
			case sig := <-signals:
				if sig != syscall.SIGHUP {
					hurry()
					return
				}
			case <-stopped:
				return
			}
		}
	}()
	a.drain(ctx, delay)
	ctx, cancel := context.WithTimeout(ctx, a.opt.ShutdownTimeout)
	defer cancel()
	cut, err := a.stop(ctx)
	if cut != nil {
		a.log.Warn("stopped before all calls had ended", zap.Error(cut))
	}
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if cut == nil {
		a.log.Info("stopped")
	}
	return nil
}
