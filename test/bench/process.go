package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	readyWithin = 15 * time.Second
	stopWithin  = 10 * time.Second
	pollEvery   = 10 * time.Millisecond
	logTail     = 4096
	// ticksPerSecond is the unit of CPU times under /proc (USER_HZ), which is 100 on every Linux platform of Go.
	ticksPerSecond = 100
)

// process is a child that serves until it is stopped.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser // kept open: roles of this program end when it closes, even if their parent is killed
	log   *tail
	ended chan struct{}
}

// start runs a program and waits until it accepts connections on addr.
func start(ctx context.Context, name, addr string, env []string, path string, args ...string) (*process, error) {
	p := &process{name: name, log: &tail{}, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, path, args...) //nolint:gosec // the programs are our own and redis-server
	p.cmd.Env = append(environment(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}

	p.stdin = stdin

	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}

	go func() {
		_ = p.cmd.Wait() // how it ended matters only to awaitReady, which shows its output
		close(p.ended)
	}()

	if err := p.awaitReady(ctx, addr); err != nil {
		p.stop()

		return nil, err
	}

	return p, nil
}

// awaitReady waits until the process accepts connections.
func (p *process) awaitReady(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()

	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close() //nolint:wrapcheck // cannot fail on a fresh connection
		}

		select {
		case <-time.After(pollEvery):
		case <-p.ended:
			return fmt.Errorf("%s ended before it listened on %s; it said:\n%s", p.name, addr, p.log)
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s after %v; it said:\n%s", p.name, addr, readyWithin, p.log)
		}
	}
}

// stop ends the process, kindly at first.
func (p *process) stop() {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)

	select {
	case <-p.ended:
	case <-time.After(stopWithin):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// cpu is the CPU time that the process has used, to 10 ms.
func (p *process) cpu() (time.Duration, error) {
	const userTime, systemTime = 11, 12 // fields after the name's closing parenthesis, see proc_pid_stat(5)

	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("CPU time of %s: %w", p.name, err)
	}

	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) <= systemTime {
		return 0, fmt.Errorf("CPU time of %s: /proc/PID/stat is too short", p.name)
	}

	user, errUser := strconv.ParseInt(fields[userTime], 10, 64)
	system, errSystem := strconv.ParseInt(fields[systemTime], 10, 64)

	if err := errors.Join(errUser, errSystem); err != nil {
		return 0, fmt.Errorf("CPU time of %s: %w", p.name, err)
	}

	return time.Duration(user+system) * time.Second / ticksPerSecond, nil
}

// freeAddr returns a loopback address with a port that was free a moment ago.
func freeAddr(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}

	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}

	return addr, nil
}

// tail keeps the end of what a process says.
type tail struct {
	mu   sync.Mutex
	last []byte
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.last = append(t.last, b...)
	if over := len(t.last) - logTail; over > 0 {
		t.last = t.last[over:]
	}

	return len(b), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()

	return string(t.last)
}
