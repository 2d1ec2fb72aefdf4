package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// minRedis is the oldest redis-server that will do, major and minor.
var minRedis = [2]int{6, 2}

// rootModule is how the go.mod in the repository's root begins. Those of modules within it begin otherwise.
const rootModule = "module github.com/ratelimitd/ratelimitd\n"

// Root returns the root folder of the repository: the nearest folder at or above the working one that has its go.mod.
func Root(t TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("find the repository: %v", err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), rootModule) {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatalf("find the repository: its go.mod is not at or above the working folder; run this inside the repository")
		}
		dir = up
	}
}

// tool returns the path of a program: on PATH if it is there and will do, else in .tools/bin of the repository. A
// missing tool fails the test.
func tool(t TB, name string, willDo func(path string) error) string {
	t.Helper()
	var why []error
	local := filepath.Join(Root(t), ".tools", "bin", name)
	for _, candidate := range []string{name, local} {
		path, err := exec.LookPath(candidate)
		if err == nil {
			err = willDo(path)
		}
		if err == nil {
			return path
		}
		why = append(why, err)
	}
	t.Fatalf("%s is missing: run `make tools` once, which installs it (%v)", name, errors.Join(why...))
	return ""
}

var redisVersion = regexp.MustCompile(`v=(\d+)\.(\d+)`)

// redisServer returns the path of a redis-server that is new enough.
func redisServer(t TB) string {
	t.Helper()
	return tool(t, "redis-server", func(path string) error {
		out, err := exec.Command(path, "--version").Output()
		if err != nil {
			return fmt.Errorf("%s --version: %w", path, err)
		}
		m := redisVersion.FindSubmatch(out)
		if m == nil {
			return fmt.Errorf("%s --version: no version in %q", path, out)
		}
		major, _ := strconv.Atoi(string(m[1])) // digits by the pattern
		minor, _ := strconv.Atoi(string(m[2]))
		if major < minRedis[0] || major == minRedis[0] && minor < minRedis[1] {
			return fmt.Errorf("%s is version %d.%d; %d.%d or newer is needed", path, major, minor, minRedis[0], minRedis[1])
		}
		return nil
	})
}

// envoyBinary returns the path of the envoy command.
func envoyBinary(t TB) string {
	t.Helper()
	return tool(t, "envoy", func(string) error { return nil })
}
