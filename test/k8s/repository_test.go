package k8s

import (
	"os"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// repository returns the root of the repository.
func repository(t *testing.T) string { t.Helper(); return harness.Root(t) }

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read a file: %v", err)
	}
	return string(text)
}
