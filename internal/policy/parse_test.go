package policy

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// head is a policy that lacks nothing; tests add to it from line 4 on.
const head = `domain: assistant
subjects: {user: {key: user_id, default_plan: standard}}
plans: {standard: {limits: [10/minute]}}
`

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		text string
		want []string // one per problem: what stands behind "p.yaml"
	}{
		{"an empty file", "", []string{`: is empty; write at least domain and subjects`}},
		{"comments alone", "# nothing\n", []string{`: is empty; write at least domain and subjects`}},
		{"null", "~", []string{`:1: is empty; write fields under it: domain and subjects, or leave the field out`}},
		{"a text", "hello", []string{`:1: is the text "hello"; write fields under it: domain and subjects`}},
		{"a list", "- a", []string{`:1: is a list; write fields under it: domain and subjects`}},
		{
			"an empty mapping", "{}",
			[]string{
				`:1: domain: is missing; write a name, as assistant`,
				`:1: subjects: is missing; write names with fields under them`,
			},
		},
		{
			"broken YAML", "domain: assistant\nsubjects: [\n",
			[]string{`:2: is not YAML: did not find expected node content; look for a wrong indentation, an open quote or a missing ` +
				`colon there or just above`},
		},
		{"a NUL", "domain: assistant\nx: \x00", []string{`:2: holds a NUL byte; write plain text`}},
		{"another encoding", "domain: assistant\n\n\xff", []string{`:3: is not UTF-8; save the file as UTF-8`}},
		{
			"two documents", head + "---\ndomain: other\n",
			[]string{`:4: holds a second document; write one policy per file, without ---`},
		},
		{
			"a file too large", head + "#" + strings.Repeat("x", maxFileBytes),
			[]string{`: is larger than 1 MiB; keep long lists as overrides in the store`},
		},
		{
			"an unknown field", head + "overides: []\n",
			[]string{`:4: overides: unknown field; write one of domain, subjects, plans, overrides, global, cost; did you mean "overrides"?`},
		},
		{
			"an unknown field far from any", head + "verbosity: 3\n",
			[]string{`:4: verbosity: unknown field; write one of domain, subjects, plans, overrides, global, cost`},
		},
		{
			"a field twice", head + "domain: other\n",
			[]string{`:4: domain: stands twice, first in line 1; leave one of them out`},
		},
		{
			"an empty field", head + "global:\n",
			[]string{`:4: global: is empty; write fields under it: limits, or leave the field out`},
		},
		{
			"an alias", head + "global: &g {limits: [1/hour]}\noverrides: *g\n",
			[]string{`:5: overrides: is an alias (*g), which a policy may not have; write the value itself, or name a plan`},
		},
		{
			"a merge key", head + "global: {<<: {limits: [1/hour]}, limits: []}\n",
			[]string{`:4: global: is a merge key (<<), which a policy may not have; write the fields themselves`},
		},
		{
			"a name that is a number", strings.Replace(head, "plans: {", "plans: {7: {limits: []}, ", 1),
			[]string{`:3: plans: has a name that is the number "7"; write it in quotes: "7"`},
		},
		{
			"a name that is a list", strings.Replace(head, "plans: {", "plans: {[a]: {limits: []}, ", 1),
			[]string{`:3: plans: has a name that is a list; write a plain name`},
		},
		{
			"a name with odd characters", strings.Replace(head, "plans: {", "plans: {a b: {limits: []}, ", 1),
			[]string{`:3: plans."a b": "a b" is not a name here; write letters, digits, _, - and .`},
		},
		{
			"a number for a text", strings.Replace(head, "assistant", "12", 1),
			[]string{`:1: domain: is the number "12"; write it in quotes: "12"`},
		},
		{
			"an empty domain", strings.Replace(head, "assistant", `""`, 1),
			[]string{`:1: domain: "" does not fit; write a name, as assistant`},
		},
		{
			"a foreign type", strings.Replace(head, "assistant", "!secret x", 1),
			[]string{`:1: domain: is "x" of the type "!secret"; write it in quotes: "x"`},
		},
		{
			"a text for a flag", strings.Replace(head, "key: user_id", "key: user_id, trust_plan: yes", 1),
			[]string{`:2: subjects.user.trust_plan: is the text "yes"; write true or false`},
		},
		{
			"an unknown answer to a lost store", head + "global: {limits: [], on_store_failure: alow}\n",
			[]string{`:4: global.on_store_failure: "alow" is not known; write allow or deny; did you mean "allow"?`},
		},
		{
			"trust in no entry", strings.Replace(head, "key: user_id", "key: user_id, trust_plan: true", 1),
			[]string{`:2: subjects.user.trust_plan: trusts no entry; write which one names the plan, as plan_key: plan`},
		},
		{
			"no subjects", "domain: a\nsubjects: {}\n",
			[]string{`:2: subjects: has no entries; write at least 1`},
		},
		{
			"one key for two subjects", "domain: a\nsubjects:\n  user: {key: id}\n  org: {key: id}\n",
			[]string{`:4: subjects.org.key: "id" is already the key of user; write another key`},
		},
		{
			"a key that is a plan key, too", "domain: a\nsubjects:\n  user: {key: id, plan_key: org}\n  org: {key: org}\n",
			[]string{`:3: subjects.user.plan_key: "org" is already the key of org; write another key`},
		},
		{
			"a subject called global", "domain: a\nsubjects:\n  global: {key: id}\n",
			[]string{`:3: subjects.global: is the tier of the system as a whole; write its limits under global at the top`},
		},
		{
			"a subject of a reserved name", "domain: a\nsubjects:\n  none: {key: id}\n",
			[]string{`:3: subjects.none: is a name that ratelimitd uses itself; write another one`},
		},
		{
			"a plan of a reserved name", "domain: a\nsubjects: {user: {key: id}}\nplans:\n  override: {limits: []}\n",
			[]string{`:4: plans.override: is a name that ratelimitd uses itself; name the plan otherwise`},
		},
		{
			"limits of reserved names",
			head + `global:
  limits:
    - {limit: 10 USD/day, name: own}
    - {limit: 1/day, name: none}
    - {limit: 1/hour, name: owner}
`,
			[]string{
				`:6: global.limits[0].name: "own" is a name that ratelimitd uses itself; write another one`,
				`:7: global.limits[1].name: "none" is a name that ratelimitd uses itself; write another one`,
			},
		},
		{
			"an unknown plan", strings.Replace(head, "default_plan: standard", "default_plan: standart", 1),
			[]string{`:2: subjects.user.default_plan: "standart" is not a plan; write one that stands under plans; ` +
				`did you mean "standard"?`},
		},
		{
			"limits that are no list", head + "global: {limits: 10/minute}\n",
			[]string{`:4: global.limits: is the text "10/minute"; write a list, as [10/minute, 100/hour]`},
		},
		{
			"every limit of a list",
			head + `global:
  limits:
    - 10
    - -5/minute
    - 1.5/minute
    - 10/min
    - 10/fortnight
    - 99999999999/minute
    - 4503599.627370496 USD/day
    - 0.0000000001 USD/day
    - 10/400d
    - 10/0s
    - 10/1m1h
    - 10 token
    - 100 concurent
    - 99999999999 concurrent
    - {limit: 1/day, shadow: 1}
    - {name: x}
    - [1/day]
`,
			[]string{
				`:6: global.limits[0]: "10" has no period; write "10/minute"`,
				`:7: global.limits[1]: "-5/minute" must not be negative; 0/minute denies everything`,
				`:8: global.limits[2]: "1.5/minute" has a fraction, which only USD may have; write a whole number, as 15/10m in place ` +
					`of 1.5/minute`,
				`:9: global.limits[3]: "min" is not a period; write second, minute, hour, day, week, month or year, or a length as ` +
					`90s, 1h30m or 7d; did you mean "minute"?`,
				`:10: global.limits[4]: "fortnight" is not a period; write second, minute, hour, day, week, month or year, or a length ` +
					`as 90s, 1h30m or 7d`,
				`:11: global.limits[5]: "99999999999/minute" is too large: write at most 4294967295 requests, or leave the limit out`,
				`:12: global.limits[6]: "4503599.627370496 USD/day" is too large: write at most 4503599.627370495 USD, or leave the ` +
					`limit out`,
				`:13: global.limits[7]: "0.0000000001 USD" is not an amount of USD: finer than 0.000000001 USD; write at most 9 digits ` +
					`after the point`,
				`:14: global.limits[8]: "400d" is longer than 366d, the longest period`,
				`:15: global.limits[9]: "0s" is shorter than 1ms, the shortest period`,
				`:16: global.limits[10]: "1m1h" has its units out of order; write the largest first and each once, as 1h30m`,
				`:17: global.limits[11]: "10 token" has no period; write "10 token/day"`,
				`:18: global.limits[12]: "100 concurent" is not a limit; write it as 10/minute, 5 USD/day, 1000000 tokens/day, 20/90s ` +
					`or 100 concurrent; did you mean "concurrent"?`,
				`:19: global.limits[13]: "99999999999 concurrent" is too large: write at most 4294967295 concurrent requests, or ` +
					`leave the limit out`,
				`:20: global.limits[14].shadow: is the number "1"; write true or false`,
				`:21: global.limits[15].limit: is missing; write a limit, as 10/minute, 5 USD/day, 1000000 tokens/day, 20/90s or 100 ` +
					`concurrent`,
				`:22: global.limits[16]: is a list; write a limit, as 10/minute, 5 USD/day, 1000000 tokens/day, 20/90s or 100 concurrent`,
			},
		},
		{
			"two limits of one period", head + "global:\n  limits:\n    - 10/minute\n    - 1 USD/minute\n    - 20/60s\n",
			[]string{`:8: global.limits[2]: 20/60s limits the same as 10/minute in line 6; leave one of them out`},
		},
		{
			"two slot limits", head + "global: {limits: [1 concurrent, 2 concurrent]}\n",
			[]string{`:4: global.limits[1]: 2 concurrent limits the same as 1 concurrent; leave one of them out`},
		},
		{
			"two limits of one name", head + "global: {limits: [1/hour, {limit: 1/minute, name: hour}]}\n",
			[]string{`:4: global.limits[1]: has the name "hour" of 1/hour; write another name`},
		},
		{
			"a name that no metric takes", head + "global: {limits: [{limit: 1/minute, name: Per Minute}]}\n",
			[]string{`:4: global.limits[0].name: "Per Minute" does not fit; write at most 32 lower-case letters, digits, _ and -`},
		},
		{
			"too many limits", head + "global: {limits: [" + manyLimits(17) + "]}\n",
			[]string{`:4: global.limits: has 17 limits of requests; write at most 16`},
		},
		{
			"overrides",
			head + `overrides:
  - {subject: user, id: 42, plan: standard}
  - {subject: user, id: "43"}
  - {subject: user, id: "44", plan: standard, limits: []}
  - {subject: usr, id: "45", limits: []}
  - {subject: user, id: ["46", "47", "46"], limits: []}
  - {subject: user, id: "47", plan: gold}
  - {subject: user, id: [], plan: standard}
  - {subject: global, id: x, limits: []}
  - {id: x, limits: []}
`,
			[]string{
				`:5: overrides[0].id: is the number "42"; write it in quotes: "42"`,
				`:6: overrides[1]: has 0 of plan and limits; write exactly one of them`,
				`:7: overrides[2]: has 2 of plan and limits; write exactly one of them`,
				`:8: overrides[3]: "usr" is not a subject; write one that stands under subjects; did you mean "user"?`,
				`:9: overrides[4].id[2]: user "46" stands twice in the list, first in line 9; leave one of them out`,
				`:10: overrides[5].id: user "47" stands twice in the list, first in line 9; leave one of them out`,
				`:10: overrides[5].plan: "gold" is not a plan; write one that stands under plans`,
				`:11: overrides[6].id: has no entries; write at least 1`,
				`:12: overrides[7]: the global tier has no ids; write its limits under global at the top`,
				`:13: overrides[8].subject: is missing; write a name from subjects`,
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			snapshot, warnings, err := Parse("p.yaml", []byte(tc.text), Adjustments{})
			var problems *Error
			if !errors.As(err, &problems) || snapshot != nil || warnings != nil {
				t.Fatalf("got %v, %v, %v; want nothing but an *Error", snapshot, warnings, err)
			}
			want := "p.yaml" + strings.Join(tc.want, "\np.yaml")
			if err.Error() != want {
				t.Errorf("got\n%v\nwant\n%s", err, want)
			}
		})
	}
}

func TestParseToldProblemsAreBounded(t *testing.T) {
	t.Parallel()
	_, _, err := Parse("p.yaml", []byte(head+"global: {limits: ["+strings.Repeat("x, ", 1000)+"]}\n"), Adjustments{})
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxProblems+1 || lines[maxProblems] != "p.yaml: 950 more problems are not shown" {
		t.Errorf("got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestParseDeepNestingIsAnError(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("[", 1<<19), strings.Repeat("{a: ", 1<<17), strings.Repeat("- ", 1<<18)} {
		if _, _, err := Parse("p.yaml", []byte(text), Adjustments{}); err == nil {
			t.Errorf("%.10s... is a policy", text)
		}
	}
}

func TestParseWarns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		text string
		want []string
	}{
		{"nothing", head, nil},
		{
			"a plan that nobody has", strings.Replace(head, "plans: {", "plans: {pro: {limits: []}, ", 1),
			[]string{`p.yaml:3: plans.pro: nobody has this plan, except by an override in the store; name it as a default_plan or ` +
				`under overrides, or leave it out`},
		},
		{
			"a plan that any caller may name is not one",
			strings.Replace(strings.Replace(head, "plans: {", "plans: {pro: {limits: []}, ", 1), "key: user_id",
				"key: user_id, plan_key: plan, trust_plan: true", 1),
			nil,
		},
		{"a plan in the list is not one", head + "overrides: [{subject: user, id: a, plan: standard}]\n", nil},
		{
			"a limit above that of a longer period", head + "global: {limits: [100/minute, 50/hour]}\n",
			[]string{`p.yaml:4: global.limits[0]: 100/minute can never bind, because 50/hour denies before it; leave it out, or lower it`},
		},
		{
			"a limit that shorter periods cannot reach", head + "global: {limits: [10/minute, 600/hour, 599/59m]}\n",
			[]string{
				`p.yaml:4: global.limits[1]: 600/hour can never bind, because 10/minute denies before it; leave it out, or lower it`,
				`p.yaml:4: global.limits[2]: 599/59m can never bind, because 10/minute denies before it; leave it out, or lower it`,
			},
		},
		{"one that they can reach, just", head + "global: {limits: [10/minute, 599/hour, 609/3601s]}\n", nil},
		{"units do not meet", head + "global: {limits: [100/minute, 50 USD/hour, 20 tokens/day, 1 concurrent]}\n", nil},
		{"a shadow denies nothing", head + "global: {limits: [100/minute, {limit: 50/hour, shadow: true}]}\n", nil},
		{"0 is said on purpose", head + "global: {limits: [0/minute, 0/hour, 500/day]}\n", nil},
		{
			"a plan above the global tier", head + "global: {limits: [5/hour]}\n",
			[]string{`p.yaml:3: plans.standard.limits[0]: 10/minute can never bind, because the global limit 5/hour denies before it; ` +
				`leave it out, or lower it`},
		},
		{
			"a subject's own limits", head + "overrides: [{subject: user, id: a, limits: [9 concurrent]}]\n" +
				"global: {limits: [9 concurrent]}\n",
			nil,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, warnings, err := Parse("p.yaml", []byte(tc.text), Adjustments{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, warning := range warnings {
				got = append(got, warning.String())
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

func TestBuiltinPolicies(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"production": "user standard 10/minute, user standard 100/hour, user standard 500/day, user standard 5 USD/day, " +
			"global global 1000/hour, global global 100 USD/day, global global 100 concurrent",
		"development": "",
		"testing":     "",
	} {
		snapshot, warnings, err := Load(name, Adjustments{})
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, warnings %v", name, err, warnings)
			continue
		}
		var got []string
		for ordinal, limit := range snapshot.Limits() {
			got = append(got, limit.Tier+" "+limit.Plan+" "+limit.String())
			if limit.Ordinal != ordinal {
				t.Errorf("%s: limit %d has the ordinal %d", name, ordinal, limit.Ordinal)
			}
		}
		if all := strings.Join(got, ", "); want != "" && all != want {
			t.Errorf("%s has\n%s\nwant\n%s", name, all, want)
		}
		if snapshot.Domain() != "assistant" || snapshot.UserTier() != "user" {
			t.Errorf("%s: domain %q, user tier %q", name, snapshot.Domain(), snapshot.UserTier())
		}
	}
}

func TestLoadNamesAMissingFile(t *testing.T) {
	t.Parallel()
	_, _, err := Load("prodution", Adjustments{})
	if err == nil || !strings.Contains(err.Error(), "prodution") || !strings.Contains(err.Error(), `"production"`) {
		t.Errorf("got %v; want the file's name and those of the built-in policies", err)
	}
}

func TestUserTierIsTheFirstOrTheOneCalledUser(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"domain: a\nsubjects: {org: {key: o}, user: {key: u}}\n":  "user",
		"domain: a\nsubjects: {org: {key: o}, human: {key: u}}\n": "org",
	} {
		snapshot := mustParse(t, text)
		if got := snapshot.UserTier(); got != want {
			t.Errorf("%s: the user tier is %q; want %q", text, got, want)
		}
	}
}

func TestHashIsOfTheMeaning(t *testing.T) {
	t.Parallel()
	base := mustParse(t, head+"global: {limits: [1/minute, 2/hour]}\n").Hash()
	for _, tc := range []struct {
		name string
		text string
		same bool
	}{
		{"other spelling", "# comment\n" + head + "global: {limits: [2 per hour, 1 request/minute]}\n", true},
		{"defaults written out", head + "global: {on_store_failure: allow, limits: [1/minute, 2/hour]}\n", true},
		{"another amount", head + "global: {limits: [1/minute, 3/hour]}\n", false},
		{"another name", head + "global: {limits: [1/minute, {limit: 2/hour, name: h}]}\n", false},
		{"a shadow", head + "global: {limits: [1/minute, {limit: 2/hour, shadow: true}]}\n", false},
		{"another failure mode", head + "global: {on_store_failure: deny, limits: [1/minute, 2/hour]}\n", false},
		{"an override", head + "global: {limits: [1/minute, 2/hour]}\noverrides: [{subject: user, id: a, limits: []}]\n", false},
	} {
		if got := mustParse(t, tc.text).Hash() == base; got != tc.same {
			t.Errorf("%s: the hash is the same: %t; want %t", tc.name, got, tc.same)
		}
	}
}

func TestAdjustments(t *testing.T) {
	t.Parallel()
	amount := func(n int64) *int64 { return &n }
	everything := Adjustments{
		PerMinute: amount(1), PerHour: amount(2), PerDay: amount(3), UserDailyCost: amount(4e9),
		GlobalConcurrent: amount(5), GlobalHourly: amount(6), GlobalDailyCost: amount(7e9),
	}
	limits := func(s *Snapshot) string {
		var texts []string
		for _, limit := range s.Limits() {
			texts = append(texts, limit.Tier+" "+limit.String())
		}
		return strings.Join(texts, ", ")
	}
	snapshot, _, err := Load("production", everything)
	want := "user 1/minute, user 2/hour, user 3/day, user 4 USD/day, global 6/hour, global 7 USD/day, global 5 concurrent"
	if err != nil || limits(snapshot) != want {
		t.Errorf("replaced: %v, %v; want %s", limits(snapshot), err, want)
	}
	if plain, _, _ := Load("production", Adjustments{}); plain.Hash() == snapshot.Hash() {
		t.Error("the hash does not tell the environment's limits")
	}
	named := strings.Replace(head, "10/minute", "{limit: 9/60s, name: burst}", 1)
	snapshot, _, err = Parse("p.yaml", []byte(named), everything)
	if err != nil || limits(snapshot) != want {
		t.Errorf("added: %v, %v; want %s", limits(snapshot), err, want)
	}
	if name := snapshot.Limits()[0].Name; name != "burst" {
		t.Errorf("the limit that the environment sets is called %q; want the policy's name for it, burst", name)
	}
}

func TestAdjustmentsThatCannotBe(t *testing.T) {
	t.Parallel()
	amount := func(n int64) *int64 { return &n }
	for _, tc := range []struct {
		name     string
		text     string
		settings Adjustments
		want     string
	}{
		{
			"negative", head,
			Adjustments{PerMinute: amount(-1)},
			"p.yaml: RATE_LIMIT_PER_MINUTE: -1 is out of bounds; set it to 0 or more, at most 4294967295",
		},
		{
			"too much money", head,
			Adjustments{GlobalDailyCost: amount(store.MaxAmount + 1)},
			"p.yaml: GLOBAL_DAILY_COST_LIMIT: 4503599.627370496 USD is out of bounds; set it to 0 or more, at most 4503599.627370495 USD",
		},
		{
			"no default plan", "domain: a\nsubjects: {user: {key: u}}\n",
			Adjustments{PerHour: amount(1)},
			"p.yaml:2: subjects.user.default_plan: is missing, so that RATE_LIMIT_PER_HOUR has no plan to change; write a " +
				"default_plan, or unset RATE_LIMIT_PER_HOUR",
		},
		{
			"a name that is taken", strings.Replace(head, "10/minute", "{limit: 1/90s, name: hour}", 1),
			Adjustments{PerHour: amount(1)},
			`p.yaml:3: plans.standard.limits[0]: has the name "hour", which the limit of RATE_LIMIT_PER_HOUR needs; write another name`,
		},
	} {
		if _, _, err := Parse("p.yaml", []byte(tc.text), tc.settings); err == nil || err.Error() != tc.want {
			t.Errorf("%s: got\n%v\nwant\n%s", tc.name, err, tc.want)
		}
	}
	shadow := strings.Replace(head, "10/minute", "{limit: 10/minute, shadow: true}", 1)
	_, warnings, err := Parse("p.yaml", []byte(shadow), Adjustments{PerMinute: amount(1)})
	want := "p.yaml:3: plans.standard.limits[0]: is a shadow, so that the amount of RATE_LIMIT_PER_MINUTE is watched and not " +
		"enforced; leave shadow out to enforce it"
	if err != nil || len(warnings) != 1 || warnings[0].String() != want {
		t.Errorf("a shadow: got %v, %v; want the warning %s", warnings, err, want)
	}
}

func TestParseOverride(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, head)
	for _, tc := range []struct{ kind, text, want string }{
		{"user", `{"plan":"standard"}`, "standard []"},
		{"user", `plan: standard`, "standard []"},
		{"user", `{"limits":[]}`, " []"},
		{
			"user", `{"limits":["50/minute","2 USD/day",{"limit":"9 tokens/90s","name":"x","shadow":true},"3 concurrent"]}`,
			" [50/minute 9 tokens/90s shadow 2 USD/day 3 concurrent]",
		},
		{"global", `{"limits":["50/minute"]}`, " [50/minute]"},
	} {
		override, err := snapshot.ParseOverride(tc.kind, tc.text)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		var limits []string
		if override.Limits != nil {
			for _, limit := range override.Limits.all() {
				text := limit.String()
				if limit.Shadow {
					text += " shadow"
				}
				if limit.Ordinal != -1 {
					t.Errorf("%s: %s has the ordinal %d; want -1", tc.text, text, limit.Ordinal)
				}
				limits = append(limits, text)
			}
		}
		if got := override.Plan + " [" + strings.Join(limits, " ") + "]"; got != tc.want {
			t.Errorf("%s is read as %q; want %q", tc.text, got, tc.want)
		}
	}
	for _, tc := range []struct{ kind, text, want string }{
		{"user", strings.Repeat(" ", maxOverrideBytes+1), `override: is longer than 8192 bytes; write a plan or a few limits`},
		{"user", "", `override: is empty; write at least plan or limits`},
		{"user", "{}", `override:1: has 0 of plan and limits; write exactly one of them`},
		{"user", `{"plan":"gold"}`, `override:1: plan: "gold" is not a plan of the policy; write one of standard`},
		{"user", `{"limit":["1/day"],"plan":"standard"}`, `override:1: limit: unknown field; write one of plan, limits; did you mean ` +
			`"limits"?`},
		{"user", `{"limits":["1/day","2/day"]}`, `override:1: limits[1]: 2/day limits the same as 1/day; leave one of them out`},
		{"global", `{"plan":"standard"}`, `override:1: plan: the global tier has no plans; write limits`},
		{"org", `{"plan":"standard"}`, `override: "org" is not a subject of the policy; name one of user, global`},
	} {
		if override, err := snapshot.ParseOverride(tc.kind, tc.text); err == nil || err.Error() != tc.want || override != nil {
			t.Errorf("%s: got %v, %v; want %s", tc.text, override, err, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range Builtin() {
		data, err := readPolicy(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(head + "global: {limits: [1_000 tokens per 1h30m, $5.5/week, {limit: 3 concurrent, shadow: true}]}\n"))
	f.Add([]byte(head + "overrides: [&a {subject: user, id: [x, y], limits: [0/2ms]}, *a]\n---\n"))
	f.Add([]byte("? [a, {b: !!binary c}]\n: <<: ~\n"))
	f.Add([]byte(head + "global: {limits: [{limit: 5 USD/month, window: calendar, timezone: Europe/Berlin}]}\n"))
	f.Add([]byte(costly("prices_file: p.yaml\nprices: {'a*': {versions: [{input: 1e-7, output: 0, effective_from: 2026-01-01}], per: 1M}}\n" +
		"hold: {model: ab, input_tokens: 5}\non_unknown_usage: {error: release}\nlease: 2s")))
	f.Add([]byte(costly("prices: {m: {input: 1, output: 2, above: [{tokens: 5, reasoning: 3}], aliases: [n]}}\n" +
		"default_price: {input: 0, output: 0}\non_unknown_price: default\nhold: {usd: 0.5}")))
	f.Fuzz(func(t *testing.T, data []byte) {
		one := int64(1)
		more := func(string, int) ([]byte, error) { return data, nil } // it may be a price list, too
		snapshot, _, err := parse("fuzz", data, Adjustments{PerMinute: &one}, more)
		if (snapshot == nil) == (err == nil) {
			t.Fatalf("a snapshot %v beside the error %v", snapshot, err)
		}
		if snapshot == nil {
			return
		}
		for _, limit := range snapshot.Limits() {
			text, _, isCalendar := strings.Cut(limit.String(), " (calendar, ")
			again, err := parseLimit(text)
			if err != nil || again.Unit != limit.Unit || again.Max != limit.Max || isCalendar != (limit.Calendar != nil) ||
				!isCalendar && again.Period != limit.Period {
				t.Errorf("%q is read back as %+v, %v; want %+v", limit.String(), again, err, limit)
			}
		}
		for _, model := range snapshot.Prices().Models() {
			if _, _, ok := snapshot.Prices().Find(strings.ReplaceAll(model.Name, "*", "x"), math.MaxInt64); !ok {
				t.Errorf("%q is in the price list, and has no price", model.Name)
			}
		}
		if lease := snapshot.Cost().Lease; lease < store.MinLease || lease > store.MaxLease {
			t.Errorf("the lease is %s", lease)
		}
	})
}

// manyLimits returns n limits of different periods.
func manyLimits(n int) string {
	var limits []string
	for i := range n {
		limits = append(limits, strconv.Itoa(i+1)+"/"+strconv.Itoa(i+1)+"d")
	}
	return strings.Join(limits, ", ")
}

// mustParse reads a policy that is right.
func mustParse(t testing.TB, text string) *Snapshot {
	t.Helper()
	snapshot, _, err := Parse("p.yaml", []byte(text), Adjustments{})
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}
