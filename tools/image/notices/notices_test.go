package notices_test

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/tools/image/notices"
)

// publish makes a module with these files known to the go command, as example.com/NAME v1.0.0.
func publish(t *testing.T, proxy, name string, files map[string]string) {
	t.Helper()
	path := "example.com/" + name
	goMod := "module " + path + "\n\ngo 1.26\n"
	files["go.mod"], files["code.go"] = goMod, "package "+name+"\n\nconst Name = \""+name+"\"\n"
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	for file, content := range files {
		out, err := w.Create(path + "@v1.0.0/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, filepath.Join(proxy, path, "@v"), map[string]string{
		"v1.0.0.info": `{"Version":"v1.0.0","Time":"2020-01-01T00:00:00Z"}`, "v1.0.0.mod": goMod, "v1.0.0.zip": packed.String(),
	})
}

func writeFiles(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// project is a program that is linked from the modules "mit" and "apache", and requires one more that has no licence and is
// linked only if it is asked for. It returns the program's folder.
func project(t *testing.T, imports ...string) string {
	t.Helper()
	proxy, folder := t.TempDir(), t.TempDir()
	publish(t, proxy, "mit", map[string]string{"LICENSE.txt": "MIT License\n\nCopyright (c) mit\n"})
	publish(t, proxy, "apache", map[string]string{"LICENSE": "Apache License\n", "NOTICE": "Copyright apache\n"})
	publish(t, proxy, "bare", map[string]string{"README.md": "All rights reserved\n"})
	for name, value := range map[string]string{
		"GOPROXY": "file://" + filepath.ToSlash(proxy), "GOSUMDB": "off", "GOMODCACHE": t.TempDir(), "GOFLAGS": "-modcacherw -mod=mod",
		"GOWORK": "off", "GONOPROXY": "none", "GOPRIVATE": "", "CGO_ENABLED": "0",
	} {
		t.Setenv(name, value)
	}
	source, words := "package main\n\n", ""
	for _, name := range imports {
		source += "import \"example.com/" + name + "\"\n"
		words += name + ".Name, "
	}
	writeFiles(t, folder, map[string]string{
		"main.go": source + "\nfunc main() { println(" + strings.TrimSuffix(words, ", ") + ") }\n",
		"go.mod": "module example.com/program\n\ngo 1.26\n\nrequire (\n\texample.com/mit v1.0.0\n\texample.com/apache v1.0.0\n" +
			"\texample.com/bare v1.0.0\n)\n",
		"LICENSE": "The program's own\n",
	})
	return folder
}

// linked builds the program of a folder and returns its parts.
func linked(t *testing.T, folder string) ([]notices.Part, error) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, ".")
	build.Dir = folder
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	in, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	return notices.Linked(in)
}

// collected returns the notices of the parts of a program, and checks that all are named.
func collected(t *testing.T, folder string, parts []notices.Part) string {
	t.Helper()
	license, thirdParty, err := notices.Files(t.Context(), folder, parts)
	if err != nil {
		t.Fatal(err)
	}
	if string(license) != "The program's own\n" {
		t.Errorf("the program's own licence is %q", license)
	}
	if missing := notices.Missing(thirdParty, parts); len(missing) > 0 {
		t.Errorf("they do not name %v", missing)
	}
	return string(thirdParty)
}

// says fails the test unless an error has these words.
func says(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("it says %v, want %q", err, want)
	}
}

func TestNoticesHaveTheTextsOfWhatIsLinked(t *testing.T) {
	folder := project(t, "mit", "apache")
	parts, err := linked(t, folder)
	if err != nil {
		t.Fatal(err)
	}
	got := collected(t, folder, parts)
	rule := strings.Repeat("=", 80)
	for _, want := range []string{
		"\n" + rule + "\nThe Go standard library and runtime " + parts[0].Version + "\n" + rule + "\n" +
			"\n[LICENSE]\n\nCopyright 2009 The Go Authors.\n",
		"\n" + rule + "\nexample.com/apache v1.0.0\n" + rule + "\n\n[LICENSE]\n\nApache License\n\n[NOTICE]\n\nCopyright apache\n" +
			"\n" + rule + "\nexample.com/mit v1.0.0\n" + rule + "\n\n[LICENSE.txt]\n\nMIT License\n\nCopyright (c) mit\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no\n%s\nin\n%s", want, got)
		}
	}
	if strings.Contains(got, "example.com/bare") {
		t.Error("a module is named that is required and not linked")
	}
	if strings.Contains(got, "example.com/program") {
		t.Error("the program itself is named among others")
	}
}

func TestNoticesOfTheSamePartsAreTheSame(t *testing.T) {
	folder := project(t, "mit", "apache")
	parts, err := linked(t, folder)
	if err != nil {
		t.Fatal(err)
	}
	want := collected(t, folder, parts)
	t.Setenv("GOMODCACHE", t.TempDir())
	reversed := []notices.Part{parts[2], parts[1], parts[0], parts[1]}
	if got := collected(t, folder, reversed); got != want {
		t.Errorf("from another cache, in another order, with one part twice, they are\n%s\nwant\n%s", got, want)
	}
}

func TestAModuleWithoutALicenceIsNamed(t *testing.T) {
	folder := project(t, "mit", "bare")
	parts, err := linked(t, folder)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = notices.Files(t.Context(), folder, parts)
	says(t, err, "example.com/bare v1.0.0, in ")
	says(t, err, "it has no licence")
}

func TestAProgramOfAFolderThatIsNoVersionIsRefused(t *testing.T) {
	folder, other := project(t, "mit"), t.TempDir()
	writeFiles(t, other, map[string]string{
		"go.mod": "module example.com/mit\n", "code.go": "package mit\n\nconst Name = \"changed\"\n",
	})
	goMod, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, folder, map[string]string{"go.mod": string(goMod) + "\nreplace example.com/mit => " + other + "\n"})
	_, err = linked(t, folder)
	says(t, err, "built from example.com/mit in a folder of this machine")
}

func TestAModuleThatIsReplacedByAnotherHasTheLicenceOfThat(t *testing.T) {
	folder := project(t, "mit")
	goMod, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	forked := strings.Replace(string(goMod), "\texample.com/apache v1.0.0\n", "", 1) +
		"\nreplace example.com/mit => example.com/apache v1.0.0\n"
	writeFiles(t, folder, map[string]string{
		"go.mod": forked, "main.go": "package main\n\nimport mit \"example.com/mit\"\n\nfunc main() { println(mit.Name) }\n",
	})
	parts, err := linked(t, folder)
	if err != nil {
		t.Fatal(err)
	}
	got := collected(t, folder, parts)
	if !strings.Contains(got, "\nexample.com/apache v1.0.0\n") || strings.Contains(got, "example.com/mit") {
		t.Errorf("they are\n%s", got)
	}
}

func TestFilesRefuse(t *testing.T) {
	folder := project(t, "mit")
	parts, err := linked(t, folder)
	if err != nil {
		t.Fatal(err)
	}
	goPart, mit := parts[0], parts[1]
	for _, tc := range []struct {
		name string
		part notices.Part
		want string
	}{
		{"files that are not those that were linked", notices.Part{Name: mit.Name, Version: mit.Version, Sum: "h1:other="}, "example.com/mit v1.0.0 has the checksum h1:"},
		{"a module that is nowhere", notices.Part{Name: "example.com/nowhere", Version: "v1.0.0", Sum: "h1:x="}, "download example.com/nowhere v1.0.0: "},
		{"a name that is a flag", notices.Part{Name: "-x", Version: "v1.0.0", Sum: "h1:x="}, "-x v1.0.0"},
		{"another release of Go", notices.Part{Name: goPart.Name, Version: "go1.2.3"}, "the program is built by go1.2.3, and here is go1."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := notices.Files(t.Context(), folder, []notices.Part{tc.part, mit})
			says(t, err, tc.want)
		})
	}
	if err := os.Remove(filepath.Join(folder, "LICENSE")); err != nil {
		t.Fatal(err)
	}
	_, _, err = notices.Files(t.Context(), folder, parts)
	says(t, err, "the program's own licence")
}

func TestWhatIsNoProgramOfGoHasNoParts(t *testing.T) {
	if _, err := notices.Linked(strings.NewReader("#!/bin/sh\n")); err == nil {
		t.Error("nothing is said")
	}
}

func TestMissing(t *testing.T) {
	rule := strings.Repeat("=", 80)
	one, two := notices.Part{Name: "example.com/one", Version: "v1.0.0"}, notices.Part{Name: "example.com/two", Version: "v2.0.0"}
	section := func(name, body string) string { return "\n" + rule + "\n" + name + "\n" + rule + "\n" + body }
	for _, tc := range []struct {
		name, text string
		want       int
	}{
		{"both", "words\n" + section("example.com/one v1.0.0", "\nMIT\n") + section("example.com/two v2.0.0", "\nMIT\n"), 0},
		{"one alone", section("example.com/one v1.0.0", "\nMIT\n"), 1},
		{"another version", section("example.com/one v1.0.1", "\nMIT\n") + section("example.com/two v2.0.0", "\nMIT\n"), 1},
		{"a name without a text", section("example.com/one v1.0.0", "\n\n") + section("example.com/two v2.0.0", ""), 2},
		{"names in a text", section("example.com/three v1.0.0", "\nexample.com/one v1.0.0\n\nexample.com/two v2.0.0\n"), 2},
		{"nothing", "", 2},
	} {
		if got := notices.Missing([]byte(tc.text), []notices.Part{one, two}); len(got) != tc.want {
			t.Errorf("%s: missing are %v, want %d", tc.name, got, tc.want)
		}
	}
}
