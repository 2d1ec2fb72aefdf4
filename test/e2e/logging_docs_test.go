package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestLogLinesAreAsTheirPageSays compares the lines that the code writes with the tables of docs/logging.md, both ways: texts and
// levels. An operator who greps for a line must find it there.
func TestLogLinesAreAsTheirPageSays(t *testing.T) {
	t.Parallel()
	written, documented := writtenLines(t), documentedLines(t)
	for _, line := range slices.Sorted(maps.Keys(written)) {
		switch level, ok := documented[line]; {
		case !ok:
			t.Errorf("%q (%s) is not in docs/logging.md", line, written[line])
		case level != written[line]:
			t.Errorf("%q is written as %s; docs/logging.md says %s", line, written[line], level)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(documented)) {
		if _, ok := written[line]; !ok {
			t.Errorf("%q is in docs/logging.md and nowhere in the code", line)
		}
	}
}

// writtenLines reads the levels of all lines that the daemon's packages log.
func writtenLines(t *testing.T) map[string]string {
	t.Helper()
	lines := map[string]string{}
	for _, folder := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(harness.Root(t), folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				if level, text, logs := logged(n); logs {
					if before, twice := lines[text]; text == "" || twice && before != level {
						t.Errorf("%s: a line of the level %s has the text %q, want one that is known here, and of one level", path, level, text)
					}
					lines[text] = level
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatalf("read the sources: %v", err)
		}
	}
	return lines
}

// logged tells whether a part of the code writes a line to the log, at which level and with which text. The text is empty if it is
// made while the daemon runs.
func logged(n ast.Node) (level, text string, logs bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return "", "", false
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !isLog(method.X) {
		return "", "", false
	}
	switch method.Sel.Name {
	case "Debug", "Info", "Warn", "Error", "DPanic", "Panic", "Fatal":
		return strings.ToLower(method.Sel.Name), constantText(call.Args[0]), true
	default:
		return "", "", false
	}
}

// isLog tells whether an expression is named as every log is: log, or Log as a field of options; l within the log's own methods.
func isLog(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "log" || e.Name == "l"
	case *ast.SelectorExpr:
		return e.Sel.Name == "log" || e.Sel.Name == "Log"
	default:
		return false
	}
}

// constantText is a text that is written in the code, in one piece or in several with a plus between them.
func constantText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		left, right := constantText(e.X), constantText(e.Y)
		if left == "" || right == "" {
			return ""
		}
		return left + right
	default:
		return ""
	}
}

// documentedLines reads the levels of the lines that docs/logging.md lists.
func documentedLines(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "docs", "logging.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (debug|info|warn|error) \\|")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if _, twice := documented[m[1]]; twice {
			t.Errorf("docs/logging.md has %q twice", m[1])
		}
		documented[m[1]] = m[2]
	}
	return documented
}
