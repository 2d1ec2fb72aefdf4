package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/tools/image/notices"
)

const source = "../../.."

// TestTheFolderHasTheLicencesOfAProgram takes this test for the program.
func TestTheFolderHasTheLicencesOfAProgram(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "new", "licenses")
	if err := run(t.Context(), []string{"-source", source, "-out", out, program, program}); err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(filepath.Join(source, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, out, "LICENSE"); !bytes.Equal(got, own) {
		t.Errorf("LICENSE is %q", got)
	}
	parts, err := linked(program)
	if err != nil {
		t.Fatal(err)
	}
	if missing := notices.Missing(read(t, out, "THIRD_PARTY_NOTICES"), parts); len(missing) > 0 {
		t.Errorf("THIRD_PARTY_NOTICES does not name %v", missing)
	}
}

func read(t *testing.T, folder, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	out := filepath.Join(t.TempDir(), "licenses")
	for _, tc := range []struct {
		program []string
		want    string
	}{
		{nil, "no program is named"},
		{[]string{"nowhere"}, "nowhere: open the program"},
		{[]string{"main.go"}, "main.go: read what the program is built from"},
	} {
		err := run(t.Context(), append([]string{"-source", source, "-out", out}, tc.program...))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("of %q it says %v, want %q", tc.program, err, tc.want)
		}
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("it has left a folder: %v", err)
	}
}
