package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// openLoop starts calls at fixed moments, whether earlier ones have been answered or not, and measures each from the
// moment at which it was meant to start. A server that stalls thus pays for every call that it kept waiting, and so does
// a load generator that is late.
func (g *generator) openLoop(length time.Duration) (time.Duration, error) {
	interval := time.Second / time.Duration(g.job.Rate)

	tick, err := newTicker(interval)
	if err != nil {
		return 0, err
	}
	defer tick.Close() // a timer has nothing to lose

	due := make(chan time.Time, g.job.Rate) // one second of calls may wait for a caller
	failed := make(chan error, 1)
	started := time.Now()

	go func() {
		defer close(due)

		failed <- pace(tick, started, interval, length, due)
	}()

	g.each(func(_ int, c *caller) {
		for intended := range due {
			late := time.Since(intended)
			c.call(g.users[c.rand.IntN(len(g.users))])
			c.samples = append(c.samples, time.Since(intended))
			c.late = append(c.late, late)
		}
	})

	return time.Since(started), <-failed
}

// pace sends the moment of each call when it has come.
func pace(tick *os.File, started time.Time, interval, length time.Duration, due chan<- time.Time) error {
	var expirations [8]byte

	for sent := time.Duration(0); sent < length; {
		for passed := time.Since(started); sent <= passed && sent < length; sent += interval {
			due <- started.Add(sent)
		}

		if _, err := tick.Read(expirations[:]); err != nil {
			return fmt.Errorf("pace the open loop: %w", err)
		}
	}

	return nil
}

// newTicker returns a kernel timer that becomes readable at each interval. The runtime's own timers are only good to a
// millisecond in a process that is idle in between; this one wakes the network poller like a packet would.
func newTicker(interval time.Duration) (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}

	every := unix.NsecToTimespec(int64(interval))
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return nil, fmt.Errorf("set a timer: %w", err)
	}

	return os.NewFile(uintptr(fd), "timer"), nil
}
