package policy

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
)

// costly is a policy with a section cost.
func costly(cost string) string {
	return head + "cost:\n  " + strings.ReplaceAll(strings.TrimSpace(cost), "\n", "\n  ") + "\n"
}

// priceOf returns what a call costs under a policy, nano-USD; -1 if the model has no price.
func priceOf(t *testing.T, s *Snapshot, model string, at int64, u budget.Usage) int64 {
	t.Helper()
	p, _, ok := s.Prices().Find(model, at)
	if !ok {
		return -1
	}
	cost, err := p.Cost(u)
	if err != nil {
		t.Fatal(err)
	}
	return cost.Total
}

func TestCostIsNeverNilAndHasDefaults(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no section": head, "an empty section": head + "cost: {}\n", "no prices": costly("prices: {}"),
		"the defaults written out": costly("lease: 30s\non_expiry: charge\non_release: keep_requests\non_unknown_price: deny\n" +
			"on_unknown_usage: charge_hold"),
	} {
		s := mustParse(t, text)
		c := s.Cost()
		if c.Lease != 30*time.Second || c.ReleaseOnExpiry || c.ReturnRequests || c.OnUnknownPrice != DenyUnpriced ||
			c.Hold != (HoldRule{}) || c.UnknownUsage("success") != ChargeHold || c.UnknownUsage("") != ChargeHold {
			t.Errorf("%s: got %+v", name, c)
		}
		if _, _, ok := s.Prices().Find("x", 0); ok || s.Prices() == nil {
			t.Errorf("%s: a price is found where there is none", name)
		}
		if s.Hash() != mustParse(t, head).Hash() {
			t.Errorf("%s: the hash is another one", name)
		}
	}
}

func TestCostSaysWhatThePolicySays(t *testing.T) {
	t.Parallel()
	c := mustParse(t, costly(`
prices: {m: {input: 0.000001, output: 0.000002}}
default_price: {input: 3, output: 4, per: 1M}
lease: 2m
on_expiry: release
on_release: return_requests
on_unknown_price: default
on_unknown_usage: {error: release, timeout: charge_input}
hold: {model: m, input_tokens: 4_000, max_output_tokens: "1000"}`))
	want := HoldRule{Model: "m", InputTokens: 4000, MaxOutputTokens: 1000}
	if got := c.Cost(); got.Lease != 2*time.Minute || !got.ReleaseOnExpiry || !got.ReturnRequests ||
		got.OnUnknownPrice != DefaultPriced || got.Hold != want {
		t.Errorf("got %+v", got)
	}
	for outcome, want := range map[string]UnknownUsage{
		"success": ChargeHold, "error": ReleaseHold, "cancelled": ChargeHold, "timeout": ChargeInput, "": ChargeHold, "other": ChargeHold,
	} {
		if got := c.Cost().UnknownUsage(outcome); got != want {
			t.Errorf("usage unknown after %q: got %s, want %s", outcome, got, want)
		}
	}
	if p, ok := c.Prices().Default(0); !ok || p.Tiers()[0].Rates.Input != 3_000_000_000 {
		t.Errorf("the default price is %v, %v", p, ok)
	}
	fixed := mustParse(t, costly("on_unknown_usage: release\non_unknown_price: allow_and_flag\nhold: {usd: 0.01, input_tokens: 5}")).Cost()
	if fixed.Hold != (HoldRule{USD: 10_000_000, InputTokens: 5}) || fixed.OnUnknownPrice != AllowUnpriced ||
		fixed.UnknownUsage("cancelled") != ReleaseHold || fixed.UnknownUsage("") != ReleaseHold {
		t.Errorf("got %+v", fixed)
	}
}

func TestPrices(t *testing.T) {
	t.Parallel()
	const newYear = 1767225600 // 2026-01-01T00:00:00Z
	s := mustParse(t, costly(`
prices:
  plain: {input: 0.0000002, output: 6e-07, aliases: [other, "plain-*"]}
  quoted: {input: "0.0000002", output: "6e-07"}
  million: {input: 0.2, output: 0.6, per: 1M, cache_read: 0.02, cache_write: 0.25, reasoning: 0.7}
  thousand: {input: 0.0002, output: 0.0006, per: 1K}
  "gpt-*": {input: 0.000001, output: 0.000002}
  tiered:
    input: 1
    output: 2
    per: 1M
    above:
      - {tokens: 200_000, input: 2, output: 3}
      - {tokens: 100000, output: 5}
  dated:
    versions:
      - {input: 1, output: 1}
      - {effective_from: 2026-01-01, input: 2, output: 2}
      - {effective_from: "2026-01-01T01:00:00+01:30", input: 3, output: 3}
    per: 1M
  later: {input: 1, output: 1, effective_from: 2026-01-01}
`))
	llama := budget.Usage{Input: 868, Output: 145}
	for _, tc := range []struct {
		model string
		at    int64
		usage budget.Usage
		want  int64
	}{
		{"plain", 0, llama, 260_600},
		{"other", 0, llama, 260_600},
		{"plain-x", 0, llama, 260_600},
		{"quoted", 0, llama, 260_600},
		{"million", 0, llama, 260_600},
		{"thousand", 0, llama, 260_600},
		{"million", 0, budget.Usage{CacheRead: 1000, CacheWrite: 1000, Reasoning: 1000}, 20_000 + 250_000 + 700_000},
		{"gpt-4o", 0, budget.Usage{Input: 1}, 1000},
		{"tiered", 0, budget.Usage{Input: 100_000, Output: 1}, 100_000_000 + 2000},
		{"tiered", 0, budget.Usage{Input: 100_001, Output: 1}, 100_001_000 + 5000},
		{"tiered", 0, budget.Usage{Input: 200_001, Output: 1}, 400_002_000 + 3000},
		{"dated", math.MinInt64, budget.Usage{Input: 1}, 1000},
		{"dated", newYear - 1801, budget.Usage{Input: 1}, 1000},
		{"dated", newYear - 1800, budget.Usage{Input: 1}, 3000},
		{"dated", newYear, budget.Usage{Input: 1}, 2000},
		{"later", newYear - 1, budget.Usage{Input: 1}, -1},
		{"later", newYear, budget.Usage{Input: 1}, 1_000_000_000},
		{"none", 0, budget.Usage{Input: 1}, -1},
	} {
		if got := priceOf(t, s, tc.model, tc.at, tc.usage); got != tc.want {
			t.Errorf("%s at %d: %+v costs %d, want %d", tc.model, tc.at, tc.usage, got, tc.want)
		}
	}
}

func TestBuiltinPoliciesPriceLlama(t *testing.T) {
	t.Parallel()
	for _, name := range Builtin() {
		s, _, err := Load(name, Adjustments{})
		if err != nil {
			t.Fatal(err)
		}
		if got := priceOf(t, s, "llama-3.2-3b-instruct", 0, budget.Usage{Input: 12 + 856, Output: 145}); got != 260_600 {
			t.Errorf("%s: 868 tokens in and 145 out cost %d nano-USD, want 260600", name, got)
		}
		if hold := s.Cost().Hold; hold.Model == "" || hold.InputTokens == 0 || hold.MaxOutputTokens == 0 {
			t.Errorf("%s: a call by Envoy holds %+v, want a rule", name, hold)
		}
	}
}

func TestCostRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		want       []string // one per problem: what stands behind "p.yaml"
	}{
		{"no fields", head + "cost: 5\n", []string{`:4: cost: is the number "5"; write fields under it, as prices`}},
		{"an unknown field", costly("price: {}"), []string{`:5: cost.price: unknown field; write one of prices, prices_file, default_price, ` +
			`on_unknown_price, on_unknown_usage, on_expiry, on_release, lease, hold; did you mean "prices"?`}},
		{"no output", costly("prices: {m: {input: 1e-6}}"), []string{`:5: cost.prices.m.output: is missing; write a price in USD, as 0.0000002`}},
		{"no price at all", costly("prices: {m: {aliases: [x]}}"), []string{`:5: cost.prices.m: has 0 of input and versions; write exactly one of them`}},
		{"a negative price", costly("prices: {m: {input: -1e-6, output: 0}}"), []string{`:5: cost.prices.m.input: "-1e-6" is not a price; write a price in USD, as 0.0000002`}},
		{"a price in words", costly("prices: {m: {input: cheap, output: .nan}}"), []string{
			`:5: cost.prices.m.input: "cheap" is not a price; write a price in USD, as 0.0000002`,
			`:5: cost.prices.m.output: ".nan" is not a price; write a price in USD, as 0.0000002`,
		}},
		{"a price too fine", costly("prices: {m: {input: 1e-16, output: 0}}"), []string{
			`:5: cost.prices.m.input: "1e-16" is not a price in USD: finer than 0.000000000000001 USD a token, the smallest price; round it`,
		}},
		{"a price too large", costly("prices: {m: {input: 5, output: 0}}"), []string{
			`:5: cost.prices.m.input: "5" is not a price in USD: more than 4.503599627370495 USD a token, the largest price`,
		}},
		{"a model twice", costly("prices:\n  m: {input: 0, output: 0, aliases: [n]}\n  n: {input: 0, output: 0}"), []string{
			`:7: cost.prices.n: the model "n" has a price already, in line 6; leave one of them out`,
		}},
		{"two stars", costly("prices: {'a*b*': {input: 0, output: 0}}"), []string{
			`:5: cost.prices.a*b*: "a*b*" is not a name here; write a model's name of at most 256 characters, with at most one *, which stands for any text`,
		}},
		{"versions of one moment", costly("prices:\n  m:\n    versions:\n      - {input: 0, output: 0}\n      - {input: 1, output: 1}"), []string{
			`:9: cost.prices.m.versions[1]: holds from the same moment as the one in line 8; write another effective_from`,
		}},
		{"a price beside versions", costly("prices: {m: {versions: [{input: 0, output: 0}], output: 1}}"), []string{
			`:5: cost.prices.m.output: stands beside versions; write it in each of them`,
		}},
		{"no moment", costly("prices: {m: {input: 0, output: 0, effective_from: 2026-13-01}}"), []string{
			`:5: cost.prices.m.effective_from: "2026-13-01" is not a moment; write a day, as 2026-01-31, or a moment, as 2026-01-31T12:00:00Z`,
		}},
		{"tiers of one bound", costly("prices: {m: {input: 0, output: 0, above: [{tokens: 5}, {tokens: 5}]}}"), []string{
			`:5: cost.prices.m.above[1].tokens: is that of the prices in line 5; write another number`,
		}},
		{"a tier above nothing", costly("prices: {m: {input: 0, output: 0, above: [{tokens: 0}]}}"), []string{
			`:5: cost.prices.m.above[0].tokens: must be more than 0; the prices of every call stand beside above`,
		}},
		{"a tier of too much", costly("prices: {m: {input: 0, output: 0, above: [{tokens: 1000000000001}]}}"), []string{
			`:5: cost.prices.m.above[0].tokens: "1000000000001" is not a number of tokens; write a whole number from 0 to 1000000000000`,
		}},
		{"another amount of tokens", costly("prices: {m: {input: 0, output: 0, per: 1B}}"), []string{
			`:5: cost.prices.m.per: "1B" is not known; write token or 1K or 1M; did you mean "1K"?`,
		}},
		{"a default that is missing", costly("on_unknown_price: default"), []string{
			`:5: cost.on_unknown_price: needs a default_price; write default_price: {input: 0.000001, output: 0.000002}, or deny`,
		}},
		{"another answer", costly("on_unknown_price: alow\non_unknown_usage: {success: free, failure: release}"), []string{
			`:5: cost.on_unknown_price: "alow" is not known; write deny or default or allow_and_flag`,
			`:6: cost.on_unknown_usage.success: "free" is not known; write charge_hold or charge_input or release`,
			`:6: cost.on_unknown_usage.failure: unknown field; write one of success, error, cancelled, timeout`,
		}},
		{"a lease too short", costly("lease: 500ms"), []string{`:5: cost.lease: "500ms" is not a lease; write a length from 1s to 1h, as 30s`}},
		{"a lease too long", costly("lease: day"), []string{`:5: cost.lease: "day" is not a lease; write a length from 1s to 1h, as 30s`}},
		{"two holds", costly("hold: {usd: 1, model: m}"), []string{`:5: cost.hold: has 2 of usd and model; write exactly one of them`}},
		{"a hold of an unknown model", costly("hold: {model: m}"), []string{
			`:5: cost.hold.model: "m" has no price; write one under cost.prices, or another model`,
		}},
		{"a hold too fine", costly("hold: {usd: 0.0000000001}"), []string{
			`:5: cost.hold.usd: "0.0000000001" is not an amount of USD: finer than 0.000000001 USD; write at most 9 digits after the point`,
		}},
		{"a hold too large", costly("hold: {usd: 5000000}"), []string{`:5: cost.hold.usd: "5000000" is too large; write at most 4503599.627370495`}},
		{"a hold that cannot be counted", costly("prices: {m: {input: 1, output: 1}}\nhold: {model: m, input_tokens: 1000000000000}"), []string{
			`:6: cost.hold: cannot be held: the cost is larger than 4503599.627370495 USD, the most that can be counted; write fewer tokens`,
		}},
		{"a file elsewhere", costly("prices_file: ../prices.yaml"), []string{
			`:5: cost.prices_file: "../prices.yaml" must name a file beside the policy or below; write a relative path, as prices.yaml`,
		}},
		{"an absolute file", costly("prices_file: /etc/passwd"), []string{
			`:5: cost.prices_file: "/etc/passwd" must name a file beside the policy or below; write a relative path, as prices.yaml`,
		}},
	} {
		_, _, err := Parse("p.yaml", []byte(tc.text), Adjustments{})
		var problems *Error
		want := "p.yaml" + strings.Join(tc.want, "\np.yaml")
		if !errors.As(err, &problems) || err.Error() != want {
			t.Errorf("%s: got\n%v\nwant\n%s", tc.name, err, want)
		}
	}
}

func TestTheHashCoversMoney(t *testing.T) {
	t.Parallel()
	const base = "prices: {m: {input: 1, output: 2, per: 1M, aliases: [a, b]}}\nhold: {usd: 0.01}"
	hash := mustParse(t, costly(base)).Hash()
	for _, tc := range []struct {
		name, cost string
		same       bool
	}{
		{"other spelling", "hold: {usd: $0.010}\nprices: {m: {output: 2e-06, input: 0.000001, aliases: [b, a]}}", true},
		{"defaults written out", base + "\nlease: 30s\non_expiry: charge", true},
		{"kinds that fall back written out", strings.Replace(base, "input: 1", "input: 1, cache_read: 1, reasoning: 2", 1), true},
		{"another price", strings.Replace(base, "input: 1", "input: 3", 1), false},
		{"another alias", strings.Replace(base, "[a, b]", "[a, c]", 1), false},
		{"another moment", strings.Replace(base, "input: 1", "input: 1, effective_from: 2026-01-01", 1), false},
		{"a tier", strings.Replace(base, "input: 1", "input: 1, above: [{tokens: 9, input: 4}]", 1), false},
		{"another hold", strings.Replace(base, "0.01", "0.02", 1), false},
		{"another lease", base + "\nlease: 31s", false},
		{"another expiry", base + "\non_expiry: release", false},
		{"another release", base + "\non_release: return_requests", false},
		{"another answer to unknown prices", base + "\non_unknown_price: allow_and_flag", false},
		{"another answer to unknown usage", base + "\non_unknown_usage: {error: release}", false},
		{"a default price", base + "\ndefault_price: {input: 0, output: 0}", false},
	} {
		if got := mustParse(t, costly(tc.cost)).Hash() == hash; got != tc.same {
			t.Errorf("%s: the hash is the same: %t; want %t", tc.name, got, tc.same)
		}
	}
}

func TestPricesFile(t *testing.T) {
	t.Parallel()
	policyFile := filepath.Join(t.TempDir(), "policy.yaml")
	pricesFile := filepath.Join(filepath.Dir(policyFile), "prices.yaml")
	write(t, policyFile, costly("prices_file: prices.yaml\nprices: {both: {input: 1, output: 1, aliases: [alias]}}"))
	write(t, pricesFile, "prices:\n  both: {input: 2, output: 2}\n  alias: {input: 2, output: 2}\n  theirs: {input: 2, output: 2}\n")
	s, _, err := Load(policyFile, Adjustments{})
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]int64{"both": 1e9, "alias": 1e9, "theirs": 2e9} {
		if got := priceOf(t, s, model, 0, budget.Usage{Input: 1}); got != want {
			t.Errorf("%s costs %d, want %d: the policy's own price goes before the file's", model, got, want)
		}
	}
	for name, tc := range map[string]struct{ text, want string }{
		"what is wrong has the file's name": {
			"prices:\n  m: {input: 1, output: x}\n  m: {input: 1, output: 1}\n",
			pricesFile + `:2: prices.m.output: "x" is not a price; write a price in USD, as 0.0000002` + "\n" +
				pricesFile + `:3: prices.m: stands twice, first in line 2; leave one of them out`,
		},
		"no prices": {"domain: a\n", pricesFile + `:1: domain: unknown field; write one of prices` + "\n" +
			pricesFile + `:1: prices: is missing; write names with fields under them`},
		"too large": {"#" + strings.Repeat("x", maxPricesBytes), pricesFile + `: is larger than 4 MiB; leave models out that nobody calls`},
	} {
		write(t, pricesFile, tc.text)
		if _, _, err := Load(policyFile, Adjustments{}); err == nil || err.Error() != tc.want {
			t.Errorf("%s: got\n%v\nwant\n%s", name, err, tc.want)
		}
		if err := CheckPrices(pricesFile, []byte(tc.text)); err == nil || err.Error() != tc.want {
			t.Errorf("%s: CheckPrices says\n%v\nwant\n%s", name, err, tc.want)
		}
	}
	if err := os.Remove(pricesFile); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(policyFile, Adjustments{}); err == nil ||
		!strings.Contains(err.Error(), policyFile+":5: cost.prices_file: cannot be read: ") || !strings.Contains(err.Error(), pricesFile) {
		t.Errorf("a missing file: got %v; want both files' names", err)
	}
}

func TestWatchSeesANewPricesFile(t *testing.T) {
	t.Parallel()
	policyFile := filepath.Join(t.TempDir(), "policy.yaml")
	pricesFile := filepath.Join(filepath.Dir(policyFile), "prices.yaml")
	write(t, policyFile, costly("prices_file: prices.yaml"))
	replace(t, pricesFile, "prices: {m: {input: 1, output: 1}}\n")
	w := newWatched(t, policyFile)
	first := w.Current().Hash()
	w.watch(t)
	replace(t, pricesFile, "prices: {m: {input: 2, output: 2}}\n")
	if got := w.next(t); got.err != nil || got.hash == first {
		t.Fatalf("new prices: onReload is told %+v", got)
	}
	if got := priceOf(t, w.Current(), "m", 0, budget.Usage{Input: 1}); got != 2e9 {
		t.Errorf("m costs %d, want the new price", got)
	}
	before := w.Current()
	replace(t, pricesFile, "prices: {m: {input: -2, output: 2}}\n")
	if got := w.next(t); got.err == nil || w.Current() != before {
		t.Errorf("bad prices: onReload is told %+v, want an error and the old policy", got)
	}
	replace(t, pricesFile, "prices: {m: {input: 1, output: 1}}\n")
	if got := w.next(t); got.err != nil || got.hash != first {
		t.Errorf("the first prices again: onReload is told %+v", got)
	}
	// A policy that no longer names the file lets it change.
	replace(t, policyFile, head)
	if got := w.next(t); got.err != nil {
		t.Errorf("no prices: onReload is told %+v", got)
	}
	before = w.Current()
	replace(t, pricesFile, "nothing\n")
	if err := w.Reload(); err != nil || w.Current() != before {
		t.Errorf("a file that is not named any more: %v", err)
	}
}

func TestUserAndPlanKeys(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "domain: a\nsubjects: {org: {key: o}, user: {key: u, plan_key: p, trust_plan: true}}\n")
	if s.UserKey() != "u" || s.PlanKey() != "p" {
		t.Errorf("got %q and %q", s.UserKey(), s.PlanKey())
	}
	s = mustParse(t, "domain: a\nsubjects: {user: {key: u, plan_key: p}}\n")
	if s.PlanKey() != "" {
		t.Errorf("the plan key is %q where the policy trusts none", s.PlanKey())
	}
}
