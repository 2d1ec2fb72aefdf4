package k8s

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// koFile is what .ko.yaml says. Of what ko knows it has what is used here: another name is an error.
type koFile struct {
	DefaultBaseImage string
	DefaultPlatforms []string
	Builds           []koBuild
}

type koBuild struct {
	ID, Main            string
	Env, Flags, Ldflags []string
}

// TestKoMakesTheImage compares .ko.yaml with the other two that make the image. What ko itself does with it no test sees: it
// would fetch the base image from a registry.
func TestKoMakesTheImage(t *testing.T) {
	for _, problem := range koProblems(t, readFile(t, filepath.Join(repository(t), ".ko.yaml"))) {
		t.Error(problem)
	}
}

// TestKoProblems breaks one thing of .ko.yaml, and expects the one sentence about it.
func TestKoProblems(t *testing.T) {
	text := readFile(t, filepath.Join(repository(t), ".ko.yaml"))
	for _, c := range []struct{ name, from, to, want string }{
		{"unknown setting", "defaultBaseImage:", "baseImage:", `unknown field "baseImage"`},
		{"setting twice", "defaultPlatforms:", "defaultBaseImage: a\ndefaultPlatforms:", `key "defaultBaseImage" already set in map`},
		{"another base", "gcr.io/distroless/static-debian12:nonroot", "busybox", "the base image is busybox, that of the Dockerfile is gcr.io/"},
		{"one platform", "[linux/amd64, linux/arm64]", "[linux/amd64]", "the platforms are [linux/amd64], `make image` has [linux/amd64 linux/arm64]"},
		{"two builds", "- id: ratelimitd", "- id: other\n- id: ratelimitd", ".ko.yaml has 2 builds"},
		{"no such program", "main: ./cmd/ratelimitd", "main: ./cmd/other", "./cmd/other is no program"},
		{"another package", "main: ./cmd/ratelimitd", "main: ./internal/app", "./internal/app is no program"},
		{"with a C library", "CGO_ENABLED=0", "CGO_ENABLED=1", `env is ["CGO_ENABLED=1"], the Dockerfile has ["CGO_ENABLED=0"]`},
		{"an environment by chance", "  env: [CGO_ENABLED=0]\n", "", "env is []"},
		{"paths of this machine", "-trimpath, ", "", `flags is ["-buildvcs"], the Makefile has ["-trimpath" "-buildvcs"]`},
		{"no version", "-buildvcs=auto", "-buildvcs=false", "nothing says the version"},
		{"symbols", "-s -w", "-s", `ldflags is ["-s"], the Dockerfile has ["-s" "-w"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(text, c.from) {
				t.Fatalf(".ko.yaml does not say %q:\n%s", c.from, text)
			}
			got := strings.Join(koProblems(t, strings.Replace(text, c.from, c.to, 1)), "\n")
			if !strings.Contains(got, c.want) {
				t.Errorf("it says %q, want %q in it", got, c.want)
			}
		})
	}
}

// koProblems says where a .ko.yaml is not what the Dockerfile and the Makefile are.
func koProblems(t *testing.T, text string) []string {
	t.Helper()
	var ko koFile
	if err := yaml.UnmarshalStrict([]byte(text), &ko); err != nil {
		return []string{".ko.yaml: " + err.Error()}
	}
	if len(ko.Builds) != 1 {
		return []string{fmt.Sprintf(".ko.yaml has %d builds, want one", len(ko.Builds))}
	}
	var problems []string
	wrong := func(format string, args ...any) {
		problems = append(problems, ".ko.yaml: "+fmt.Sprintf(format, args...))
	}
	dockerfile := readFile(t, filepath.Join(repository(t), "Dockerfile"))
	makefile := readFile(t, filepath.Join(repository(t), "Makefile"))
	if want := last(t, dockerfile, `(?m)^FROM (\S+)$`); ko.DefaultBaseImage != want {
		wrong("the base image is %s, that of the Dockerfile is %s", ko.DefaultBaseImage, want)
	}
	var platforms []string
	for arch := range strings.FieldsSeq(last(t, makefile, `(?m)^\tfor arch in ([a-z0-9 ]+);`)) {
		platforms = append(platforms, "linux/"+arch)
	}
	if !slices.Equal(ko.DefaultPlatforms, platforms) {
		wrong("the platforms are %v, `make image` has %v", ko.DefaultPlatforms, platforms)
	}
	build := ko.Builds[0]
	if !isProgram(t, build.Main) {
		wrong("%s is no program", build.Main)
	}
	// Without -X it is the commit's tag that says the version.
	if !slices.Contains(build.Flags, "-buildvcs=auto") && !slices.Contains(build.Flags, "-buildvcs=true") {
		wrong("nothing says the version: write -buildvcs=auto")
	}
	for name, recipe := range map[string]koBuild{"Dockerfile": compiling(t, dockerfile), "Makefile": compiling(t, makefile)} {
		for part, sides := range map[string][2][]string{
			"main":    {{build.Main}, {recipe.Main}},
			"env":     {build.Env, recipe.Env},
			"flags":   {withoutValue(build.Flags, "-buildvcs"), recipe.Flags},
			"ldflags": {strings.Fields(strings.Join(build.Ldflags, " ")), recipe.Ldflags},
		} {
			if !slices.Equal(sides[0], sides[1]) {
				wrong("%s is %q, the %s has %q", part, sides[0], name, sides[1])
			}
		}
	}
	return problems
}

// compiling returns how a recipe compiles the program, but for its platform, for whether the version control is asked, and for
// the version.
func compiling(t *testing.T, text string) koBuild {
	t.Helper()
	text = strings.ReplaceAll(text, "\\\n", "")
	const environment, program = `((?:[A-Z][A-Z_]*=\S+ +)+)`, `(\./cmd/\S+)`
	m := regexp.MustCompile(environment + `(?:\$\(GO\)|go) build +(.*?) +-ldflags ['"](.*?)['"] .*?` + program).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("nothing is compiled for a platform by:\n%s", text)
	}
	if m[3] == "$(LDFLAGS)" {
		m[3] = last(t, text, `(?m)^LDFLAGS := (.+)$`)
	}
	build := koBuild{Main: m[4], Flags: withoutValue(strings.Fields(m[2]), "-buildvcs")}
	for env := range strings.FieldsSeq(m[1]) {
		if !strings.HasPrefix(env, "GOOS=") && !strings.HasPrefix(env, "GOARCH=") {
			build.Env = append(build.Env, env)
		}
	}
	build.Ldflags = strings.Fields(regexp.MustCompile(`-X \S+`).ReplaceAllString(m[3], ""))
	return build
}

// withoutValue returns flags with one of them named alone.
func withoutValue(flags []string, name string) []string {
	flags = slices.Clone(flags)
	for i, flag := range flags {
		if strings.HasPrefix(flag, name+"=") {
			flags[i] = name
		}
	}
	return flags
}

// last returns what the group of a pattern is at its last place in a text.
func last(t *testing.T, text, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1)
	if len(found) == 0 {
		t.Fatalf("no %s in:\n%s", pattern, text)
	}
	return found[len(found)-1][1]
}

// isProgram tells whether a folder of the repository has a main package.
func isProgram(t *testing.T, folder string) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Name}}", folder)
	cmd.Dir = repository(t)
	name, err := cmd.Output()
	return err == nil && strings.TrimSpace(string(name)) == "main"
}
