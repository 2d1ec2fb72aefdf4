package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// betweenBlocks is printed after each block, so that one shell can run them all.
const betweenBlocks = "-- the block is over --"

// compiling is how long a tool may take to be compiled at its first use.
const compiling = 5 * time.Minute

// TestCostGuideBlocks runs what docs/cost.md tells its reader to paste, and compares what each block prints with the text that
// follows it. The blocks are run in their order, in one shell and against one daemon that is just started: what one sets, the next
// ones use.
func TestCostGuideBlocks(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(harness.Root(t), "docs", "cost.md"))
	if err != nil {
		t.Fatalf("read the guide: %v", err)
	}
	blocks, err := allBlocks(string(b))
	if err != nil {
		t.Fatalf("docs/cost.md: %v", err)
	}
	compileTool(t, "grpcurl")
	for name, env := range map[string]harness.Env{"memory": {}, "redis": onRedis(harness.Redis(t))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runBlocks(t, blocks, harness.Daemon(t, with(env, "RATELIMITD_POLICY", "production")))
		})
	}
}

// runBlocks runs blocks against a daemon and compares what each prints.
func runBlocks(t *testing.T, blocks []block, d *harness.DaemonProcess) {
	t.Helper()
	var script strings.Builder
	for _, block := range blocks {
		fmt.Fprintf(&script, "%s\necho '%s'\n", block.script, betweenBlocks)
	}
	printed := runScript(t, strings.NewReplacer(readmeGRPC, d.GRPCAddr, readmeHTTP, d.HTTPAddr).Replace(script.String()))
	parts := strings.Split(printed, betweenBlocks)
	if len(parts) != len(blocks)+1 {
		t.Fatalf("%d blocks print %d parts\n%s", len(blocks), len(parts)-1, printed)
	}
	for i, block := range blocks {
		if got := strings.TrimSpace(parts[i]); got != block.want {
			t.Errorf("the block %q prints\n%s\nwant\n%s", block.name, got, block.want)
		}
	}
}

// block is what a document has its reader run, and what that prints.
type block struct{ name, script, want string }

// allBlocks returns the marked blocks of a document in their order. It errs if commands stand there that have no mark.
func allBlocks(text string) ([]block, error) {
	var blocks []block
	for line := range strings.SplitSeq(text, "\n") {
		name, marked := strings.CutPrefix(line, "<!-- test:")
		if !marked {
			continue
		}
		name, _ = strings.CutSuffix(name, " -->")
		script, want, err := markedBlock(text, name)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, block{name, script, want})
	}
	if all := strings.Count(text, "```sh\n"); len(blocks) != all || all == 0 {
		return nil, fmt.Errorf("%d blocks of commands have %d marks; each has one, so that nothing stands there that no test runs",
			all, len(blocks))
	}
	return blocks, nil
}

// compileTool has a tool of tools/go.mod compiled, so that a block that uses it takes no longer than others.
func compileTool(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), compiling, errors.New("it took too long"))
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile=tools/go.mod", name, "-version")
	cmd.Dir = harness.Root(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile %s: %v (%v)\n%s", name, err, context.Cause(ctx), out)
	}
}

// TestAllBlocks reads documents whose commands are all marked, and some whose are not.
func TestAllBlocks(t *testing.T) {
	t.Parallel()
	const (
		one = "<!-- test:a -->\n```sh\none\n```\n```text\n1\n```\n"
		two = "<!-- test:b -->\n```sh\ntwo\n```\n```text\n2\n```\n"
	)
	blocks, err := allBlocks("# Title\n" + one + "text\n" + two)
	if want := []block{{"a", "one", "1"}, {"b", "two", "2"}}; err != nil || !slices.Equal(blocks, want) {
		t.Errorf("the blocks read %v (%v), want %v", blocks, err, want)
	}
	for name, text := range map[string]string{
		"no commands":    "# Title\n",
		"a mark missing": one + "```sh\ntwo\n```\n",
		"a mark twice":   one + one,
	} {
		if blocks, err := allBlocks(text); err == nil {
			t.Errorf("%s: it reads %v, want an error", name, blocks)
		}
	}
}
