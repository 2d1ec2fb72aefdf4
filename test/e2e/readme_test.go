package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// What the README's blocks talk to; a test puts its own ports in their place.
const (
	readmeGRPC  = "127.0.0.1:8081"
	readmeHTTP  = "127.0.0.1:8080"
	readmeEnvoy = "127.0.0.1:10000"
)

// readmeBlocks are the marked blocks that the README must have.
func readmeBlocks() []string { return []string{"quickstart", "cost", "envoy"} }

// TestReadmeBlocks runs what the README tells its reader to paste, each block against a daemon and an Envoy that are
// just started, and compares what it prints with the block that follows it:
//
//	<!-- test:quickstart -->
//	```sh
//	commands
//	```
//	any text
//	```text
//	what they print
//	```
func TestReadmeBlocks(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(harness.Root(t), "README.md"))
	if err != nil {
		t.Fatalf("read the README: %v", err)
	}
	for _, name := range readmeBlocks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script, want, err := markedBlock(string(b), name)
			if err != nil {
				t.Fatalf("README.md: %v", err)
			}
			s := newStack(t, harness.Env{"RATELIMITD_POLICY": "production"})
			script = strings.NewReplacer(readmeGRPC, s.daemon.GRPCAddr, readmeHTTP, s.daemon.HTTPAddr,
				readmeEnvoy, strings.TrimPrefix(s.envoy.URL, "http://"),
				"bin/ratelimitd", harness.Binary(t)).Replace(script)
			if got := runScript(t, script); got != want {
				t.Errorf("the block prints\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// runScript runs a shell script in the repository's root and returns what it prints, without spaces around it.
func runScript(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = harness.Root(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("run the block: %v\n%s%s\nthe script was\n%s", err, stdout.String(), stderr.String(), script)
	}
	return strings.TrimSpace(stdout.String())
}

// markedBlock returns the commands under a mark and what they are said to print.
func markedBlock(text, name string) (script, want string, err error) {
	mark := "<!-- test:" + name + " -->\n"
	before, after, found := strings.Cut(text, mark)
	if !found {
		return "", "", fmt.Errorf("the mark %q is missing", strings.TrimSpace(mark))
	}
	if strings.Contains(after, mark) {
		return "", "", fmt.Errorf("the mark %q stands twice", strings.TrimSpace(mark))
	}
	line := strings.Count(before, "\n") + 1
	script, after, found = fenced(after, "sh")
	if !found {
		return "", "", fmt.Errorf("no ```sh block follows the mark in line %d", line)
	}
	if next := strings.Index(after, "<!-- test:"); next >= 0 {
		after = after[:next]
	}
	want, _, found = fenced(after, "text")
	if !found {
		return "", "", fmt.Errorf("no ```text block with what is printed follows the block of line %d", line)
	}
	return script, strings.TrimSpace(want), nil
}

// fenced returns the next block of a language and what follows it.
func fenced(text, language string) (block, after string, found bool) {
	const fence = "```"
	_, text, found = strings.Cut(text, fence+language+"\n")
	if !found {
		return "", "", false
	}
	return strings.Cut(text, "\n"+fence)
}

// TestMarkedBlock reads marks that are right and marks that are not.
func TestMarkedBlock(t *testing.T) {
	t.Parallel()
	const block = "<!-- test:a -->\n```sh\none\ntwo\n```\nprints\n```text\nthree\n```\n"
	script, want, err := markedBlock("# Title\n"+block+"rest", "a")
	if script != "one\ntwo" || want != "three" || err != nil {
		t.Errorf("the block reads %q and prints %q (%v)", script, want, err)
	}
	for name, text := range map[string]string{
		"no mark":   strings.Replace(block, "test:a", "test:b", 1),
		"two marks": block + block,
		"no script": "<!-- test:a -->\n",
		"no output": "<!-- test:a -->\n```sh\none\n```\n<!-- test:b -->\n```sh\none\n```\n```text\nthree\n```\n",
	} {
		if script, want, err := markedBlock(text, "a"); err == nil {
			t.Errorf("%s: it reads %q and prints %q, want an error", name, script, want)
		}
	}
}
