package prices

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// date is when the lists of the tests are written.
var date = time.Date(2026, time.March, 1, 23, 30, 0, 0, time.FixedZone("west", -8*3600))

// list reads the list of the tests.
func list(t *testing.T) (*List, []byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "list.json"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := Import(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return l, data
}

func TestImportWritesWhatItRead(t *testing.T) {
	l, data := list(t)
	sum := sha256.Sum256(data)
	want := `# Prices of 6 models, USD a token. Written by: ratelimitd prices import
# Source: "list.json"
# SHA-256 of the source: ` + hex.EncodeToString(sum[:]) + `
# Date: 2026-03-02
# Rows: 24, of which 18 could not be used
prices:
  "acme/embedder": {input: 0.00000002, output: 0}
  "acme/free*": {input: 0, output: 0}
  "acme/long-chat": {input: 0.00000125, output: 0.00001, cache_read: 0.0000003125, cache_write: 0.0000015625, ` +
		`above: [{tokens: 200000, input: 0.0000025, output: 0.000015, cache_read: 0.000000625}]}
  "acme/thinker": {input: 0.000001, output: 0.000002, reasoning: 0.000004, ` +
		`above: [{tokens: 32000, input: 0.000002}, {tokens: 128000, input: 0.000003}]}
  "quote \" : { # gr\u00f6\u00dfe": {input: 0.000001, output: 0.000001}
  "tiny-chat": {input: 0.0000002, output: 0.0000006}
`
	if got := string(l.YAML("list.json", date)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	unread := l.Models[2].Unread
	if len(unread) != 2 || unread[0] != "cache_creation_input_token_cost_above_1hr" || unread[1] != "input_cost_per_token_batches" {
		t.Errorf("the costs of acme/long-chat that are left out are %v", unread)
	}
}

func TestImportSaysWhyItRejects(t *testing.T) {
	l, _ := list(t)
	var got []string
	for _, rejected := range l.Rejected {
		got = append(got, rejected.String())
	}
	want := []string{
		`"sample_spec": is the example that explains the format`,
		`"tab\tmodel": has a name that cannot be used: at most 256 bytes, one *, and no control characters`,
		`"256-x-256/painter": is not priced by tokens of text: its mode is "image_generation"`,
		`"acme/listener": is not priced by tokens of text: its mode is "audio_transcription"`,
		`"acme/ranker": is not priced by tokens of text: its mode is "rerank"`,
		`"acme/strange": is not priced by tokens of text: its mode is "[\"chat\"]"`,
		`"acme/unpriced": has no price per token`,
		`"acme/mute": has no output_cost_per_token`,
		`"acme/ranges": has its prices in tiered_pricing, which is not read`,
		`"acme/negative": input_cost_per_token: "-1e-06" is not a price in USD: must not be negative`,
		`"acme/fine": input_cost_per_token: "1.23456789012e-07" is not a price in USD: finer than 0.000000000000001 USD a token, the ` +
			`smallest price; round it`,
		`"acme/dear": input_cost_per_token: "5" is not a price in USD: more than 4.503599627370495 USD a token, the largest price`,
		`"acme/texted": input_cost_per_token: is not a number`,
		`"acme/above-nothing": input_cost_per_token_above_0_tokens: has a bound of tokens that cannot be used`,
		`"acme/*/two-*": has a name that cannot be used: at most 256 bytes, one *, and no control characters`,
		`"acme/number": is not an object`,
		`"acme/nothing": is not an object`,
		`"tiny-chat": stands twice; the first row counts`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if l.Rows != len(l.Models)+len(l.Rejected) {
		t.Errorf("of %d rows %d can be used and %d are rejected", l.Rows, len(l.Models), len(l.Rejected))
	}
}

func TestAPolicyTakesWhatIsWritten(t *testing.T) {
	l, _ := list(t)
	folder := t.TempDir()
	files := map[string]string{
		"prices.yaml": string(l.YAML("list.json", date)),
		"policy.yaml": "domain: a\nsubjects: {user: {key: user_id}}\ncost: {prices_file: prices.yaml}\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	snapshot, _, err := policy.Load(filepath.Join(folder, "policy.yaml"), policy.Adjustments{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		model string
		usage budget.Usage
		want  int64
	}{
		{"tiny-chat", budget.Usage{Input: 868, Output: 145}, 260_600},
		{"acme/free-beer", budget.Usage{Input: 868, Output: 145}, 0},
		{`quote " : { # größe`, budget.Usage{Input: 1}, 1000},
		{"acme/long-chat", budget.Usage{Input: 199_999, CacheRead: 1, Output: 1}, 249_998_750 + 313 + 10_000},
		{"acme/long-chat", budget.Usage{Input: 200_000, CacheRead: 1, Output: 1}, 500_000_000 + 625 + 15_000},
		{"acme/thinker", budget.Usage{Input: 128_001, Reasoning: 1}, 384_003_000 + 4000},
	} {
		price, _, ok := snapshot.Prices().Find(tc.model, 0)
		if !ok {
			t.Errorf("%s has no price", tc.model)
			continue
		}
		if cost, err := price.Cost(tc.usage); err != nil || cost.Total != tc.want {
			t.Errorf("%s: %+v costs %+v, %v; want %d", tc.model, tc.usage, cost, err, tc.want)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ text, says string }{
		"nothing":        {"", "one JSON object"},
		"a list":         {"[]", "one JSON object"},
		"a text":         {`"x"`, "one JSON object"},
		"a part of one":  {`{"a": {}`, "behind row 1"},
		"half a row":     {`{"a": {"mode": `, "row 1"},
		"no JSON":        {`{a: 1}`, "row 1"},
		"two of them":    {`{} {}`, "more follows"},
		"deep nesting":   {`{"a": ` + strings.Repeat("[", 100_000), "row 1"},
		"more than fits": {strings.Repeat(" ", maxBytes+1), "larger than 32 MiB"},
	} {
		if l, err := Import(strings.NewReader(tc.text)); !errors.Is(err, ErrList) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, %v; want an error that says %q", name, l, err, tc.says)
		}
	}
	if l, err := Import(strings.NewReader("{}")); err != nil || l.Rows != 0 {
		t.Errorf("a list without rows: got %+v, %v", l, err)
	}
}

func FuzzImport(f *testing.F) {
	data, err := os.ReadFile(filepath.Join("testdata", "list.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"a*": {"input_cost_per_token": 1e-9, "output_cost_per_token": 0, "output_cost_per_token_above_1_tokens": 1}}`))
	f.Add([]byte(`{"\u2028\ud800 '": {"input_cost_per_token": 0, "mode": "embedding"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Import(bytes.NewReader(data))
		if err != nil || len(l.Models) == 0 {
			return
		}
		if err := policy.CheckPrices("fuzz", l.YAML("fuzz\n.json", date)); err != nil {
			t.Errorf("a policy refuses what was written: %v", err)
		}
	})
}
