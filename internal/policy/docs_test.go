package policy

import (
	"os"
	"strings"
	"testing"
)

// TestThePoliciesOfTheDocumentAreRight reads each policy, and each part of one, that docs/policy.md shows.
func TestThePoliciesOfTheDocumentAreRight(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```yaml\n")[1:]
	if len(blocks) < 4 {
		t.Errorf("the document shows %d policies, want those that are known to stand there", len(blocks))
	}
	for _, block := range blocks {
		shown, _, _ := strings.Cut(block, "```")
		if !strings.Contains(shown, "domain:") {
			shown = head + shown
		}
		if _, _, err := Parse("docs/policy.md", []byte(shown), Adjustments{}); err != nil {
			t.Errorf("the document shows\n%s\nwhich is refused: %v", shown, err)
		}
	}
}
