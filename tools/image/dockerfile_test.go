package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// root is the repository's.
const root = "../.."

// TestTheDockerfileMakesTheSameImage compares what both say about it.
func TestTheDockerfileMakesTheSameImage(t *testing.T) {
	text := read(t, "Dockerfile")
	want := []string{
		"COPY --from=build /ratelimitd " + entryPoint + "\n", "USER " + user + "\n", `ENTRYPOINT ["` + entryPoint + `"]`, `CMD ["serve"]`,
	}
	for name, value := range (&spec{version: "$VERSION"}).labels() {
		if !strings.HasSuffix(name, ".revision") && !strings.HasSuffix(name, ".created") { // buildx adds these
			want = append(want, name+`="`+value+`"`)
		}
	}
	for _, line := range want {
		if !strings.Contains(text, line) {
			t.Errorf("the Dockerfile does not say %q", line)
		}
	}
}

// TestTheBuildContextHoldsWhatTheProgramIsBuiltFrom compares .dockerignore with what the compiler reads.
func TestTheBuildContextHoldsWhatTheProgramIsBuiltFrom(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-deps",
		"-f", "{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}", "./cmd/ratelimitd")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatalf("list the packages: %v", err)
	}
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	ignore := read(t, ".dockerignore")
	folders := strings.Fields(string(out))
	if len(folders) == 0 {
		t.Fatal("the program is built from nothing")
	}
	for _, folder := range folders {
		relative, err := filepath.Rel(top, folder)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(filepath.ToSlash(relative), "/")
		if !strings.Contains(ignore, "\n!"+first+"\n") {
			t.Errorf(".dockerignore leaves %s out, which the program is built from", relative)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
