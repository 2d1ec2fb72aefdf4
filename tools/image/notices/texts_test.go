package notices

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestTextsAreTheFilesThatLicencesAreWrittenIn(t *testing.T) {
	folder := fstest.MapFS{}
	for _, name := range []string{
		"LICENSE", "LICENCE.txt", "COPYING", "License.md", "license", "UNLICENSE", "LICENSE-MIT", "LICENSE.libyaml", "NOTICE",
		"NOTICE.txt", "PATENTS", "COPYRIGHT", "LICENSES.txt", "internal/taken/LICENSE", "internal/taken/notice",
	} {
		folder[name] = &fstest.MapFile{Data: []byte("\n\n  Copyright " + name + "\n\n")}
	}
	want := []string{}
	for name := range folder {
		want = append(want, name+": "+"  Copyright "+name)
	}
	slices.Sort(want)
	for _, name := range []string{
		"license.go", "licenses_test.go", "license.tmpl", "license_missing.prototext", "checklicense.sh", "README.md", "notices.go",
		"testdata/LICENSE", "internal/testdata/deep/LICENSE", "LICENSES/README",
	} {
		folder[name] = &fstest.MapFile{Data: []byte("no licence")}
	}
	all, err := texts(folder, false)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, text := range all {
		got = append(got, text.name+": "+string(text.content))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the texts are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheTopAloneHasTheTextsOfGo(t *testing.T) {
	all, err := texts(fstest.MapFS{
		"LICENSE": {Data: []byte("Go")}, "src/cmd/vendor/golang.org/x/mod/LICENSE": {Data: []byte("not linked")},
	}, true)
	if err != nil || len(all) != 1 || all[0].name != "LICENSE" {
		t.Errorf("the texts are %v (%v), want LICENSE alone", all, err)
	}
}

func TestThereIsNoLicence(t *testing.T) {
	for name, folder := range map[string]fstest.MapFS{
		"in an empty folder":     {},
		"in a notice":            {"NOTICE": {Data: []byte("Copyright")}, "PATENTS": {Data: []byte("Patents")}},
		"in a text of blanks":    {"LICENSE": {Data: []byte("\n \t\n")}},
		"in code of others only": {"internal/taken/LICENSE": {Data: []byte("Copyright")}},
		"in a folder of them":    {"licenses/LICENSE": {Data: []byte("Copyright")}},
		"in a test only":         {"testdata/LICENSE": {Data: []byte("Copyright")}},
	} {
		if _, err := texts(folder, false); err == nil || !strings.Contains(err.Error(), "it has no licence") {
			t.Errorf("%s: it says %v", name, err)
		}
	}
}

func TestATextIsBounded(t *testing.T) {
	_, err := texts(fstest.MapFS{"a/LICENSE": {Data: make([]byte, maxText+1)}}, false)
	if err == nil || !strings.Contains(err.Error(), "a/LICENSE has more than 1048576 bytes") {
		t.Errorf("it says %v", err)
	}
}
