package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine is where and when a run took place.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Redis  string `json:"redis"`
	Date   string `json:"date"`
}

// describeMachine reads what it can; what cannot be read is "unknown".
func describeMachine(ctx context.Context) machine {
	m := machine{
		CPU: "unknown", Cores: runtime.NumCPU(), Kernel: "unknown", Go: runtime.Version(), Redis: "unknown",
		Date: time.Now().UTC().Format(time.DateOnly),
	}

	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)

				break
			}
		}
	}

	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}

	if text, err := exec.CommandContext(ctx, "redis-server", "--version").Output(); err == nil {
		for word := range strings.FieldsSeq(string(text)) {
			if version, ok := strings.CutPrefix(word, "v="); ok {
				m.Redis = version
			}
		}
	}

	return m
}

// String is the machine in one line.
func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, Linux %s, %s, redis-server %s, %s", m.CPU, m.Cores, m.Kernel, m.Go, m.Redis, m.Date)
}
