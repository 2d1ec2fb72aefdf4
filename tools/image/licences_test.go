package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ratelimitd/ratelimitd/tools/image/notices"
)

func TestAnImageHasTheLicencesOfWhatIsInIt(t *testing.T) {
	s := testSpec(t)
	index, err := readIndex(unpacked(t, write(t, s, nil)), s)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range manifest.Manifests {
		image, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		files, err := readFiles(image)
		if err != nil {
			t.Fatal(err)
		}
		own, err := os.ReadFile(filepath.Join(root, "LICENSE"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(files["licenses/LICENSE"].content, own) {
			t.Errorf("%s: /licenses/LICENSE is not the project's", d.Platform)
		}
		others := string(files["licenses/THIRD_PARTY_NOTICES"].content)
		for _, want := range []string{
			`\nThe Go standard library and runtime go1\..*\n=+\n\n\[LICENSE\]\n\nCopyright 2009 The Go Authors\.\n`,
			`\ngithub.com/google/go-containerregistry v\d.*\n=+\n\n\[LICENSE\]\n\n\s*Apache License\n`,
			`\ngolang.org/x/crypto/x509roots/fallback v\d.*\n=+\n\n\[LICENSE\]\n\nCopyright 2009 The Go Authors\.\n`,
		} {
			if !regexp.MustCompile(want).MatchString(others) {
				t.Errorf("%s: /licenses/THIRD_PARTY_NOTICES has nothing like %q", d.Platform, want)
			}
		}
	}
}

func TestCheckRefusesAnImageWithoutItsLicences(t *testing.T) {
	s := testSpec(t)
	program, err := os.ReadFile(s.programs[0].path)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := parts(t.Context(), program)
	if err != nil {
		t.Fatal(err)
	}
	_, complete, err := notices.Files(t.Context(), s.source, parts)
	if err != nil {
		t.Fatal(err)
	}
	third := licencesFolder + notices.ThirdParty
	for _, tc := range []struct {
		name   string
		change func(v1.ImageIndex) v1.ImageIndex
		want   string
	}{
		{"no LICENSE", overlay(t, file{name: "licenses/.wh.LICENSE"}), "/licenses/LICENSE has 0 bytes"},
		{"no THIRD_PARTY_NOTICES", overlay(t, file{name: "licenses/.wh.THIRD_PARTY_NOTICES"}), "/licenses/THIRD_PARTY_NOTICES has 0 bytes"},
		{"an empty LICENSE", overlay(t, file{name: "licenses/LICENSE", mode: 0o644}), "/licenses/LICENSE has 0 bytes"},
		{"a LICENSE that root alone can read", overlay(t, file{name: "licenses/LICENSE", mode: 0o600, content: []byte("Apache")}), "mode 600"},
		{
			"a module that is not named",
			overlay(t, file{name: third, mode: 0o644, content: bytes.ReplaceAll(complete, []byte("go-containerregistry v"), []byte("other v"))}),
			"/licenses/THIRD_PARTY_NOTICES has no licence of github.com/google/go-containerregistry v",
		},
		{
			"Go in another version",
			overlay(t, file{name: third, mode: 0o644, content: bytes.ReplaceAll(complete, []byte("runtime go1."), []byte("runtime go2."))}),
			"has no licence of The Go standard library and runtime go1.",
		},
		{
			"authorities that are not named",
			overlay(t, file{name: third, mode: 0o644, content: bytes.ReplaceAll(complete, []byte("x509roots"), []byte("roots"))}),
			"has no licence of golang.org/x/crypto/x509roots/fallback v",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := check(t.Context(), write(t, s, tc.change), s); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("it says %v, want %q", err, tc.want)
			}
		})
	}
}

func TestThereIsNoImageOfAProgramThatDoesNotSayWhatItIsLinkedFrom(t *testing.T) {
	s := testSpec(t)
	s.programs[0].path = "image_test.go"
	if _, err := s.build(t.Context()); err == nil || !strings.Contains(err.Error(), "linux/amd64: name what is linked") {
		t.Errorf("it says %v", err)
	}
}
