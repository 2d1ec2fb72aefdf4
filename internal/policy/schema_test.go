package policy

import (
	"bytes"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

const schemaFile = "../../configs/policy.schema.json"

func TestSchemaIsUpToDate(t *testing.T) {
	t.Parallel()
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the format's description makes: run go generate ./internal/policy", schemaFile)
	}
}

func TestSchemaAgreesWithTheReader(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t)
	good := map[string]string{
		"the least":    head,
		"every field":  everyField,
		"empty lists":  head + "overrides: []\nglobal: {limits: []}\ncost: {prices: {}}\n",
		"a fixed hold": costly("hold: {usd: 0.01}\non_unknown_usage: release"),
	}
	for _, name := range Builtin() {
		data, err := readPolicy(name)
		if err != nil {
			t.Fatal(err)
		}
		good[name] = string(data)
	}
	for name, text := range good {
		if _, _, err := Parse(name, []byte(text), Adjustments{}); err != nil {
			t.Errorf("the reader refuses %s: %v", name, err)
		}
		if err := schema.Validate(decode(t, text)); err != nil {
			t.Errorf("the schema refuses %s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"a list":                "- a\n",
		"nothing in it":         "{}\n",
		"an unknown field":      head + "overides: []\n",
		"a wrong type":          head + "global: {limits: 10/minute}\n",
		"a limit that is none":  head + "global: {limits: [10/min]}\n",
		"a negative limit":      head + "global: {limits: [-10/minute]}\n",
		"a number as a limit":   head + "global: {limits: [10]}\n",
		"an object as a limit":  head + "global: {limits: [{name: x}]}\n",
		"a name with a space":   head + "global: {limits: [{limit: 1/day, name: x y}]}\n",
		"a reserved name":       head + "global: {limits: [{limit: 1/day, name: own}]}\n",
		"a reserved tier":       "domain: a\nsubjects: {none: {key: k}}\n",
		"a wrong answer":        head + "global: {limits: [], on_store_failure: local}\n",
		"no subjects":           "domain: a\nsubjects: {}\n",
		"a tier in upper case":  "domain: a\nsubjects: {User: {key: k}}\n",
		"a subject without key": "domain: a\nsubjects: {user: {}}\n",
		"a plan and limits":     head + "overrides: [{subject: user, id: x, plan: standard, limits: []}]\n",
		"neither of them":       head + "overrides: [{subject: user, id: x}]\n",
		"an id that is none":    head + "overrides: [{subject: user, id: 42, plan: standard}]\n",
		"no ids":                head + "overrides: [{subject: user, id: [], plan: standard}]\n",
		"an empty domain":       "domain: ''\nsubjects: {user: {key: k}}\n",
		"another window":        head + "global: {limits: [{limit: 1 USD/day, window: fixed}]}\n",
		"no zone":               head + "global: {limits: [{limit: 1 USD/day, window: calendar, timezone: ../x}]}\n",
		"a cost in words":       costly("prices: {m: {input: cheap, output: 1}}"),
		"a negative cost":       costly("prices: {m: {input: -1, output: 1}}"),
		"no cost":               costly("prices: {m: {aliases: [n]}}"),
		"a cost twice":          costly("prices: {m: {input: 1, output: 1, versions: [{input: 1, output: 1}]}}"),
		"a fraction of tokens":  costly("prices: {m: {input: 1, output: 1, above: [{tokens: 1.5}]}}"),
		"two stars":             costly("prices: {'*m*': {input: 1, output: 1}}"),
		"another unit":          costly("prices: {m: {input: 1, output: 1, per: 1G}}"),
		"another charge":        costly("on_unknown_usage: free"),
		"another outcome":       costly("on_unknown_usage: {failure: release}"),
		"another lease":         costly("lease: soon"),
		"a hold of nothing":     costly("hold: {input_tokens: 5}"),
	} {
		if _, _, err := Parse(name, []byte(text), Adjustments{}); err == nil {
			t.Errorf("the reader takes %s", name)
		}
		if err := schema.Validate(decode(t, text)); err == nil {
			t.Errorf("the schema takes %s", name)
		}
	}
}

// everyField is a policy that uses every field of the format.
const everyField = `domain: assistant
subjects:
  user: {key: user_id, plan_key: plan, trust_plan: true, default_plan: standard, on_store_failure: allow}
  org: {key: org_id, on_store_failure: deny}
plans:
  standard: {limits: [10/minute, $5/day, 1_000 tokens per 90s, 100 concurrent requests]}
  pro: {limits: [{limit: 60/minute, name: fast}, {limit: 5000/day, shadow: true}]}
overrides:
  - {subject: user, id: "42", plan: pro}
  - {subject: org, id: [acme, "{evil}:_\n"], limits: [1000/hour]}
global:
  limits: [1000/hour, 100 concurrent, 100 USD/day, {limit: 900 USD/month, window: calendar, timezone: Europe/Berlin}]
  on_store_failure: deny
cost:
  prices:
    llama-3.2-3b-instruct: {input: 0.0000002, output: 6e-7, cache_read: "0.00000001", cache_write: 0, reasoning: 1, aliases: [llama]}
    "gpt-*":
      per: 1M
      versions:
        - {input: 1, output: 2}
        - {input: 1, output: 2, effective_from: "2026-01-01T00:00:00Z", above: [{tokens: 200000, input: 2}, {tokens: 4_000, output: 5}]}
  default_price: {input: 1, output: 2, per: 1K, above: [{tokens: "5", input: 0}]}
  on_unknown_price: allow_and_flag
  on_unknown_usage: {success: charge_hold, error: release, cancelled: charge_input, timeout: release}
  on_expiry: release
  on_release: return_requests
  lease: 1m
  hold: {model: llama, input_tokens: 1000, max_output_tokens: 1_000}
`

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("policy.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// decode reads YAML as an editor's validator does.
func decode(t *testing.T, text string) any {
	t.Helper()
	var document any
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	return document
}
