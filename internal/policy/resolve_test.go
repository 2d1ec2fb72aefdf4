package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// resolvePolicy has a trusted user tier, an org tier without a default plan and a global tier.
const resolvePolicy = `domain: assistant
subjects:
  user: {key: user_id, plan_key: plan, trust_plan: true, default_plan: standard, on_store_failure: deny}
  org: {key: org_id, plan_key: org_plan}
plans:
  standard: {limits: [10/minute, 100/hour, 5 USD/day]}
  pro: {limits: [{limit: 60/minute, shadow: true}]}
  costly: {limits: [9 USD/day]}
overrides:
  - {subject: user, id: listed, plan: pro}
  - {subject: org, id: acme, limits: [7/hour]}
global: {limits: [1000/hour, 100 concurrent]}
`

// descriptor reads "user_id=1,plan=pro*3" as a descriptor with its amount, 1 by default; a leading - makes it a refund.
func descriptor(text string) Descriptor {
	text, refund := strings.CutPrefix(text, "-")
	entries, amount, _ := strings.Cut(text, "*")
	d := Descriptor{Entries: nil, Amount: 1, Refund: refund, Own: nil}
	if amount != "" {
		d.Amount, _ = strconv.ParseInt(amount, 10, 64)
	}
	for entry := range strings.SplitSeq(entries, ",") {
		key, value, _ := strings.Cut(entry, "=")
		d.Entries = append(d.Entries, Entry{Key: key, Value: value})
	}
	return d
}

// call makes a call to the domain assistant.
func call(descriptors ...string) *Call {
	c := &Call{Domain: "assistant", Descriptors: nil}
	for _, text := range descriptors {
		c.Descriptors = append(c.Descriptors, descriptor(text))
	}
	return c
}

// written writes a resolution: the checks of both sides, then the bits of each descriptor.
func written(res *Resolution) string {
	side := func(name string, checks []Check) string {
		var text strings.Builder
		text.WriteString(name)
		for _, c := range checks {
			fmt.Fprintf(&text, " %s:%s*%d(%s:", c.Subject.Kind, c.Subject.ID, c.Amount, c.Limits.Plan)
			for _, limit := range c.Named {
				if c.origin == fromNowhere {
					text.WriteString(" nothing")
					continue
				}
				text.WriteString(" " + limit.String())
			}
			text.WriteString(")")
		}
		return text.String()
	}
	bits := "of"
	for _, named := range res.Of {
		bits += fmt.Sprintf(" %b/%b", named.Admit, named.Refund)
	}
	return side("admit", res.Admit) + " " + side("refund", res.Refund) + " " + bits
}

func TestResolve(t *testing.T) {
	t.Parallel()
	const (
		standard = "standard: 10/minute 100/hour"
		global   = "(global: 1000/hour)"
	)
	snapshot := mustParse(t, resolvePolicy)
	for _, tc := range []struct {
		name string
		call *Call
		want string
	}{
		{"no descriptor", call(), "admit refund of"},
		{
			"a user is one check, and the global tier the last",
			call("user_id=1"), "admit user:1*1(" + standard + ") global:*1" + global + " refund of 11/0",
		},
		{
			"other keys say nothing",
			call("path=/x,user_id=1,method=GET"), "admit user:1*1(" + standard + ") global:*1" + global + " refund of 11/0",
		},
		{"a descriptor that names nobody matches nothing", call("path=/x"), "admit refund of 0/0"},
		{
			"beside one that does, too",
			call("path=/x", "user_id=1"), "admit user:1*1(" + standard + ") global:*1" + global + " refund of 0/0 11/0",
		},
		{
			"a subject that several descriptors name is checked once, by the largest amount",
			call("user_id=1*2", "user_id=1*5", "user_id=1*3"),
			"admit user:1*5(" + standard + ") global:*5" + global + " refund of 11/0 11/0 11/0",
		},
		{
			"two users are two checks",
			call("user_id=1", "user_id=2*0"),
			"admit user:1*1(" + standard + ") user:2*0(" + standard + ") global:*1" + global + " refund of 101/0 110/0",
		},
		{"amount 0 only looks", call("user_id=1*0"), "admit user:1*0(" + standard + ") global:*0" + global + " refund of 11/0"},
		{
			"a user and an organisation in one descriptor",
			call("user_id=1,org_id=acme*2"),
			"admit user:1*2(" + standard + ") org:acme*2(override: 7/hour) global:*2" + global + " refund of 111/0",
		},
		{
			"one id in two tiers is two subjects",
			call("user_id=acme,org_id=acme"),
			"admit user:acme*1(" + standard + ") org:acme*1(override: 7/hour) global:*1" + global + " refund of 111/0",
		},
		{
			"a subject without limits is looked at, for it may have an override, and takes nothing",
			call("org_id=other*4"), "admit org:other*0(: nothing) global:*4" + global + " refund of 11/0",
		},
		{
			"it has nothing to give back, nor to bound the others by",
			call("-org_id=other*4"), "admit refund global:*4" + global + " of 0/1",
		},
		{
			"its amount counts there beside others",
			call("user_id=1", "org_id=other*4", "x=y"),
			"admit user:1*1(" + standard + ") org:other*0(: nothing) global:*4" + global + " refund of 101/0 110/0 0/0",
		},
		{"a plan without request limits asks nothing yet", call("user_id=1,plan=costly"), "admit user:1*0(: nothing) global:*1" + global + " refund of 11/0"},
		{
			"a trusted plan entry, before or behind the user",
			call("plan=pro,user_id=1", "user_id=2,plan=pro"),
			"admit user:1*1(pro: 60/minute) user:2*1(pro: 60/minute) global:*1" + global + " refund of 101/0 110/0",
		},
		{
			"an unknown plan is no plan",
			call("user_id=1,plan=gold"), "admit user:1*1(" + standard + ") global:*1" + global + " refund of 11/0",
		},
		{
			"an entry that the policy does not trust is no plan",
			call("org_id=acme,org_plan=pro"), "admit org:acme*1(override: 7/hour) global:*1" + global + " refund of 11/0",
		},
		{
			"the policy's list",
			call("user_id=listed"), "admit user:listed*1(pro: 60/minute) global:*1" + global + " refund of 11/0",
		},
		{
			"the entry wins over the list",
			call("user_id=listed,plan=standard"), "admit user:listed*1(" + standard + ") global:*1" + global + " refund of 11/0",
		},
		{
			"the entry of any descriptor counts for its subject, the first wins",
			call("user_id=1", "user_id=1,plan=pro", "user_id=1,plan=standard"),
			"admit user:1*1(pro: 60/minute) global:*1" + global + " refund of 11/0 11/0 11/0",
		},
		{
			"giving back is apart",
			call("user_id=1*2", "-user_id=1*3", "-user_id=1*4", "-x=y"),
			"admit user:1*2(" + standard + ") global:*2" + global + " refund user:1*4(" + standard + ") global:*4" + global +
				" of 11/0 0/11 0/11 0/0",
		},
		{
			"limits that a later descriptor brings hold for the largest amount of all",
			call("user_id=1,plan=costly*5", "user_id=1,plan=pro*1", "user_id=2,plan=costly*4"),
			"admit user:1*5(pro: 60/minute) user:2*0(: nothing) global:*5" + global + " refund of 101/0 101/0 110/0",
		},
		{
			"so they do for what is given back, beside subjects that have nothing to give back",
			call("-org_id=other*9", "-user_id=1,plan=costly*5", "-org_id=none,user_id=2*3", "-user_id=1,plan=pro*1"),
			"admit refund user:1*5(pro: 60/minute) user:2*3(" + standard + ") global:*9" + global + " of 0/100 0/101 0/110 0/101",
		},
		{"an empty id is an id", call("user_id="), "admit user:*1(" + standard + ") global:*1" + global + " refund of 11/0"},
	} {
		var res Resolution
		if err := snapshot.Resolve(tc.call, nil, &res); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if got := written(&res); got != tc.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.name, got, tc.want)
		}
	}
}

func TestResolveForgetsTheCallBefore(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, resolvePolicy)
	var res Resolution
	if err := snapshot.Resolve(call("user_id=1", "-user_id=2"), nil, &res); err != nil {
		t.Fatal(err)
	}
	unknown := call("user_id=1", "user_id=2", "user_id=3")
	unknown.Domain = "other"
	if err := snapshot.Resolve(unknown, nil, &res); err != nil {
		t.Fatal(err)
	}
	if got := written(&res); got != "admit refund of 0/0 0/0 0/0" {
		t.Errorf("an unknown domain: %s; want no check, and a bare answer per descriptor", got)
	}
}

func TestResolveWithoutAGlobalTier(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, "domain: assistant\nsubjects: {user: {key: user_id}}\noverrides: [{subject: user, id: a, limits: [1/day]}]\n")
	var res Resolution
	if err := snapshot.Resolve(call("user_id=a", "user_id=b"), nil, &res); err != nil {
		t.Fatal(err)
	}
	if got := written(&res); got != "admit user:a*1(override: 1/day) user:b*0(: nothing) refund of 1/0 10/0" {
		t.Errorf("got %s; want a subject without limits to be asked for its override alone", got)
	}
}

func TestResolveWithoutADefaultPlan(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, `domain: assistant
subjects: {user: {key: user, plan_key: plan, trust_plan: true}}
plans: {p: {limits: [10/minute]}}
`)
	for text, want := range map[string][]string{
		"admit user:A*5(p: 10/minute) refund of 1/0 1/0": {"user=A*5", "user=A,plan=p*1"},
		"admit user:A*5(p: 10/minute) refund of 1/0":     {"user=A,plan=p*5"},
		"admit refund user:A*5(p: 10/minute) of 0/1 0/1": {"-user=A*5", "-user=A,plan=p*1"},
		"admit user:A*0(: nothing) refund of 1/0 1/0":    {"user=A*5", "user=A,plan=q*1"},
	} {
		var res Resolution
		if err := snapshot.Resolve(call(want...), nil, &res); err != nil {
			t.Fatal(err)
		}
		if got := written(&res); got != text {
			t.Errorf("%v: got\n%s\nwant\n%s", want, got, text)
		}
	}
}

func TestResolveAsksForOverrides(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, resolvePolicy)
	override := func(kind, text string) *Override {
		o, err := snapshot.ParseOverride(kind, text)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	stored := map[string]*Override{
		"user:planned": override("user", `{"plan":"pro"}`),
		"user:limited": override("user", `{"limits":["50/minute"]}`),
		"user:free":    override("user", `{"limits":[]}`),
		"user:gone":    {Plan: "gold", Limits: nil}, // of an earlier policy
		"user:unread":  nil,
		"org:other":    override("org", `{"limits":["8/hour"]}`),
		"global:":      override("global", `{"limits":["77/hour"]}`),
	}
	known := func(sub store.Subject) (int64, *Override) {
		o, found := stored[sub.Kind+":"+sub.ID]
		if !found {
			return 0, nil
		}
		return int64(10 + len(sub.ID)), o
	}
	for text, want := range map[string]struct {
		limits  string
		version int64
	}{
		"user_id=planned":               {"pro: 60/minute", 17},
		"user_id=limited":               {"override: 50/minute", 17},
		"user_id=limited,plan=standard": {"override: 50/minute", 17},
		"user_id=gone":                  {"standard: 10/minute 100/hour", 14},
		"user_id=gone,plan=pro":         {"pro: 60/minute", 14},
		"user_id=unread":                {"standard: 10/minute 100/hour", 16},
		"user_id=none":                  {"standard: 10/minute 100/hour", 0},
		"org_id=other":                  {"override: 8/hour", 15},
	} {
		var res Resolution
		if err := snapshot.Resolve(call(text), known, &res); err != nil || len(res.Admit) != 2 {
			t.Fatalf("%s: %v, %s", text, err, written(&res))
		}
		if got := written(&res); !strings.Contains(got, "("+want.limits+")") || res.Admit[0].Override != want.version {
			t.Errorf("%s: got %s, version %d; want %s, version %d", text, got, res.Admit[0].Override, want.limits, want.version)
		}
		if last := res.Admit[1]; last.Tier != GlobalTier || last.Override != 10 || last.Named[0].Max != 77 {
			t.Errorf("%s: the global tier's override is not asked for: %s", text, written(&res))
		}
	}
	var res Resolution
	if err := snapshot.Resolve(call("user_id=free"), known, &res); err != nil || res.Admit[0].Override != 14 ||
		res.Admit[0].origin != fromNowhere {
		t.Errorf("a user with no limits by override: %v, %s; want it asked under its version, and no limits", err, written(&res))
	}
}

func TestResolveChecksAreWhole(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, resolvePolicy)
	var res Resolution
	if err := snapshot.Resolve(call("user_id=1,plan=pro,org_id=acme"), nil, &res); err != nil {
		t.Fatal(err)
	}
	for i, c := range res.Admit {
		if c.Unit != store.Requests || len(c.Named) != len(c.Check.Limits) || c.Tier != c.Subject.Kind {
			t.Errorf("check %d is %+v", i, c)
		}
		for j, limit := range c.Named {
			if limit.Max != c.Check.Limits[j].Max || limit.Period != c.Check.Limits[j].Period || limit.Shadow != c.Check.Limits[j].Shadow {
				t.Errorf("check %d: limit %s is %+v for the store", i, limit, c.Check.Limits[j])
			}
			if limit.Ordinal >= 0 && snapshot.Limits()[limit.Ordinal] != (TierLimit{Tier: c.Tier, Plan: c.Limits.Plan, Limit: limit}) {
				t.Errorf("check %d: the ordinal of %s is another limit's: %+v", i, limit, snapshot.Limits()[limit.Ordinal])
			}
		}
	}
	if res.Admit[0].OnStoreFailure != Deny || res.Admit[1].OnStoreFailure != Allow || !res.Admit[0].Check.Limits[0].Shadow {
		t.Errorf("got %+v", res.Admit)
	}
	if snapshot.OnStoreFailure("user") != Deny || snapshot.OnStoreFailure(GlobalTier) != Allow {
		t.Error("OnStoreFailure does not say what the policy says")
	}
}

func TestResolveOwnLimit(t *testing.T) {
	t.Parallel()
	own := func(c *Call, index int, most int64, period time.Duration) *Call {
		c.Descriptors[index].Own = &Limit{Name: "", Unit: store.Requests, Max: most, Period: period, Shadow: false, Ordinal: 0}
		return c
	}
	snapshot := mustParse(t, resolvePolicy)
	const global = " global:*1(global: 1000/hour)"
	for _, tc := range []struct {
		name string
		call *Call
		want string
	}{
		{
			"replaces the request limits", own(call("user_id=1"), 0, 3, time.Minute),
			"admit user:1*1(override: 3/minute)" + global + " refund of 11/0",
		},
		{
			"of the descriptor's first subject alone", own(call("x=y,org_id=acme,user_id=1"), 0, 3, time.Hour),
			"admit org:acme*1(override: 3/hour) user:1*1(standard: 10/minute 100/hour)" + global + " refund of 111/0",
		},
		{
			"gives limits to a subject that has none", own(call("org_id=other"), 0, 3, time.Hour),
			"admit org:other*1(override: 3/hour)" + global + " refund of 11/0",
		},
		{"is nobody's without a subject", own(call("x=y"), 0, 3, time.Hour), "admit refund of 0/0"},
		{
			"holds for a subject that another descriptor names, too", own(call("user_id=1", "user_id=1,plan=pro"), 0, 3, time.Hour),
			"admit user:1*1(override: 3/hour)" + global + " refund of 11/0 11/0",
		},
		{
			"in any order", own(call("user_id=1,plan=pro", "user_id=1"), 1, 3, time.Hour),
			"admit user:1*1(override: 3/hour)" + global + " refund of 11/0 11/0",
		},
		{
			"holds together with another", own(own(call("user_id=1", "user_id=1"), 0, 3, time.Hour), 1, 1, time.Minute),
			"admit user:1*1(override: 1/minute 3/hour)" + global + " refund of 11/0 11/0",
		},
		{
			"of one period the smaller holds",
			own(own(own(call("user_id=1", "user_id=1", "user_id=1"), 0, 3, time.Hour), 1, 2, time.Hour), 2, 4, time.Hour),
			"admit user:1*1(override: 2/hour)" + global + " refund of 11/0 11/0 11/0",
		},
	} {
		var res Resolution
		if err := snapshot.Resolve(tc.call, nil, &res); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if got := written(&res); got != tc.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.name, got, tc.want)
		}
	}
	var res Resolution
	if err := snapshot.Resolve(own(call("user_id=1"), 0, 3, time.Minute), nil, &res); err != nil {
		t.Fatal(err)
	}
	if c := res.Admit[0]; c.Named[0].Ordinal != -1 || c.Named[0].Name != "minute" || len(c.Limits.USD) != 1 {
		t.Errorf("got %+v; want the ordinal -1, the period's name, and the plan's money", c.Named[0])
	}
	for _, bad := range []*Call{
		own(call("user_id=1"), 0, -1, time.Minute),
		own(call("user_id=1"), 0, store.MaxRequests+1, time.Minute),
		own(call("user_id=1"), 0, 1, 0),
		own(call("user_id=1"), 0, 1, store.MaxPeriod+1),
	} {
		if err := snapshot.Resolve(bad, nil, &res); !errors.Is(err, ErrOwnLimit) {
			t.Errorf("%+v: got %v; want ErrOwnLimit", bad.Descriptors[0].Own, err)
		}
	}
	many := call()
	for i := range store.MaxLimits + 1 {
		many.Descriptors = append(many.Descriptors, descriptor("user_id=1"))
		own(many, i, 1, time.Duration(i+1)*time.Second)
	}
	if err := snapshot.Resolve(many, nil, &res); !errors.Is(err, ErrOwnLimit) {
		t.Errorf("%d own limits of one subject: got %v; want ErrOwnLimit", store.MaxLimits+1, err)
	}
}

func TestResolveBoundsTheSubjects(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, resolvePolicy)
	most := call()
	for i := range MaxChecks - 1 {
		most.Descriptors = append(most.Descriptors, descriptor("user_id="+strconv.Itoa(i)))
	}
	var res Resolution
	if err := snapshot.Resolve(most, nil, &res); err != nil || len(res.Admit) != MaxChecks {
		t.Fatalf("%d users: %v, %d checks", MaxChecks-1, err, len(res.Admit))
	}
	for i, named := range res.Of {
		want := uint64(1)<<63 | 1<<i
		if named.Admit != want || named.Refund != 0 {
			t.Errorf("descriptor %d has the bits %b; want %b", i, named.Admit, want)
		}
	}
	most.Descriptors = append(most.Descriptors, descriptor("user_id=more"))
	if err := snapshot.Resolve(most, nil, &res); !errors.Is(err, ErrTooManyChecks) {
		t.Errorf("%d users: got %v; want ErrTooManyChecks", MaxChecks, err)
	}
}

func TestSubjectLimits(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, resolvePolicy)
	for _, tc := range []struct{ kind, id, entry, want string }{
		{"user", "1", "", "standard"},
		{"user", "1", "pro", "pro"},
		{"user", "listed", "", "pro"},
		{"org", "acme", "pro", "override"},
		{"org", "other", "pro", ""},
		{"global", "", "pro", "global"},
		{"nobody", "x", "", ""},
	} {
		limits := snapshot.SubjectLimits(store.Subject{Kind: tc.kind, ID: tc.id}, tc.entry, nil)
		if limits == nil || limits.Plan != tc.want {
			t.Errorf("%s %q with the entry %q: got %+v; want the plan %q", tc.kind, tc.id, tc.entry, limits, tc.want)
		}
	}
	if global := snapshot.SubjectLimits(store.Subject{Kind: "global", ID: ""}, "", nil); global.Concurrent.Max != 100 {
		t.Errorf("the global tier has %+v", global)
	}
}

func TestResolveAllocatesNothing(t *testing.T) {
	snapshot := mustParse(t, resolvePolicy)
	known := func(store.Subject) (int64, *Override) { return 0, nil }
	c := call("user_id=1,plan=pro", "org_id=acme,path=/x", "-user_id=2")
	var res Resolution
	if got := testing.AllocsPerRun(100, func() {
		if err := snapshot.Resolve(c, known, &res); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("a call allocates %v times; want 0", got)
	}
}

func BenchmarkResolve(b *testing.B) {
	for name, c := range map[string]*Call{
		"one-descriptor":              call("user_id=1234567"),
		"four-descriptors-of-two":     call("user_id=1234567,path=/a", "user_id=1234567,path=/b", "org_id=acme,path=/c", "path=/d,x=y"),
		"four-descriptors-four-users": call("user_id=1,path=/a", "user_id=2,path=/b", "user_id=3,path=/c", "user_id=4,x=y"),
	} {
		b.Run(name, func(b *testing.B) {
			snapshot := mustParse(b, resolvePolicy)
			known := func(store.Subject) (int64, *Override) { return 0, nil }
			var res Resolution
			b.ReportAllocs()
			for b.Loop() {
				if err := snapshot.Resolve(c, known, &res); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
