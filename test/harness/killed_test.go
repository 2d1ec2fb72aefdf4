package harness_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// addressFile tells a test process that it is the one to be killed, and where to say what it has started.
const addressFile = "RATELIMITD_HARNESS_ADDRESS_FILE"

// TestKilledProcessLeavesNothing kills a test process that runs a Redis, and finds the Redis gone.
func TestKilledProcessLeavesNothing(t *testing.T) {
	t.Parallel()
	if path := os.Getenv(addressFile); path != "" {
		waitToBeKilled(t, path)
	}
	if runtime.GOOS != "linux" {
		return // only Linux tells a child of its parent's end
	}
	path := filepath.Join(t.TempDir(), "address")
	child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	child.Env = append(os.Environ(), addressFile+"="+path, "TMPDIR="+t.TempDir())
	if err := child.Start(); err != nil {
		t.Fatalf("start a test process: %v", err)
	}
	var addr string
	harness.WaitFor(t, "the test process starts a Redis", func(context.Context) error {
		b, err := os.ReadFile(path)
		addr = string(b)
		return err
	})
	if err := child.Process.Kill(); err != nil {
		t.Fatalf("kill the test process: %v", err)
	}
	_ = child.Wait() // it was killed
	harness.WaitFor(t, "its Redis is gone", func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil //nolint:nilerr // refused: that is what is waited for
		}
		_ = conn.Close() // nothing was written
		return errors.New("it still listens")
	})
}

// waitToBeKilled starts a Redis, says where, and does not return.
func waitToBeKilled(t *testing.T, path string) {
	t.Helper()
	r := harness.Redis(t)
	if err := os.WriteFile(path+".new", []byte(r.Addr), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	select {}
}
