// Package rooms guards which package of ours may import which: data flows from the edges to the engine, and from it to
// the policy and the store, and the pure packages know nothing but arithmetic.
package rooms

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// module is the path before every package of ours.
const module = "github.com/ratelimitd/ratelimitd/"

// room is one package of ours.
type room struct {
	may   []string // what of ours it may import
	tests []string // what of ours its tests may import besides
	// pure is arithmetic: the standard library alone, without what waits, what is shared between goroutines, and what
	// is outside of the process; and no go statement. Its tests are free of this.
	pure bool
}

// rooms are all packages of ours. A new package gets a line of its own.
func rooms() map[string]room {
	const (
		window, budget, policy, engine = "internal/window", "internal/budget", "internal/policy", "internal/engine"
		prices                         = "internal/prices"
		store, memory, redis           = "internal/store", "internal/store/memory", "internal/store/redis"
		rls, http, admin, cost         = "internal/edge/rls", "internal/edge/http", "internal/edge/admin", "internal/edge/cost"
		suite, telemetry, app          = "internal/store/storetest", "internal/telemetry", "internal/app"
		configs, api, harness          = "configs", "pkg/api/ratelimitd/admin/v1", "test/harness"
		costAPI, traced                = "pkg/api/ratelimitd/cost/v1", "internal/store/traced"
	)
	return map[string]room{
		window:    {pure: true},
		budget:    {pure: true},
		configs:   {},
		api:       {},
		costAPI:   {},
		telemetry: {},
		store:     {},

		memory: {may: []string{store, window}, tests: []string{suite}},
		redis:  {may: []string{store}, tests: []string{suite, harness}},
		traced: {may: []string{store, telemetry}},
		suite:  {may: []string{store}},

		policy:                {may: []string{store, budget, configs}},
		policy + "/schemagen": {may: []string{policy}},
		prices:                {may: []string{budget}, tests: []string{policy}},
		engine:                {may: []string{policy, store, telemetry, budget}, tests: []string{memory}},

		// An edge knows the store's words and no store.
		rls:   {may: []string{engine, policy, store, telemetry, budget}, tests: []string{memory}},
		http:  {may: []string{engine, policy, store, telemetry, budget}},
		admin: {may: []string{engine, policy, store, telemetry, api}},
		cost:  {may: []string{engine, policy, store, telemetry, budget, costAPI}},

		// Here everything is put together, for main and for the benchmark.
		app: {may: []string{rls, http, admin, cost, engine, policy, store, memory, redis, traced, telemetry, budget, api, costAPI}},

		"cmd/ratelimitd":    {may: []string{app, policy, telemetry, prices, budget, store}},
		"docs/examples/ask": {},

		harness:      {},
		"test/e2e":   {may: []string{harness, costAPI, api}},
		"test/rooms": {may: []string{harness}},
		// What is run for the dashboards, for their tests and for their pictures.
		"test/monitoring":            {may: []string{harness, costAPI}},
		"test/monitoring/pictures":   {may: []string{harness, "test/monitoring"}},
		"test/monitoring/ruleobject": {},
		"test/bench":                 {may: []string{app, engine, policy, budget, store, redis, telemetry, harness, costAPI}},
	}
}

// impure is what of the standard library a pure room must not import, with all that is below it.
func impure() []string {
	return []string{
		"context", "crypto/rand", "database", "embed", "io", "log", "math/rand", "net", "os", "plugin", "runtime", "sync",
		"syscall", "testing", "time", "unsafe",
	}
}

// file is what a source file says of others.
type file struct {
	room    string
	test    bool
	imports []string
	starts  bool // it holds a go statement
}

// problems says what of a file the rooms do not allow.
func (f *file) problems(rooms map[string]room) []string {
	r, known := rooms[f.room]
	if !known {
		return []string{f.room + " is no room of this test: say here what it may import"}
	}
	var problems []string
	for _, name := range f.imports {
		ours, isOurs := strings.CutPrefix(name, module)
		switch {
		case isOurs && !slices.Contains(r.may, ours) && ours != f.room && (!f.test || !slices.Contains(r.tests, ours)):
			problems = append(problems, f.room+" must not import "+ours)
		case isOurs, !r.pure, f.test:
		case !isStandard(name):
			problems = append(problems, f.room+" is pure and must not import "+name+", which is not of the standard library")
		case isBelow(name, impure()):
			problems = append(problems, f.room+" is pure and must not import "+name)
		}
	}
	if r.pure && !f.test && f.starts {
		problems = append(problems, f.room+" is pure and must not start a goroutine")
	}
	return problems
}

// isStandard tells whether a package is of the standard library: the others begin with a domain.
func isStandard(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return !strings.Contains(first, ".")
}

func isBelow(name string, tops []string) bool {
	return slices.ContainsFunc(tops, func(top string) bool { return name == top || strings.HasPrefix(name, top+"/") })
}

// TestEachRoomImportsWhatItMay reads every Go file of the module.
func TestEachRoomImportsWhatItMay(t *testing.T) {
	rooms := rooms()
	used := map[string]bool{}
	for name, f := range sources(t) {
		for _, problem := range f.problems(rooms) {
			t.Errorf("%s: %s", name, problem)
		}
		used[f.room] = true
		for _, imported := range f.imports {
			used[f.room+" imports "+strings.TrimPrefix(imported, module)] = true
		}
	}
	for name := range rooms {
		if !used[name] {
			t.Errorf("%s has no Go file: remove its line from this test", name)
		}
	}
	if !used["internal/engine imports internal/policy"] || !used["internal/window imports math"] {
		t.Error("the imports that are known to stand were not found: this test looks in the wrong place")
	}
}

// sources reads all Go files of the module, by their paths.
func sources(t *testing.T) map[string]*file {
	t.Helper()
	root := harness.Root(t)
	files := map[string]*file{}
	err := filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && at != root && (strings.HasPrefix(entry.Name(), ".") || isNoCode(at, root)):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(at) != ".go":
			return nil
		}
		name, err := filepath.Rel(root, at)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		files[name], err = read(at, path.Dir(name))
		return err
	})
	if err != nil {
		t.Fatalf("read the sources: %v", err)
	}
	return files
}

// isNoCode tells whether a folder holds no package of this module: what is built, what has a module of its own, and test
// data.
func isNoCode(folder, root string) bool {
	if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
		return true
	}
	name := filepath.Base(folder)
	return name == "testdata" || filepath.Dir(folder) == root && (name == "bin" || name == "tools")
}

func read(at, room string) (*file, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), at, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := &file{room: room, test: strings.HasSuffix(at, "_test.go")}
	for _, spec := range parsed.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		f.imports = append(f.imports, name)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if _, ok := n.(*ast.GoStmt); ok {
			f.starts = true
		}
		return true
	})
	return f, nil
}

// TestTheGuardSees shows the guard what it must refuse, and what it must let stand.
func TestTheGuardSees(t *testing.T) {
	for _, tc := range []struct {
		name string
		file file
		want string // part of the one problem; empty for none
	}{
		{"arithmetic", file{room: "internal/window", imports: []string{"math", "sort"}}, ""},
		{"a clock in a pure room", file{room: "internal/window", imports: []string{"time"}}, "must not import time"},
		{"a socket in a pure room", file{room: "internal/budget", imports: []string{"net/http"}}, "must not import net/http"},
		{"another's code in a pure room", file{room: "internal/window", imports: []string{"go.uber.org/zap"}}, "must not import go.uber.org/zap"},
		{"one pure room in the other", file{room: "internal/window", imports: []string{module + "internal/budget"}}, "must not import internal/budget"},
		{"a goroutine in a pure room", file{room: "internal/window", starts: true}, "must not start a goroutine"},
		{"a clock in a pure room's test", file{room: "internal/window", test: true, imports: []string{"time", "pgregory.net/rapid"}}, ""},
		{"a pure room's test of another room", file{room: "internal/window", test: true, imports: []string{module + "internal/store"}}, "must not import internal/store"},
		{"a store behind an edge", file{room: "internal/edge/rls", imports: []string{module + "internal/store/memory"}}, "must not import internal/store/memory"},
		{"a store in an edge's test", file{room: "internal/edge/rls", test: true, imports: []string{module + "internal/store/memory"}}, ""},
		{"an edge in an edge", file{room: "internal/edge/http", imports: []string{module + "internal/edge/rls"}}, "must not import internal/edge/rls"},
		{"an edge behind the engine", file{room: "internal/engine", imports: []string{module + "internal/edge/rls"}}, "must not import internal/edge/rls"},
		{"the engine behind the policy", file{room: "internal/policy", imports: []string{module + "internal/engine"}}, "must not import internal/engine"},
		{"the app behind an edge", file{room: "internal/edge/http", imports: []string{module + "internal/app"}}, "must not import internal/app"},
		{"the app in main", file{room: "cmd/ratelimitd", imports: []string{module + "internal/app"}}, ""},
		{"a test beside its package", file{room: "internal/store/memory", test: true, imports: []string{module + "internal/store/memory"}}, ""},
		{"a room that nobody knows", file{room: "internal/util"}, "is no room"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.file.problems(rooms())
			switch {
			case tc.want == "" && len(got) > 0:
				t.Errorf("it is refused: %q", got)
			case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)):
				t.Errorf("the problems are %q, want one with %q", got, tc.want)
			}
		})
	}
}
