package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/app"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// daemonJob is what the in-process ratelimitd of a profiling run is asked to be.
type daemonJob struct {
	Policy  string        `json:"policy"`
	Redis   string        `json:"redis"` // its address; empty for the embedded store
	GRPC    string        `json:"grpc"`
	HTTP    string        `json:"http"`
	Timeout time.Duration `json:"timeout"`
	Profile string        `json:"profile"` // file for the CPU profile
}

// runDaemon is a process that runs ratelimitd from its packages and writes a CPU profile of it, which the daemon itself
// offers no way to do. It ends with the context.
func runDaemon(ctx context.Context, work string) error {
	var j daemonJob
	if err := json.Unmarshal([]byte(work), &j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}

	opt := app.DefaultOptions()
	opt.Policy, opt.GRPCAddrs, opt.HTTPAddr, opt.DecisionTimeout = j.Policy, []string{j.GRPC}, j.HTTP, j.Timeout

	if j.Redis != "" {
		opt.Store, opt.Redis.Addrs = app.StoreRedis, []string{j.Redis}
	}

	file, err := os.Create(j.Profile)
	if err != nil {
		return fmt.Errorf("create the profile: %w", err)
	}

	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(fmt.Errorf("start the profile: %w", err), file.Close())
	}

	err = app.Run(ctx, opt, telemetry.NopLog(), nil)

	pprof.StopCPUProfile()

	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("run ratelimitd: %w", err)
	}

	return nil
}
