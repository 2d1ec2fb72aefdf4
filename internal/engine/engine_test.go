package engine

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/memory"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testPolicy = `
domain: assistant
subjects:
  user: {key: user_id, default_plan: standard, on_store_failure: allow}
  org: {key: org_id, on_store_failure: deny}
plans:
  standard: {limits: [3/minute, 10/hour, {limit: 2/second, shadow: true}]}
  large: {limits: [1000/minute]}
overrides:
  - {subject: org, id: acme, limits: [5/hour]}
global: {limits: [8/hour], on_store_failure: allow}
`

// asked is the real embedded store, which counts what it is asked and can be told to fail.
type asked struct {
	store.Store
	admits  atomic.Int64
	settles atomic.Int64
	hold    atomic.Pointer[string] // the id of the last hold asked for
	err     atomic.Pointer[error]
	fn      func(store.Change)
}

func (a *asked) Admit(ctx context.Context, req *store.Request, ans *store.Answer) error {
	a.admits.Add(1)
	if req.Hold != nil {
		id := req.Hold.ID
		a.hold.Store(&id)
	}
	if err := a.err.Load(); err != nil && *err != nil {
		return *err
	}
	return a.Store.Admit(ctx, req, ans)
}

func (a *asked) Settle(ctx context.Context, st *store.Settlement, out *store.Settled) error {
	a.settles.Add(1)
	if err := a.err.Load(); err != nil && *err != nil {
		return *err
	}
	return a.Store.Settle(ctx, st, out)
}

func (a *asked) Refund(ctx context.Context, req *store.Request, ans *store.Answer) (int64, error) {
	if err := a.err.Load(); err != nil && *err != nil {
		return 0, *err
	}
	return a.Store.Refund(ctx, req, ans)
}

func (a *asked) Ping(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := a.err.Load(); err != nil && *err != nil {
		return *err
	}
	return a.Store.Ping(ctx)
}

func (a *asked) OnChange(fn func(store.Change)) {
	a.fn = fn
	a.Store.OnChange(fn)
}

func (a *asked) fail(err error) { a.err.Store(&err) }

// bench is an engine over the embedded store in a bubble of time.
type bench struct {
	*Engine
	t      *testing.T
	store  *asked
	policy atomic.Pointer[policy.Snapshot]
}

func parse(t *testing.T, text string) *policy.Snapshot {
	t.Helper()
	s, _, err := policy.Parse("test.yaml", []byte(text), policy.Adjustments{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs a test of an engine; time moves only when the test sleeps in the bubble.
func run(t *testing.T, change func(*Options), test func(*testing.T, *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		mem := memory.New(memory.Options{MaxBytes: 1 << 20, Now: func() int64 { return time.Now().UnixMicro() }})
		defer func() {
			if err := mem.Close(); err != nil {
				t.Error(err)
			}
		}()
		b := &bench{t: t, store: &asked{Store: mem}}
		b.policy.Store(parse(t, testPolicy))
		opt := Options{
			Store: b.store, Policy: b.policy.Load, Timeout: 10 * time.Millisecond,
			Metrics: telemetry.NewMetrics(prometheus.NewRegistry()), Log: telemetry.NopLog(),
		}
		if change != nil {
			change(&opt)
		}
		b.Engine = New(opt)
		defer func() {
			if err := b.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		test(t, b)
	})
}

func user(id string, amount int64) policy.Descriptor {
	return policy.Descriptor{Entries: []policy.Entry{{Key: "user_id", Value: id}}, Amount: amount}
}

func org(id string, amount int64) policy.Descriptor {
	return policy.Descriptor{Entries: []policy.Entry{{Key: "org_id", Value: id}}, Amount: amount}
}

func (b *bench) decide(descriptors ...policy.Descriptor) *Decision {
	b.t.Helper()
	var dec Decision
	if err := b.Decide(b.t.Context(), &policy.Call{Domain: "assistant", Descriptors: descriptors}, &dec); err != nil {
		b.t.Fatal(err)
	}
	return &dec
}

func (b *bench) exhaust(id string) *Decision {
	b.t.Helper()
	for range 3 {
		if b.decide(user(id, 1)).Denied {
			b.t.Fatal("denied within its limit")
		}
	}
	dec := b.decide(user(id, 1))
	if !dec.Denied {
		b.t.Fatal("admitted over its limit")
	}
	return dec
}

func TestATightestLimitIsNamedAndCountsDown(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		for want := int64(2); want >= 0; want-- {
			dec := b.decide(user("a", 1))
			st := dec.Statuses[0]
			if dec.Denied || dec.Mode != Stored || st.Tier != "user" || st.Limit.Name != "minute" || st.Remaining != want {
				t.Fatalf("got %+v of limit %+v, want %d of the user's minute left", dec, st.Limit, want)
			}
		}
	})
}

func TestADenialNamesTheLimitWithTheLongestWait(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		for range 2 {
			b.exhaust("a")
			time.Sleep(time.Minute)
		}
		for range 2 { // the global tier's 8 an hour are used up; the user's minute is too after one more
			b.decide(user("a", 1))
		}
		dec := b.decide(user("a", 2))
		if !dec.Denied || dec.Deciding.Tier != policy.GlobalTier || dec.Statuses[0].Tier != policy.GlobalTier {
			t.Fatalf("got %+v, want a denial by the global tier", dec)
		}
		if want := time.Hour - 2*time.Minute; dec.Deciding.Wait != want {
			t.Fatalf("got a wait of %s, want %s", dec.Deciding.Wait, want)
		}
	})
}

func TestDeniedByGlobalDeniesEveryMatchedDescriptor(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		for _, id := range []string{"a", "b"} {
			b.exhaust(id)
		}
		b.decide(user("c", 1))
		b.decide(user("c", 1))
		other := policy.Descriptor{Entries: []policy.Entry{{Key: "path", Value: "/"}}, Amount: 1}
		dec := b.decide(user("d", 1), org("acme", 1), other)
		for i, denied := range []bool{true, true, false} {
			if dec.Statuses[i].Denied != denied || dec.Statuses[i].Matched != denied {
				t.Errorf("descriptor %d: got %+v, want denied %v", i, dec.Statuses[i], denied)
			}
		}
	})
}

func TestADescriptorThatItsSubjectAllowsIsNotDeniedByAnother(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		b.exhaust("a")
		b.change() // forget the denial, so that the store answers
		dec := b.decide(user("a", 1), org("acme", 1))
		if !dec.Denied || !dec.Statuses[0].Denied || dec.Statuses[1].Denied {
			t.Fatalf("got %+v, want only the first denied", dec)
		}
		if got := dec.Statuses[1].Remaining; got != 5 {
			t.Fatalf("the organisation has %d left, want all 5: a denied call consumes nothing", got)
		}
	})
}

// change has the engine forget what it remembers, as when changes elsewhere could not be heard for a while.
func (b *bench) change() {
	b.store.fn(store.Change{Lost: true})
	b.store.fn(store.Change{Restored: true})
}

func TestWhatNothingAppliesToPasses(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		other := policy.Descriptor{Entries: []policy.Entry{{Key: "path", Value: "/"}}, Amount: 1}
		if dec := b.decide(other); dec.Denied || dec.Mode != Unmatched || dec.Statuses[0].Matched {
			t.Errorf("no subject: got %+v", dec)
		}
		var dec Decision
		call := &policy.Call{Domain: "elsewhere", Descriptors: []policy.Descriptor{user("a", 1)}}
		if err := b.Decide(t.Context(), call, &dec); err != nil || dec.Denied || dec.Mode != Unmatched {
			t.Errorf("unknown domain: got %+v, %v", dec, err)
		}
		if b.store.admits.Load() != 0 {
			t.Error("the store was asked")
		}
	})
}

func TestDisabledAsksNothing(t *testing.T) {
	run(t, func(o *Options) { o.Disabled = true }, func(t *testing.T, b *bench) {
		for range 20 {
			if dec := b.decide(user("a", 1)); dec.Denied || dec.Mode != Disabled {
				t.Fatalf("got %+v", dec)
			}
		}
		if b.store.admits.Load() != 0 {
			t.Error("the store was asked")
		}
	})
}

func TestAShadowLimitIsCountedAndNeverEnforced(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		for i := range 3 {
			dec := b.decide(user("a", 1))
			if dec.Denied || (len(dec.Shadowed) == 1) != (i == 2) {
				t.Fatalf("call %d: got %+v, want the third to go past the shadow limit", i, dec)
			}
		}
		counted := testutil.ToFloat64(b.opt.Metrics.Decisions.WithLabelValues(
			"user", "second", telemetry.UnitRequests, telemetry.VerdictDenied, telemetry.ModeShadow))
		if counted != 1 {
			t.Fatalf("counted %v shadow denials, want 1", counted)
		}
	})
}

func TestALostStoreAnswersByTier(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		b.store.fail(store.ErrTimeout)
		dec := b.decide(user("a", 1))
		if dec.Denied || dec.Mode != FailedOpen || dec.Statuses[0].Limit != nil || !dec.Statuses[0].Matched {
			t.Errorf("user: got %+v, want it let through without numbers", dec)
		}
		dec = b.decide(user("a", 1), org("acme", 1))
		if !dec.Denied || dec.Mode != FailedShut || dec.Statuses[0].Denied || !dec.Statuses[1].Denied ||
			dec.Deciding.Tier != "org" || dec.Deciding.Limit != nil {
			t.Errorf("org: got %+v, want it denied by its tier, without numbers", dec)
		}
		for tier, want := range map[string]float64{"user": 1, policy.GlobalTier: 1, "org": 0} {
			if got := testutil.ToFloat64(b.opt.Metrics.FailOpens.WithLabelValues(tier)); got != want {
				t.Errorf("%v fail-opens of %s are counted, want %v", got, tier, want)
			}
		}
		if got := testutil.ToFloat64(b.opt.Metrics.StoreErrors.WithLabelValues(telemetry.KindTimeout)); got != 2 {
			t.Errorf("%v timeouts are counted, want 2", got)
		}
	})
}

func TestTheStoreIsUpUntilItDoesNotAnswerWhenAsked(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for _, step := range []struct {
			what string
			do   func()
			want float64
		}{
			{"an answer", func() { _ = b.StoreErr(t.Context()) }, 1},
			{"a decision that was too late", func() { b.store.fail(store.ErrTimeout); b.decide(user("a", 1)) }, 1},
			{"a question whose asker has gone", func() { _ = b.StoreErr(gone) }, 1},
			{"no answer", func() { _ = b.StoreErr(t.Context()) }, 0},
			{"an answer again", func() { b.store.fail(nil); _ = b.StoreErr(t.Context()) }, 1},
		} {
			step.do()
			if got := testutil.ToFloat64(b.opt.Metrics.StoreUp); got != step.want {
				t.Errorf("after %s the metric reads %v, want %v", step.what, got, step.want)
			}
		}
	})
}

func TestACallerThatHasGoneGetsItsOwnError(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var dec Decision
		err := b.Decide(ctx, &policy.Call{Domain: "assistant", Descriptors: []policy.Descriptor{user("a", 1)}}, &dec)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestADenialIsAnsweredFromMemoryUntilItEnds(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		first := b.exhaust("a")
		asked := b.store.admits.Load()
		time.Sleep(first.Deciding.Wait - time.Millisecond)
		dec := b.decide(user("a", 1))
		if !dec.Denied || dec.Mode != Local || dec.Deciding.Wait != time.Millisecond || dec.Deciding.Remaining != 0 {
			t.Fatalf("1 ms before the end: got %+v, want a local denial", dec)
		}
		if b.store.admits.Load() != asked {
			t.Fatal("the store was asked")
		}
		time.Sleep(time.Millisecond)
		if dec := b.decide(user("a", 1)); dec.Denied || dec.Mode != Stored {
			t.Fatalf("at the end: got %+v, want it admitted", dec)
		}
	})
}

func TestADenialIsForgottenWhenItMayNoLongerHold(t *testing.T) {
	refund := user("a", 1)
	refund.Refund = true
	for name, change := range map[string]func(*bench){
		"refund": func(b *bench) { b.decide(refund) },
		"reset": func(b *bench) {
			if err := b.Reset(b.t.Context(), store.Subject{Kind: "user", ID: "a"}); err != nil {
				b.t.Error(err)
			}
		},
		"override": func(b *bench) {
			_, err := b.SetOverride(b.t.Context(), store.Subject{Kind: "user", ID: "a"}, `{"plan":"large"}`)
			if err != nil {
				b.t.Error(err)
			}
		},
		"policy": func(b *bench) {
			b.policy.Store(parse(b.t, `{domain: assistant, subjects: {user: {key: user_id, default_plan: p}}, plans: {p: {limits: [9/minute]}}}`))
		},
		"the global tier's reset": func(b *bench) {
			b.exhaust("b")
			b.decide(user("c", 1))
			b.decide(user("c", 1))
			if dec := b.decide(user("d", 1)); !dec.Denied {
				b.t.Errorf("got %+v, want the global tier used up", dec)
			}
			for _, s := range []store.Subject{{Kind: policy.GlobalTier}, {Kind: "user", ID: "a"}} {
				if err := b.Reset(b.t.Context(), s); err != nil {
					b.t.Error(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(t *testing.T, b *bench) {
				b.exhaust("a")
				change(b)
				if dec := b.decide(user("a", 1)); dec.Denied {
					b.t.Fatalf("got %+v, want it admitted at once", dec)
				}
			})
		})
	}
}

func TestNothingIsRememberedWhileChangesCannotBeHeard(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		b.store.fn(store.Change{Lost: true})
		b.exhaust("a")
		if dec := b.decide(user("a", 1)); !dec.Denied || dec.Mode != Stored {
			t.Fatalf("got %+v, want the store's own denial", dec)
		}
		b.store.fn(store.Change{Restored: true})
		b.decide(user("a", 1))
		if dec := b.decide(user("a", 1)); dec.Mode != Local {
			t.Fatalf("got %+v, want a local denial again", dec)
		}
	})
}

func TestALargerAmountIsAskedOfTheStore(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		b.exhaust("a")
		dec := b.decide(user("a", 4))
		if !dec.Denied || dec.Mode != Stored || dec.Deciding.Wait != store.Never {
			t.Fatalf("got %+v, want the store's denial for ever: 4 never fit into 3/minute", dec)
		}
	})
}

func TestAnOverrideHoldsAtOnceAndSurvivesAReload(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		subject := store.Subject{Kind: "user", ID: "a"}
		if _, err := b.SetOverride(t.Context(), subject, `{"limits":["1/minute"]}`); err != nil {
			t.Fatal(err)
		}
		if b.decide(user("a", 1)).Denied || !b.decide(user("a", 1)).Denied {
			t.Fatal("want 1 a minute")
		}
		b.policy.Store(parse(t, testPolicy))
		if !b.decide(user("a", 1)).Denied {
			t.Fatal("want 1 a minute after a reload")
		}
		if _, err := b.SetOverride(t.Context(), subject, ""); err != nil {
			t.Fatal(err)
		}
		if b.decide(user("a", 1)).Denied {
			t.Fatal("want the plan's 3 a minute once the override is gone")
		}
	})
}

func TestARefundGivesBackWhatWasTaken(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		b.decide(user("a", 2))
		refund := user("a", 5)
		refund.Refund = true
		dec := b.decide(refund)
		if dec.Denied || dec.Mode != Stored || dec.Statuses[0].Remaining != 3 {
			t.Fatalf("got %+v of %+v, want the whole minute back", dec, dec.Statuses[0])
		}
		_, global, err := b.Usage(t.Context(), "a")
		if err != nil || global.Requests[0].Used != 0 {
			t.Fatalf("the global tier has %+v, %v, want nothing used and nothing below it", global.Requests, err)
		}
	})
}

func TestUsageReadsAndChangesNothing(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		b.decide(user("a", 2))
		for range 5 {
			own, global, err := b.Usage(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			if own.Requests[0].Plan != "standard" || own.Requests[1].Used != 2 || global.Requests[0].Used != 2 {
				t.Fatalf("got %+v and %+v, want 2 used", own, global)
			}
			if got, want := own.Requests[1].Resets, time.Now().Add(time.Minute); !got.Equal(want.Truncate(time.Microsecond)) {
				t.Fatalf("the minute resets at %s, want %s", got, want)
			}
		}
	})
}

func TestAKindThatThePolicyDoesNotKnowIsRefused(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		bad := store.Subject{Kind: "team", ID: "a"}
		if _, err := b.SetOverride(t.Context(), bad, `{"plan":"large"}`); !errors.Is(err, ErrBadCall) {
			t.Errorf("SetOverride: got %v", err)
		}
		if _, _, err := b.Override(t.Context(), bad); !errors.Is(err, ErrBadCall) {
			t.Errorf("Override: got %v", err)
		}
		if err := b.Reset(t.Context(), bad); !errors.Is(err, ErrBadCall) {
			t.Errorf("Reset: got %v", err)
		}
		good := store.Subject{Kind: "user", ID: "a"}
		if _, err := b.SetOverride(t.Context(), good, `{"plan":"none such"}`); !errors.Is(err, ErrBadCall) {
			t.Errorf("a plan that does not exist: got %v", err)
		}
	})
}

func giveBack(d policy.Descriptor) policy.Descriptor {
	d.Refund = true
	return d
}

func used(b *bench, id string) int64 {
	b.t.Helper()
	own, _, err := b.Usage(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return own.Requests[1].Used // a minute's
}

func TestARefundIsGivenOnceHoweverOftenTheCallIsAskedAnew(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		b.decide(user("a", 3))
		// An override of the other user, not known here yet, has the call asked anew.
		if _, err := b.SetOverride(t.Context(), store.Subject{Kind: "user", ID: "b"}, `{"plan":"large"}`); err != nil {
			t.Fatal(err)
		}
		dec := b.decide(giveBack(user("a", 1)), user("b", 1))
		if dec.Denied || dec.Statuses[0].Remaining != 1 || dec.Statuses[1].Limit.Max != 8 {
			t.Fatalf("got %+v, %+v and %+v", dec, dec.Statuses[0], dec.Statuses[1].Limit)
		}
		if got := used(b, "a"); got != 2 {
			t.Fatalf("%d used after 3 hits and 1 given back, want 2", got)
		}
	})
}

func TestARefundComesBeforeWhatTheCallTakes(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		b.decide(user("a", 3))
		if dec := b.decide(giveBack(user("a", 1)), user("a", 1)); dec.Denied {
			t.Fatalf("got %+v, want room for what was given back", dec)
		}
		if got := used(b, "a"); got != 3 {
			t.Fatalf("%d used, want 3", got)
		}
	})
}

func TestARefundThatCannotBeDoneFailsOpenAndSaysSo(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		b.store.fail(store.ErrTimeout)
		dec := b.decide(giveBack(user("a", 1)))
		if dec.Denied || dec.Mode != FailedOpen || !dec.Statuses[0].Matched || dec.Statuses[0].Limit != nil {
			t.Fatalf("got %+v, want a fail-open without numbers", dec)
		}
		if got := testutil.ToFloat64(b.opt.Metrics.FailOpens.WithLabelValues("user")); got != 1 {
			t.Fatalf("%v fail-opens are counted, want 1", got)
		}
	})
}

// TestACallFailsOpenOnceForATier has calls that make several checks of a tier, or none that let it through.
func TestACallFailsOpenOnceForATier(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(b *bench)
		want map[string]float64
	}{
		"what it holds is checked beside its request": {
			func(b *bench) { b.reserve(of("a", 1, 1)) },
			map[string]float64{"user": 1, policy.GlobalTier: 1},
		},
		"it gives back and takes": {
			func(b *bench) { b.decide(giveBack(user("a", 1)), user("a", 1)) },
			map[string]float64{"user": 1},
		},
		"it gives back, and is denied": {
			func(b *bench) {
				if dec := b.decide(giveBack(user("a", 1)), user("full", 1)); !dec.Denied {
					b.t.Errorf("got %+v, want the denial that is remembered", dec)
				}
			},
			map[string]float64{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			runCost(t, "", nil, func(t *testing.T, b *bench) {
				for range 6 {
					if b.decide(user("full", 1)).Denied {
						break
					}
				}
				b.store.fail(store.ErrTimeout)
				tc.do(b)
				if got := counted(t, b.opt.Metrics.FailOpens, "tier"); !maps.Equal(got, tc.want) {
					t.Errorf("fail-opens: got %v, want %v", got, tc.want)
				}
			})
		})
	}
}

func TestADenialByALoweredLimitIsNotRemembered(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		b.decide(user("a", 1))
		time.Sleep(20 * time.Second)
		b.decide(user("a", 1))
		b.decide(user("a", 1))
		lowered := strings.Replace(testPolicy, "3/minute", "1/minute", 1)
		b.policy.Store(parse(t, lowered))
		for i := range 2 { // the store's own numbers both times: the oldest hit leaves long before the user is admitted
			dec := b.decide(user("a", 1))
			if dec.Mode != Stored || dec.Deciding.Reset != 40*time.Second || dec.Deciding.Wait != time.Minute {
				t.Fatalf("call %d: got %+v, want the store's reset in 40s and wait of 1m", i, dec.Deciding)
			}
		}
	})
}

func TestARequestIDAsksForAHold(t *testing.T) {
	run(t, nil, func(t *testing.T, b *bench) {
		d := user("a", 1)
		d.Entries = append(d.Entries, policy.Entry{Key: "request_id", Value: "r-1"})
		ids := map[string]bool{}
		for range 3 { // a client may choose it: it does not make the call a repeat
			dec := b.decide(d)
			if dec.Denied || dec.Hold == "" {
				t.Fatalf("got %+v within its limit, want it admitted, with a hold", dec)
			}
			ids[*b.store.hold.Load()] = true
		}
		if dec := b.decide(d); !dec.Denied || dec.Hold != "" {
			t.Fatalf("got %+v: the same id gained a request", dec)
		}
		if len(ids) != 3 {
			t.Fatalf("%d holds of 3 calls", len(ids))
		}
		if dec := b.decide(user("b", 1)); dec.Hold != "" {
			t.Fatalf("got the hold %q of a call that asked for none", dec.Hold)
		}
	})
}

func TestOverridesAreKeptWithinABound(t *testing.T) {
	o, snapshot := newOverrides(), parse(t, testPolicy)
	for i := range 3000 {
		s := store.Subject{Kind: "user", ID: strings.Repeat("long", 4000) + strconv.Itoa(i)}
		if err := o.learn(snapshot, s, int64(i+1), `{"plan":"large"}`); err != nil {
			t.Fatal(err)
		}
		if version, parsed := o.known(snapshot, s); version != int64(i+1) || parsed == nil {
			t.Fatalf("override %d is forgotten at once", i)
		}
	}
	for i := range o.shards {
		if o.shards[i].bytes > overrideBytes {
			t.Fatalf("a shard holds %d bytes, more than %d", o.shards[i].bytes, overrideBytes)
		}
	}
}
