package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// tailBytes is how much of a process's log a failed test prints.
const tailBytes = 8 << 10

// process is a program that runs for a test and can be started again with the same arguments. Its output goes to a
// file of the test's temporary folder; a failed test prints the end of it.
type process struct {
	t       TB
	name    string
	path    string
	args    []string
	env     []string // added to the environment of the test
	bare    bool     // env is the whole environment
	logPath string
	ready   func(ctx context.Context) error

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd was waited for
	err    error         // cmd.Wait's, once exited is closed
}

// register names the log and sees to the process's end when the test is over. It does not start it.
func (p *process) register() {
	p.logPath = filepath.Join(p.t.TempDir(), strings.ReplaceAll(p.name, " ", "-")+".log")
	p.t.Cleanup(func() {
		p.kill()
		if p.t.Failed() {
			p.t.Logf("the end of the log of %s:\n%s", p.name, p.tail())
		}
	})
}

// start runs the program and waits until it is ready.
func (p *process) start() {
	p.t.Helper()
	if err := p.launch(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	if err := waitFor(p.ready, p.gone()); err != nil {
		p.t.Fatalf("%s did not become ready: %v; its log ends:\n%s", p.name, err, p.tail())
	}
}

// launch runs the program and does not wait.
func (p *process) launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		select {
		case <-p.exited:
		default:
			return errors.New("it already runs")
		}
	}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open its log: %w", err)
	}
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = filepath.Dir(p.logPath)
	cmd.Env = p.env
	if !p.bare {
		cmd.Env = append(os.Environ(), p.env...)
	}
	cmd.SysProcAttr = childAttr()
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		// The kernel takes the thread that started a child for its parent: keep the thread as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer func() { _ = log.Close() }() // written to by the child only
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("run %s: %w", p.path, err)
	}
	p.cmd, p.exited = cmd, exited
	return nil
}

// gone is closed when the program that was started last has ended; it is nil if none was.
func (p *process) gone() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exited
}

// signal sends a signal to the program and its children. A program that has ended gets none.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	select {
	case <-p.exited:
	default:
		// The group's number is the program's: it was started as a leader. ESRCH says that it has just ended.
		_ = syscall.Kill(-p.cmd.Process.Pid, sig)
	}
}

// kill ends the program and its children at once and waits until it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	if gone := p.gone(); gone != nil {
		<-gone
	}
}

// stop asks the program to end, waits for it, and returns how it ended: nil for status 0. A program that does not end
// within Patience fails the test.
func (p *process) stop() error {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	return p.wait()
}

// wait waits until the program ends by itself and returns how: nil for status 0.
func (p *process) wait() error {
	p.t.Helper()
	gone := p.gone()
	if gone == nil {
		return nil
	}
	err := waitFor(func(context.Context) error {
		select {
		case <-gone:
			return nil
		default:
			return errors.New("it still runs")
		}
	}, nil)
	if err != nil {
		p.t.Fatalf("%s did not end: %v; its log ends:\n%s", p.name, err, p.tail())
	}
	return p.err
}

// log returns all that the program has written so far.
func (p *process) log() string {
	p.t.Helper()
	b, err := os.ReadFile(p.logPath)
	if err != nil {
		p.t.Fatalf("read the log of %s: %v", p.name, err)
	}
	return string(b)
}

// tail returns the end of the log, or why there is none.
func (p *process) tail() string {
	f, err := os.Open(p.logPath)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }() // read only
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		if _, err := f.Seek(-tailBytes, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(b))
}
