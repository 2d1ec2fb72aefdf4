package main

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the repository's.
const root = "../.."

// TestTheDockerfileMakesTheSameImage compares what both say about it.
func TestTheDockerfileMakesTheSameImage(t *testing.T) {
	text := read(t, "Dockerfile")
	want := []string{
		"go -C tools run ./image/licenses -source .. -out /licenses /ratelimitd\n",
		"COPY --from=build /licenses /" + path.Clean(licencesFolder) + "\n",
		"COPY --from=build /ratelimitd " + entryPoint + "\n",
		"USER " + user + "\n", `ENTRYPOINT ["` + entryPoint + `"]`, `CMD ["serve"]`,
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

// TestTheBuildContextHoldsWhatIsBuiltFrom compares .dockerignore with what the compiler reads for the program, and for the
// command that collects its licences.
func TestTheBuildContextHoldsWhatIsBuiltFrom(t *testing.T) {
	context := strings.Split(read(t, ".dockerignore"), "\n")
	want := []string{"go.mod", "go.sum", "LICENSE", "tools/go.mod", "tools/go.sum"}
	want = append(want, folders(t, ".", "./cmd/ratelimitd")...)
	want = append(want, folders(t, "tools", "./image/licenses")...)
	for _, name := range want {
		if !slices.ContainsFunc(context, func(line string) bool {
			kept, ok := strings.CutPrefix(line, "!")
			return ok && (name == kept || strings.HasPrefix(name, kept+"/"))
		}) {
			t.Errorf(".dockerignore leaves %s out, which the image is built from", name)
		}
	}
}

// TestTheLicencesNeedNoModuleOfTheTools keeps the tools' many modules out of the Dockerfile's build.
func TestTheLicencesNeedNoModuleOfTheTools(t *testing.T) {
	if got := list(t, "tools", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", "./image/licenses"); len(got) > 0 {
		t.Errorf("image/licenses is built from %v, want Go's library alone", got)
	}
}

// TestKoFindsTheLicences follows the link that ko follows, and without whose end it makes no image.
func TestKoFindsTheLicences(t *testing.T) {
	link := filepath.Join(root, "cmd", "ratelimitd", "kodata", "licenses")
	to, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	end, err := filepath.Rel(root, filepath.Join(filepath.Dir(link), to))
	if err != nil {
		t.Fatal(err)
	}
	if want := "./image/licenses -source .. -out ../" + end + " "; !strings.Contains(read(t, "Makefile"), want) {
		t.Errorf("the Makefile has no %q, and ko looks there", want)
	}
	if !strings.HasPrefix(read(t, ".ko.yaml"), "# make licenses && ko build ./cmd/ratelimitd") {
		t.Error(".ko.yaml does not say what to run before")
	}
}

// folders returns the folders of this repository that a package is built from, which is of a module.
func folders(t *testing.T, module, name string) []string {
	t.Helper()
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	all := list(t, module, "{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}", name)
	if len(all) == 0 {
		t.Fatalf("%s is built from nothing", name)
	}
	for i, folder := range all {
		relative, err := filepath.Rel(top, folder)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = filepath.ToSlash(relative)
	}
	return all
}

// list returns words about each package that a package of a module is built from.
func list(t *testing.T, module, format, name string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", format, name)
	cmd.Dir = filepath.Join(root, module)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list the packages: %v", err)
	}
	return strings.Fields(string(out))
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
