// Package harness starts the real processes that the tests and the benchmark work against: redis-server alone, as a
// Sentinel trio or as a three-master Cluster, Envoy with the shipped configuration, ratelimitd itself and a small
// upstream. Everything listens on free ports of 127.0.0.1 and is gone when the test is over, also when the test's
// own process was killed.
package harness

import (
	"context"
	"time"
)

// TB is what the harness needs of a test; *testing.T and *testing.B have it, and a program gets one from Run.
// Fatalf must not return.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Cleanup(f func())
	TempDir() string
}

// Patience is how long the harness waits for a condition before it calls it failed. It is no measure of speed: it
// holds on a slow, busy machine under the race detector.
const Patience = 60 * time.Second

// pollEvery is the pause between two looks at a condition that nobody announces.
const pollEvery = 5 * time.Millisecond

// WaitFor looks at a condition until it holds, and fails the test if it does not within Patience. The condition says
// what is missing as an error; its context ends with the wait. It runs on the test's own goroutine.
func WaitFor(t TB, what string, condition func(ctx context.Context) error) {
	t.Helper()
	if err := waitFor(condition, nil); err != nil {
		t.Fatalf("%s: not so within %s: %v", what, Patience, err)
	}
}

// waitFor polls a condition until it holds, Patience is over or stop is closed; then it returns the last error.
func waitFor(condition func(ctx context.Context) error, stop <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err // what the end of the wait itself causes says less than what came before
		}
		select {
		case <-stop:
			return last
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
	}
}
