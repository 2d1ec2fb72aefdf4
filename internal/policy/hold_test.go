package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// holdPolicy has subjects of every sort: with limits of all units, of money alone, of slots alone, and with none.
const holdPolicy = `domain: assistant
subjects:
  user: {key: user_id, plan_key: plan, trust_plan: true, default_plan: standard}
  org: {key: org_id, default_plan: money}
  model: {key: model}
  team: {key: tag.team}
plans:
  standard: {limits: [2 concurrent, 5 USD/day, 50 tokens/minute, 10/minute, {limit: 90 USD/month, window: calendar}]}
  money: {limits: [9 USD/day]}
  slots: {limits: [1 concurrent]}
  counted: {limits: [60/minute]}
overrides:
  - {subject: model, id: big, plan: money}
  - {subject: team, id: red, limits: [3 concurrent, 7 tokens/day]}
global: {limits: [1000/hour, 100 concurrent, 100 USD/day]}
`

// holding makes a call that holds 30 nano-USD, 20 tokens and a slot.
func holding(descriptors ...string) *Call {
	c := call(descriptors...)
	c.Hold = &Hold{USD: 30, Tokens: 20, Slot: true}
	return c
}

// writtenByUnit writes a resolution as "user:1 [10/minute]*1 [5 USD/day]*30 ..." with the bits of each descriptor.
func writtenByUnit(res *Resolution) string {
	var text strings.Builder
	for _, c := range res.Admit {
		var limits []string
		for _, limit := range c.Named {
			if c.origin == fromNowhere {
				limits = append(limits, "nothing")
				continue
			}
			limits = append(limits, limit.String())
		}
		fmt.Fprintf(&text, "%s:%s [%s]*%d ", c.Subject.Kind, c.Subject.ID, strings.Join(limits, ", "), c.Amount)
	}
	text.WriteString("of")
	for _, named := range res.Of {
		fmt.Fprintf(&text, " %b/%b", named.Admit, named.Refund)
	}
	return text.String()
}

func TestResolveWithAHold(t *testing.T) {
	t.Parallel()
	const (
		user   = " [10/minute]*1 [50 tokens/minute]*20 [5 USD/day, 90 USD/month (calendar, UTC)]*30 [2 concurrent]*1 "
		global = "global: [1000/hour]*1 global: [100 USD/day]*30 global: [100 concurrent]*1 "
	)
	units := func(subject, checks string) string {
		return strings.TrimPrefix(strings.ReplaceAll(checks, " [", " "+subject+" ["), " ")
	}
	snapshot := mustParse(t, holdPolicy)
	for _, tc := range []struct {
		name string
		call *Call
		want string
	}{
		{"a user has a check of each unit, side by side", holding("user_id=1"), units("user:1", user) + global + "of 1111111/0"},
		{
			"the largest amount is that of requests alone", holding("user_id=1*3", "user_id=1*0"),
			units("user:1", strings.Replace(user, "*1 [50", "*3 [50", 1)) + strings.Replace(global, "*1", "*3", 1) + "of 1111111/0 1111111/0",
		},
		{
			"an organisation with money alone", holding("user_id=1,org_id=a"),
			units("user:1", user) + "org:a [9 USD/day]*30 " + global + "of 11111111/0",
		},
		{
			"two descriptors name their own checks", holding("user_id=1", "org_id=a", "x=y"),
			units("user:1", user) + "org:a [9 USD/day]*30 " + global + "of 11101111/0 11110000/0 0/0",
		},
		{
			"budgets of a model and of a tag", holding("user_id=1,plan=counted,model=big,tag.team=red"),
			"user:1 [60/minute]*1 model:big [9 USD/day]*30 team:red [7 tokens/day]*20 team:red [3 concurrent]*1 " + global + "of 1111111/0",
		},
		{
			"a subject without any limit is looked at", holding("user_id=1,plan=counted,model=small"),
			"user:1 [60/minute]*1 model:small [nothing]*0 " + global + "of 11111/0",
		},
		{
			"a plan of slots alone", holding("user_id=1,plan=slots"), "user:1 [1 concurrent]*1 " + global + "of 1111/0",
		},
		{
			"limits that a later descriptor brings", holding("model=small", "user_id=1,plan=slots", "user_id=1,plan=counted"),
			"model:small [nothing]*0 user:1 [1 concurrent]*1 " + global + "of 11101/0 11110/0 11110/0",
		},
		{
			"giving back is of requests alone", holding("-user_id=1", "-org_id=a"), "of 11/0",
		},
	} {
		if tc.name == "giving back is of requests alone" {
			tc.want = "of 0/11 0/10"
		}
		var res Resolution
		for range 2 { // the second time into what the first left
			if err := snapshot.Resolve(tc.call, nil, &res); err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			if got := writtenByUnit(&res); got != tc.want {
				t.Errorf("%s: got\n%s\nwant\n%s", tc.name, got, tc.want)
			}
		}
	}
}

func TestResolveWithoutASlotAsksForNone(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, holdPolicy)
	c := holding("user_id=1,plan=slots", "org_id=a")
	c.Hold = &Hold{USD: 7}
	var res Resolution
	if err := snapshot.Resolve(c, nil, &res); err != nil {
		t.Fatal(err)
	}
	want := "user:1 [nothing]*0 org:a [9 USD/day]*7 global: [1000/hour]*1 global: [100 USD/day]*7 of 1101/0 1110/0"
	if got := writtenByUnit(&res); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestResolveWithoutAHoldAsksForRequestsAlone(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, holdPolicy)
	var res Resolution
	if err := snapshot.Resolve(holding("user_id=1", "org_id=a"), nil, &res); err != nil {
		t.Fatal(err)
	}
	if err := snapshot.Resolve(call("user_id=1", "org_id=a"), nil, &res); err != nil {
		t.Fatal(err)
	}
	want := "user:1 [10/minute]*1 org:a [nothing]*0 global: [1000/hour]*1 of 101/0 110/0"
	if got := writtenByUnit(&res); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestResolveWithAHoldChecksAreWhole(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, holdPolicy)
	known := func(s store.Subject) (int64, *Override) {
		if s.Kind == "user" {
			return 4, nil
		}
		return 0, nil
	}
	var res Resolution
	if err := snapshot.Resolve(holding("user_id=1", "model=big"), known, &res); err != nil {
		t.Fatal(err)
	}
	for i, c := range res.Admit {
		version, _ := known(c.Subject)
		if len(c.Named) == 0 || len(c.Named) != len(c.Check.Limits) || c.Tier != c.Subject.Kind || c.Override != version {
			t.Errorf("check %d is %+v", i, c)
		}
		for j, limit := range c.Named {
			stored := c.Check.Limits[j]
			if limit.Unit != c.Unit || limit.Max != stored.Max || limit.Period != stored.Period || limit.Calendar != stored.Calendar {
				t.Errorf("check %d: limit %s is %+v for the store", i, limit, stored)
			}
			if snapshot.Limits()[limit.Ordinal] != (TierLimit{Tier: c.Tier, Plan: c.Limits.Plan, Limit: limit}) {
				t.Errorf("check %d: the ordinal of %s is another limit's: %+v", i, limit, snapshot.Limits()[limit.Ordinal])
			}
		}
	}
	if slots := res.Admit[3]; &slots.Named[0] != slots.Limits.Concurrent {
		t.Error("the slots of a check are not the limit that Limits has of them")
	}
}

func TestResolveAHoldWithTheCallersOwnLimit(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, holdPolicy)
	c := holding("user_id=1", "model=small")
	for i := range c.Descriptors {
		c.Descriptors[i].Own = &Limit{Max: 3, Period: day}
	}
	var res Resolution
	if err := snapshot.Resolve(c, nil, &res); err != nil {
		t.Fatal(err)
	}
	want := "user:1 [3/day]*1 user:1 [50 tokens/minute]*20 user:1 [5 USD/day, 90 USD/month (calendar, UTC)]*30 " +
		"user:1 [2 concurrent]*1 model:small [3/day]*1 " +
		"global: [1000/hour]*1 global: [100 USD/day]*30 global: [100 concurrent]*1 of 11101111/0 11110000/0"
	if got := writtenByUnit(&res); got != want {
		t.Errorf("got\n%s\nwant the caller's limit of requests, and the policy's of the rest\n%s", got, want)
	}
}

func TestResolveWithAHoldAsksForOverrides(t *testing.T) {
	t.Parallel()
	snapshot := mustParse(t, holdPolicy)
	own, err := snapshot.ParseOverride("model", `{"limits":["4 USD/day"]}`)
	if err != nil {
		t.Fatal(err)
	}
	var res Resolution
	known := func(store.Subject) (int64, *Override) { return 7, own }
	if err := snapshot.Resolve(holding("user_id=1,model=small"), known, &res); err != nil {
		t.Fatal(err)
	}
	want := "user:1 [4 USD/day]*30 model:small [4 USD/day]*30 global: [4 USD/day]*30 of 111/0"
	if got := writtenByUnit(&res); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestResolveWithAHoldBoundsTheSubjects(t *testing.T) {
	t.Parallel()
	text := strings.Replace(holdPolicy, "global: {limits: [1000/hour,", "global: {limits: [1000/hour, 9 tokens/day,", 1)
	snapshot := mustParse(t, text)
	most := holding()
	for i := range MaxHeld {
		most.Descriptors = append(most.Descriptors, descriptor("user_id="+strconv.Itoa(i)))
	}
	var res Resolution
	if err := snapshot.Resolve(most, nil, &res); err != nil || len(res.Admit) != MaxChecks || MaxHeld != 15 {
		t.Fatalf("%d users: %v, %d checks", MaxHeld, err, len(res.Admit))
	}
	for i, named := range res.Of {
		if want := uint64(0b1111)<<60 | 0b1111<<(4*i); named.Admit != want {
			t.Errorf("descriptor %d has the bits %b; want %b", i, named.Admit, want)
		}
	}
	most.Descriptors = append(most.Descriptors, descriptor("user_id=more"))
	if err := snapshot.Resolve(most, nil, &res); !errors.Is(err, ErrTooManyChecks) {
		t.Errorf("%d users: got %v; want ErrTooManyChecks", MaxHeld+1, err)
	}
}

func TestResolveWithAHoldAllocatesNothing(t *testing.T) {
	snapshot := mustParse(t, holdPolicy)
	known := func(store.Subject) (int64, *Override) { return 0, nil }
	c := holding("user_id=1,model=big,tag.team=red", "org_id=acme")
	var res Resolution
	if got := testing.AllocsPerRun(100, func() {
		if err := snapshot.Resolve(c, known, &res); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("a call allocates %v times; want 0", got)
	}
}
