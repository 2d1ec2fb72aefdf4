package e2e

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestReload changes the policy of a running daemon in each way that policies change: history is kept, the new limit
// holds, and a bad file changes nothing but a metric.
func TestReload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		place  func(t *testing.T, dir, text string) string // writes the policy and returns its path
		signal bool
	}{
		{name: "SIGHUP", place: placeFile, signal: true},
		{name: "file written in place", place: placeFile},
		{name: "file replaced", place: placeByRename},
		{name: "ConfigMap", place: placeConfigMap},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := c.place(t, dir, limits{user: "10/hour", global: "1000/hour"}.text())
			d := harness.Daemon(t, harness.Env{"RATELIMITD_POLICY": path})
			change := func(text string) {
				c.place(t, dir, text)
				if c.signal {
					d.Reload()
				}
			}
			ask := dial(t, d.GRPCAddr)
			if got := ask.admitted(t, "123", 5); got != 5 {
				t.Fatalf("%d of 5 are admitted, want all", got)
			}
			change(limits{user: "7/hour", global: "1000/hour"}.text())
			waitForLimit(t, d, 7)
			if got := ask.admitted(t, "123", 5); got != 2 {
				t.Errorf("%d of 5 more are admitted under the lower limit, want the 2 that it leaves", got)
			}
			change("domain: assistant\nnonsense: true\n")
			harness.WaitFor(t, "the metric tells of a bad file", func(context.Context) error {
				if metric(t, d, "ratelimitd_policy_reload_success") != 0 {
					return errors.New("ratelimitd_policy_reload_success is not 0")
				}
				return nil
			})
			waitForLimit(t, d, 7)
			change(limits{user: "9/hour", global: "1000/hour"}.text())
			waitForLimit(t, d, 9)
			if got := ask.admitted(t, "123", 5); got != 2 {
				t.Errorf("%d of 5 more are admitted under the higher limit, want the 2 that it adds", got)
			}
			if got := metric(t, d, "ratelimitd_policy_reload_success"); got != 1 {
				t.Errorf("after a good file ratelimitd_policy_reload_success is %v, want 1", got)
			}
		})
	}
}

func waitForLimit(t *testing.T, d *harness.DaemonProcess, want int64) {
	t.Helper()
	harness.WaitFor(t, "the limit is in force", func(context.Context) error {
		if got := statsOf(t, d, "123").Limits["hour"].Limit; got != want {
			return errors.New("another limit is in force")
		}
		return nil
	})
}

func placeFile(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "policy.yaml")
	writeFile(t, path, text)
	return path
}

// placeByRename replaces the file as editors do.
func placeByRename(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "policy.yaml")
	writeFile(t, path+".new", text)
	rename(t, path+".new", path)
	return path
}

// placeConfigMap writes the file as a kubelet writes a ConfigMap (k8s.io/kubernetes/pkg/volume/util/atomic_writer.go):
// the files stand in a folder with a time in its name; ..data_tmp, a link to it, is renamed to ..data; policy.yaml is a
// link through ..data, made once; the folder before is removed.
func placeConfigMap(t *testing.T, dir, text string) string {
	t.Helper()
	data, path := filepath.Join(dir, "..data"), filepath.Join(dir, "policy.yaml")
	old, err := os.Readlink(data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("read the link to the folder of a ConfigMap: %v", err)
	}
	folder := filepath.Join(dir, time.Now().UTC().Format("..2006_01_02_15_04_05.000000000"))
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatalf("make the folder of a ConfigMap: %v", err)
	}
	writeFile(t, filepath.Join(folder, "policy.yaml"), text)
	link(t, filepath.Base(folder), data+"_tmp")
	rename(t, data+"_tmp", data)
	if old == "" {
		link(t, filepath.Join("..data", "policy.yaml"), path)
		return path
	}
	if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
		t.Fatalf("remove the old folder of a ConfigMap: %v", err)
	}
	return path
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatalf("make a link of a ConfigMap: %v", err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatalf("rename: %v", err)
	}
}
