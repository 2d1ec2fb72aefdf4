package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// DaemonProcess is one ratelimitd process.
type DaemonProcess struct {
	GRPCAddr string // "127.0.0.1:port"
	HTTPAddr string
	proc     *process
}

// Env is a daemon's environment: nothing of the test's own environment reaches it but PATH and HOME.
type Env map[string]string

// AskTimeout is the decision timeout that daemons of tests have unless their environment says otherwise: a busy machine
// must not make one fail open.
const AskTimeout = "20s"

// Daemon builds ratelimitd once per test run, starts it on free ports and returns when it is live. It is ready for
// calls then, whether or not its store is.
func Daemon(t TB, env Env, flags ...string) *DaemonProcess {
	t.Helper()
	d := NewDaemon(t, env, flags...)
	d.Start()
	return d
}

// NewDaemon is Daemon without the start.
func NewDaemon(t TB, env Env, flags ...string) *DaemonProcess {
	t.Helper()
	d := &DaemonProcess{GRPCAddr: Addr(t), HTTPAddr: Addr(t)}
	all := Env{
		"RATELIMITD_GRPC_ADDR": d.GRPCAddr, "RATELIMITD_HTTP_ADDR": d.HTTPAddr,
		"RATELIMITD_DECISION_TIMEOUT": AskTimeout,
	}
	maps.Copy(all, env)
	d.proc = &process{
		t: t, name: "ratelimitd " + d.GRPCAddr, path: Binary(t), args: append([]string{"serve"}, flags...),
		env: all.list(), bare: true,
		ready: func(ctx context.Context) error { return getOK(ctx, d.URL("/healthz")) },
	}
	d.proc.register()
	return d
}

// list returns the environment as a process takes it.
func (e Env) list() []string {
	out := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for _, k := range slices.Sorted(maps.Keys(e)) {
		out = append(out, k+"="+e[k])
	}
	return out
}

// URL returns the address of a page of the daemon's HTTP side.
func (d *DaemonProcess) URL(path string) string { return "http://" + d.HTTPAddr + path }

// Start runs the daemon at its addresses and returns when it is live.
func (d *DaemonProcess) Start() {
	d.proc.t.Helper()
	d.proc.start()
}

// Kill ends the daemon at once, as a crash does.
func (d *DaemonProcess) Kill() { d.proc.kill() }

// Terminate asks the daemon to end in order, and does not wait.
func (d *DaemonProcess) Terminate() { d.proc.signal(syscall.SIGTERM) }

// Wait waits until the daemon ends and returns how: nil for status 0.
func (d *DaemonProcess) Wait() error {
	d.proc.t.Helper()
	return d.proc.wait()
}

// Restart kills the daemon and starts it at the same addresses.
func (d *DaemonProcess) Restart() {
	d.proc.t.Helper()
	d.Kill()
	d.Start()
}

// Reload sends SIGHUP.
func (d *DaemonProcess) Reload() { d.proc.signal(syscall.SIGHUP) }

// Log returns all that the daemon has written.
func (d *DaemonProcess) Log() string {
	d.proc.t.Helper()
	return d.proc.log()
}

// Output is what a run of a program left.
type Output struct {
	Text string // standard output and standard error
	Code int    // the exit status, -1 if a signal ended it
}

// RunDaemon runs the daemon's program with these arguments until it ends by itself.
func RunDaemon(t TB, env Env, args ...string) Output {
	t.Helper()
	p := &process{t: t, name: "ratelimitd run", path: Binary(t), args: args, env: env.list(), bare: true}
	p.register()
	if err := p.launch(); err != nil {
		t.Fatalf("run ratelimitd %q: %v", args, err)
	}
	err := p.wait()
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return Output{Text: p.log()}
	case ended:
		return Output{Text: p.log(), Code: exit.ExitCode()}
	}
	t.Fatalf("run ratelimitd %q: %v", args, err)
	return Output{}
}

// built is the daemon's binary, made once per test process.
var built = sync.OnceValues(buildDaemon)

// Binary returns the path of ratelimitd, built from the working tree with the flags of a release.
func Binary(t TB) string {
	t.Helper()
	root := Root(t)
	binaryRoot.Do(func() { binaryFolder = root })
	path, err := built()
	if err != nil {
		t.Fatalf("build ratelimitd: %v", err)
	}
	return path
}

// The repository's root, for the one build.
var (
	binaryRoot   sync.Once
	binaryFolder string
)

// buildDaemon builds into the ignored folder of tools, one test process at a time: the second one finds it up to date.
func buildDaemon() (string, error) {
	dir := filepath.Join(binaryFolder, ".tools", "test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a folder for it: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("lock the folder: %w", err)
	}
	defer func() { _ = lock.Close() }() // unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock the folder: %w", err)
	}
	if err := dependOnSource(); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ratelimitd")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", path, "./cmd/ratelimitd")
	cmd.Dir = binaryFolder
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
}

// dependOnSource looks at every Go file that the daemon may be made of. The go command notes what a test looks at, and
// so does not take the cached result of a test for another daemon.
func dependOnSource() error {
	for _, top := range []string{"cmd", "configs", "internal", "pkg"} {
		err := filepath.WalkDir(filepath.Join(binaryFolder, top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			_, err = os.Stat(path)
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look at the daemon's source: %w", err)
		}
	}
	return nil
}
