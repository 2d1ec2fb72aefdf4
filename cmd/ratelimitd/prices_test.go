package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPricesImport(t *testing.T) {
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	for name, text := range map[string]string{
		"list.json": `{"tiny": {"input_cost_per_token": 2e-07, "output_cost_per_token": 6e-07, "input_cost_per_token_batches": 1e-07},
			"painter": {"mode": "image_generation"}}`,
		"useless.json": `{"painter": {"mode": "image_generation"}}`,
		"broken.json":  `{"tiny": `,
		"policy.yaml":  "domain: a\nsubjects: {user: {key: user_id}}\ncost: {prices_file: prices.yaml, hold: {model: tiny}}\n",
		"prices.yaml":  "an older one",
	} {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	out, err := run(t, nil, "prices", "import", path("list.json"), "-o", path("prices.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`rejected "painter": is not priced by tokens of text`, "1 of 2 rows can be used, 1 are rejected", "1 of those that can be used have further costs",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it says\n%s\nwant it to hold %q", out, want)
		}
	}
	written, err := os.ReadFile(path("prices.yaml"))
	if err != nil || !strings.Contains(string(written), `# Source: "list.json"`) {
		t.Errorf("it wrote\n%s, %v", written, err)
	}
	if left, err := filepath.Glob(path(".prices-*")); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	if out, err := run(t, nil, "check-config", path("policy.yaml")); err != nil || !strings.Contains(out, "Prices: 1 model(s)") {
		t.Errorf("a policy with the prices: %s, %v", out, err)
	}

	out, err = run(t, nil, "prices", "import", path("list.json"))
	if err != nil || !strings.Contains(out, `  "tiny": {input: 0.0000002, output: 0.0000006}`) {
		t.Errorf("without -o it prints\n%s, %v; want the prices", out, err)
	}

	for name, want := range map[string]string{
		"useless.json": "no row can be used", "broken.json": "row 1", "missing.json": "no such file",
	} {
		_, err := run(t, nil, "prices", "import", path(name), "-o", path("prices.yaml"))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path(name)) {
			t.Errorf("%s: it ended with %v, want the file's name and %q", name, err, want)
		}
	}
	if again, err := os.ReadFile(path("prices.yaml")); err != nil || !bytes.Equal(again, written) {
		t.Errorf("an import that failed left\n%s, %v; want the file as it was", again, err)
	}
	if _, err := run(t, nil, "prices", "import", path("list.json"), "-o", path("no/prices.yaml")); err == nil {
		t.Error("it writes into a folder that is not there")
	}
	if _, err := run(t, nil, "prices", "import"); err == nil {
		t.Error("it imports nothing")
	}
}
