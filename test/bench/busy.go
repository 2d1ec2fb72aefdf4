package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// busy is the CPU time that all cores together have spent on work, and altogether, since the machine's start. Time that
// the hypervisor gave to others counts as work.
type busy struct{ work, all time.Duration }

// machineBusy reads how busy the machine has been.
func machineBusy() (busy, error) {
	const idle, ioWait, steal = 3, 4, 7 // see proc_stat(5); what follows is contained in what stands before

	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return busy{}, fmt.Errorf("CPU time of the machine: %w", err)
	}

	first, _, _ := strings.Cut(string(text), "\n")

	var b busy

	for i, field := range strings.Fields(strings.TrimPrefix(first, "cpu")) {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return busy{}, fmt.Errorf("CPU time of the machine: %w", err)
		}

		spent := time.Duration(ticks) * time.Second / ticksPerSecond

		if i <= steal {
			b.all += spent
		}

		if i <= steal && i != idle && i != ioWait {
			b.work += spent
		}
	}

	return b, nil
}

// others is the share of the machine, since an earlier moment, that went to work other than ours.
func (b busy) others(earlier busy, ours time.Duration) float64 {
	return max(float64(b.work-earlier.work-ours)/float64(max(b.all-earlier.all, 1)), 0)
}
