package harness

import (
	"context"
	"syscall"
)

// Program is any program that a test needs, found as a path or on PATH.
type Program struct {
	Name  string // what messages and the log's file call it
	Path  string
	Args  []string
	Env   []string                        // NAME=value, added to the environment of the test
	Ready func(ctx context.Context) error // nil once it can be used
}

// RunningProgram is one that was started.
type RunningProgram struct{ proc *process }

// Start runs a program and returns when it is ready. It ends with the test, with all that it has started itself.
func Start(t TB, p Program) *RunningProgram {
	t.Helper()
	proc := &process{t: t, name: p.Name, path: p.Path, args: p.Args, env: p.Env, ready: p.Ready}
	proc.register()
	proc.start()
	return &RunningProgram{proc}
}

// Stop asks the program to end, waits for it, and returns how: nil for status 0.
func (p *RunningProgram) Stop() error {
	p.proc.t.Helper()
	return p.proc.stop()
}

// Signal sends it a signal.
func (p *RunningProgram) Signal(sig syscall.Signal) { p.proc.signal(sig) }

// Wait waits until the program ends and returns how: nil for status 0.
func (p *RunningProgram) Wait() error {
	p.proc.t.Helper()
	return p.proc.wait()
}

// Log returns all that it has written.
func (p *RunningProgram) Log() string {
	p.proc.t.Helper()
	return p.proc.log()
}
