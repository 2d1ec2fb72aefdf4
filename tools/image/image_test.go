package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// testProgram says its version, and is linked from a module.
const testProgram = `package main

import _ "github.com/google/go-containerregistry/pkg/name"

func main() { println("program v1.2.3") }
`

// testSpec is of an image for both platforms.
func testSpec(t *testing.T) *spec {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(testProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &spec{name: "example.com/program", version: "v1.2.3", revision: "abc", created: time.Unix(1_700_000_000, 0), source: root}
	for _, arch := range []string{"amd64", "arm64"} {
		path := filepath.Join(dir, arch)
		build := exec.CommandContext(t.Context(), "go", "build", "-o", path, source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v: %s", err, out)
		}
		s.programs = append(s.programs, program{platform: v1.Platform{OS: "linux", Architecture: arch}, path: path})
	}
	return s
}

// write writes an image of a spec to a file.
func write(t *testing.T, s *spec, change func(v1.ImageIndex) v1.ImageIndex) string {
	t.Helper()
	index, err := s.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		index = change(index)
	}
	names, err := s.annotations()
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := writeArchive(archive, index, names); err != nil {
		t.Fatal(err)
	}
	return archive
}

func TestAnImageIsWhatItWasMadeOf(t *testing.T) {
	s := testSpec(t)
	found, err := check(t.Context(), write(t, s, nil), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 {
		t.Errorf("it has %q, want two platforms", found)
	}
	if runtime.GOOS == "linux" && !strings.Contains(strings.Join(found, "\n"), "program v1.2.3") {
		t.Errorf("the program was not run: %q", found)
	}
}

func TestATagIsTheVersionAsRegistriesTakeIt(t *testing.T) {
	for version, want := range map[string]string{
		"v0.1.0":                       "v0.1.0",
		"v0.1.0+build.5":               "v0.1.0-build.5",
		"v0.1.0-rc.1-3-gabcdef0-dirty": "v0.1.0-rc.1-3-gabcdef0-dirty",
		"devel":                        "devel",
		strings.Repeat("1", 128):       strings.Repeat("1", 128),
		strings.Repeat("1", 129):       "",
		"":                             "",
		"+1":                           "",
		".1":                           "",
		"v1/2":                         "",
		"v1 2":                         "",
		"v1:2":                         "",
		"v1\n":                         "",
		"é":                            "",
	} {
		got, err := (&spec{version: version}).tag()
		if got != want || (err == nil) != (want != "") {
			t.Errorf("the tag of version %q is %q (%v), want %q", version, got, err, want)
		}
	}
}

func TestAnImageHasItsVersionAndATagThatRegistriesTake(t *testing.T) {
	s := testSpec(t)
	s.version = "v1.2.3+build.5"
	archive := write(t, s, nil)
	index, err := readIndex(unpacked(t, archive), s)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Config.Labels["org.opencontainers.image.version"]; got != s.version {
		t.Errorf("its version is %q, want %q", got, s.version)
	}
	all, err := layout.ImageIndexFromPath(unpacked(t, archive))
	if err != nil {
		t.Fatal(err)
	}
	outer, err := all.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	const want = "example.com/program:v1.2.3-build.5"
	if got := outer.Manifests[0].Annotations["io.containerd.image.name"]; got != want {
		t.Errorf("its name is %q, want %q", got, want)
	}
}

// unpacked returns a folder with what is in an archive.
func unpacked(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unpack(archive, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTheSameImageTwiceIsTheSameFile(t *testing.T) {
	s := testSpec(t)
	var files [2][]byte
	for i := range files {
		var err error
		if files[i], err = os.ReadFile(write(t, s, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the files differ")
	}
}

func TestCheckRefuses(t *testing.T) {
	s := testSpec(t)
	for _, tc := range []struct {
		name   string
		spec   func(s *spec)                           // changes what the image is made of
		change func(index v1.ImageIndex) v1.ImageIndex // changes the image
		want   string
	}{
		{name: "a missing platform", change: func(index v1.ImageIndex) v1.ImageIndex {
			return mutate.RemoveManifests(index, func(d v1.Descriptor) bool { return d.Platform.Architecture == "arm64" })
		}, want: "linux/arm64: it is not in the image"},
		{name: "the program of another platform", spec: func(s *spec) {
			s.programs[0].path, s.programs[1].path = s.programs[1].path, s.programs[0].path
		}, want: "linux/amd64: /ratelimitd is for EM_AARCH64"},
		{name: "no program", change: overlay(t, file{name: programFile, mode: 0o755, content: []byte("#!/bin/sh\n")}), want: "is no program of Linux"},
		{name: "a program that is too large", spec: func(s *spec) {
			s.programs[0].path = grown(t, s.programs[0].path)
		}, want: "linux/amd64: a node pulls"},
		{name: "another user", change: edit(t, func(c *v1.Config) { c.User = "0" }), want: "the user is 0, want 65532:65532"},
		{name: "another entry point", change: edit(t, func(c *v1.Config) { c.Entrypoint = nil }), want: "the entry point is []"},
		{name: "another label", change: edit(t, func(c *v1.Config) { c.Labels = nil }), want: "the set of labels is map[]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			made := *s
			made.programs = append([]program(nil), s.programs...)
			if tc.spec != nil {
				tc.spec(&made)
			}
			if _, err := check(t.Context(), write(t, &made, tc.change), s); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("it says %v, want %q", err, tc.want)
			}
		})
	}
	t.Run("another version", func(t *testing.T) {
		other := *s
		other.version = "v9"
		if _, err := check(t.Context(), write(t, &other, nil), &other); err == nil || !strings.Contains(err.Error(), "want version v9") {
			t.Errorf("it says %v", err)
		}
	})
	t.Run("another tag", func(t *testing.T) {
		index, err := s.build(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		archive := filepath.Join(t.TempDir(), "image.tar")
		if err := writeArchive(archive, index, map[string]string{"io.containerd.image.name": "example.com/program:v9"}); err != nil {
			t.Fatal(err)
		}
		if _, err := check(t.Context(), archive, s); err == nil || !strings.Contains(err.Error(), "the image is named") {
			t.Errorf("it says %v", err)
		}
	})
	t.Run("a damaged file", func(t *testing.T) {
		archive := write(t, s, nil)
		content, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 1
		if err := os.WriteFile(archive, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := check(t.Context(), archive, s); err == nil {
			t.Error("nothing is said")
		}
	})
}

// grown returns a copy of a program with more after its end than a node may have to pull.
func grown(t *testing.T, program string) string {
	t.Helper()
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, maxBytes)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise) // never errs
	path := filepath.Join(t.TempDir(), "grown")
	if err := os.WriteFile(path, append(content, noise...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// edit changes the config of every platform's image.
func edit(t *testing.T, change func(*v1.Config)) func(v1.ImageIndex) v1.ImageIndex {
	t.Helper()
	return eachImage(t, func(image v1.Image) (v1.Image, error) {
		config, err := image.ConfigFile()
		if err != nil {
			return nil, err
		}
		config = config.DeepCopy()
		change(&config.Config)
		return mutate.ConfigFile(image, config)
	})
}

// overlay puts files over those of every platform's image.
func overlay(t *testing.T, files ...file) func(v1.ImageIndex) v1.ImageIndex {
	t.Helper()
	return eachImage(t, func(image v1.Image) (v1.Image, error) {
		top, err := layer(files...)
		if err != nil {
			return nil, err
		}
		return mutate.AppendLayers(image, top)
	})
}

// eachImage changes every platform's image.
func eachImage(t *testing.T, change func(v1.Image) (v1.Image, error)) func(v1.ImageIndex) v1.ImageIndex {
	t.Helper()
	return func(index v1.ImageIndex) v1.ImageIndex {
		manifest, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range manifest.Manifests {
			image, err := index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			if image, err = change(image); err != nil {
				t.Fatal(err)
			}
			index = mutate.RemoveManifests(index, func(old v1.Descriptor) bool { return old.Digest == d.Digest })
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: d.Platform}})
		}
		return index
	}
}

func TestABundleOfFewAuthoritiesIsRefused(t *testing.T) {
	if err := checkRoots(roots()); err != nil {
		t.Error(err)
	}
	if err := checkRoots(roots()[:1<<14]); err == nil {
		t.Error("a cut bundle is accepted")
	}
}
