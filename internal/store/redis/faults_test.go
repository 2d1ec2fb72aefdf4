package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The client's dialler of a server that is away sleeps once more after Close; it ends by itself.
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// A whole hour's limit keeps these tests free of the clock.
func hourly(n int64) []store.Limit { return []store.Limit{{Max: n, Period: time.Hour}} }

func ask(id string, limits []store.Limit) store.Check {
	return store.Check{Subject: store.Subject{Kind: "user", ID: id}, Unit: store.Requests, Amount: 1, Limits: limits}
}

func openStore(t *testing.T, opt Options) *Store {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a test may have closed it
	return s
}

// admit asks for checks with ample time.
func admit(t *testing.T, s *Store, checks ...store.Check) (store.Answer, error) {
	t.Helper()
	var ans store.Answer
	err := s.Admit(t.Context(), &store.Request{Checks: checks, Deadline: time.Now().Add(harness.Patience)}, &ans)
	return ans, err
}

func TestADamagedValueAnswersForItselfAlone(t *testing.T) {
	server := harness.Redis(t)
	s := openStore(t, Options{Addrs: []string{server.Addr}})
	limits, all := hourly(1000), hourly(100_000)
	total := store.Check{Subject: store.Subject{Kind: "global"}, Unit: store.Requests, Amount: 1, Limits: all}
	good := ask("whole", limits)
	if _, err := admit(t, s, good, total); err != nil {
		t.Fatal(err)
	}
	whole, err := server.Client.Get(t.Context(), logKey(good.Subject, store.Requests)).Result()
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string]func(key string) error{
		"garbage":           func(key string) error { return server.Client.Set(t.Context(), key, "garbage", 0).Err() },
		"another type":      func(key string) error { return server.Client.RPush(t.Context(), key, "x").Err() },
		"cut in the header": func(key string) error { return server.Client.Set(t.Context(), key, whole[:50], 0).Err() },
		"cut in the entries": func(key string) error {
			// Without what is kept ahead, the entry must be read.
			return server.Client.Set(t.Context(), key, whole[:406], 0).Err()
		},
		"another version": func(key string) error { return server.Client.Set(t.Context(), key, "\x07"+whole[1:], 0).Err() },
	}
	n := int64(1)
	for name, do := range damage {
		bad := ask(name, limits)
		if err := do(logKey(bad.Subject, store.Requests)); err != nil {
			t.Fatal(err)
		}
		// Together in as few script calls as it comes, so that some share one with the damaged log.
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if ans, err := admit(t, s, good, total); err != nil || !ans.Admitted {
					t.Errorf("beside %s: %+v, %v", name, ans, err)
				}
			})
			if name == "cut in the entries" {
				continue // an entry that no window needs is not looked at
			}
			group.Go(func() {
				if _, err := admit(t, s, bad, total); !errors.Is(err, store.ErrCorrupt) {
					t.Errorf("%s: got %v, want ErrCorrupt", name, err)
				}
			})
		}
		group.Wait()
		n += 20
	}
	ans, err := admit(t, s, func() store.Check { c := total; c.Amount = 0; return c }())
	if err != nil || ans.States[0].Used != n {
		t.Errorf("the global tier has %+v, %v; want %d used: a request that failed takes nothing", ans.States, err, n)
	}
}

func TestASilentServerIsAnsweredInTimeAndComesBack(t *testing.T) {
	server := harness.Redis(t)
	s := openStore(t, Options{Addrs: []string{server.Addr}})
	if _, err := admit(t, s, ask("a", hourly(10))); err != nil {
		t.Fatal(err)
	}
	server.Pause()
	for i := range 5 {
		began := time.Now()
		var ans store.Answer
		err := s.Admit(t.Context(), &store.Request{
			Checks: []store.Check{ask("a", hourly(10))}, Deadline: began.Add(10 * time.Millisecond),
		}, &ans)
		if !errors.Is(err, store.ErrTimeout) || !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("call %d: got %v, want ErrTimeout", i, err)
		}
		if took := time.Since(began); took > harness.Patience/4 {
			t.Fatalf("call %d took %s", i, took)
		}
	}
	server.Resume()
	harness.WaitFor(t, "the store answers again", func(context.Context) error {
		_, err := admit(t, s, ask("a", hourly(10)))
		return err
	})
}

func TestAServerThatIsAwayIsUsedOnceItIsThere(t *testing.T) {
	server := harness.RedisAway(t)
	s := openStore(t, Options{Addrs: []string{server.Addr}})
	if _, err := admit(t, s, ask("a", hourly(10))); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("away: got %v", err)
	}
	server.Start()
	harness.WaitFor(t, "the store answers", func(context.Context) error {
		_, err := admit(t, s, ask("a", hourly(10)))
		return err
	})
	server.Restart()
	harness.WaitFor(t, "the store answers after a restart", func(context.Context) error {
		_, err := admit(t, s, ask("a", hourly(10)))
		return err
	})
}

func TestAFullServerTakesNothing(t *testing.T) {
	server := harness.Redis(t, harness.WithArgs("--maxmemory-policy", "noeviction"))
	s := openStore(t, Options{Addrs: []string{server.Addr}})
	if _, err := admit(t, s, ask("a", hourly(10))); err != nil {
		t.Fatal(err)
	}
	if err := server.Client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := admit(t, s, ask("a", hourly(10)), ask("b", hourly(10))); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("full: got %v", err)
	}
	if err := server.Client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	ans, err := admit(t, s, ask("a", hourly(10)), ask("b", hourly(10)))
	if err != nil || ans.States[0].Used != 2 || ans.States[1].Used != 1 {
		t.Fatalf("got %+v, %v; want nothing taken while it was full", ans.States, err)
	}
}

func TestClosingAnswersWhoWaits(t *testing.T) {
	server := harness.Redis(t)
	s := openStore(t, Options{Addrs: []string{server.Addr}})
	if _, err := admit(t, s, ask("a", hourly(1000))); err != nil {
		t.Fatal(err)
	}
	server.Pause()
	defer server.Resume()
	const callers = senders*maxBatch + 100 // more than can be on their way
	errs := make(chan error, callers)
	for i := range callers {
		go func() {
			_, err := admit(t, s, ask(fmt.Sprint(i), hourly(10)))
			errs <- err
		}()
	}
	harness.WaitFor(t, "callers wait", func(context.Context) error {
		s.batch.mu.Lock()
		defer s.batch.mu.Unlock()
		if len(s.batch.queue) == 0 {
			return errors.New("nobody waits")
		}
		return nil
	})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for range callers {
		if err := <-errs; !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	server := harness.RedisAway(t)
	s := openStore(t, Options{Addrs: []string{server.Addr}})
	b := s.batch
	b.mu.Lock()
	for range maxQueue {
		b.queue = append(b.queue, &job{done: make(chan struct{}, 1)})
	}
	b.mu.Unlock()
	began := time.Now()
	_, err := admit(t, s, ask("a", hourly(10)))
	if !errors.Is(err, store.ErrUnavailable) || time.Since(began) > harness.Patience/4 {
		t.Errorf("got %v after %s, want ErrUnavailable at once", err, time.Since(began))
	}
}

func TestALostConnectionIsToldAndSoIsItsReturn(t *testing.T) {
	server := harness.Redis(t)
	s := openStore(t, Options{Addrs: []string{server.Addr}})
	heard := make(chan store.Change, 1024)
	s.OnChange(func(c store.Change) {
		select {
		case heard <- c:
		default: // the test has seen enough
		}
	})
	next := func(what string, is func(store.Change) bool) {
		t.Helper()
		harness.WaitFor(t, what, func(ctx context.Context) error {
			for {
				select {
				case c := <-heard:
					if is(c) {
						return nil
					}
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
	}
	lost := func(c store.Change) bool { return c.Lost }
	restored := func(c store.Change) bool { return c.Restored }
	next("deaf at first", lost)
	next("hearing", restored)
	server.Restart()
	next("deaf while the server is away", lost)
	next("hearing again", restored)
	other := openStore(t, Options{Addrs: []string{server.Addr}})
	subject := store.Subject{Kind: "user", ID: "a\x00b"}
	if err := other.Reset(t.Context(), subject); err != nil {
		t.Fatal(err)
	}
	next("another's reset", func(c store.Change) bool { return c.Subject == subject })
}

func TestACallerIsNotHeldByAnotherThatHasLonger(t *testing.T) {
	server := harness.Redis(t)
	s := openStore(t, Options{Addrs: []string{server.Addr}})
	if _, err := admit(t, s, ask("a", hourly(10))); err != nil {
		t.Fatal(err)
	}
	server.Pause()
	defer server.Resume()
	b := s.batch
	patient := &job{
		checks: []store.Check{ask("b", hourly(10))}, keys: []string{logKey(ask("b", nil).Subject, store.Requests)},
		deadline: time.Now().Add(time.Hour), done: make(chan struct{}, 1),
	}
	b.mu.Lock()
	b.queue = append(b.queue, patient)
	b.mu.Unlock()
	began := time.Now()
	var ans store.Answer
	err := s.Admit(t.Context(), &store.Request{
		Checks: []store.Check{ask("a", hourly(10))}, Deadline: began.Add(10 * time.Millisecond),
	}, &ans)
	if !errors.Is(err, store.ErrTimeout) || time.Since(began) > harness.Patience/4 {
		t.Errorf("got %v after %s, want ErrTimeout in time", err, time.Since(began))
	}
}

// TestADecisionThatTakesNothingDoesNotOutgrowALog shares one script call between a hit and a look with more windows than the
// log has room for.
func TestADecisionThatTakesNothingDoesNotOutgrowALog(t *testing.T) {
	server := harness.Redis(t)
	s := openStore(t, Options{Addrs: []string{server.Addr}})
	few := ask("a", hourly(1000))
	if _, err := admit(t, s, few); err != nil {
		t.Fatal(err)
	}
	many := ask("a", nil)
	many.Amount = 0
	for i := range store.MaxLimits {
		many.Limits = append(many.Limits, store.Limit{Max: 1000, Period: time.Duration(i+1) * time.Minute})
	}
	call := newCall(nil)
	var jobs []*job
	for _, check := range []store.Check{few, many} {
		jobs = append(jobs, &job{
			checks: []store.Check{check}, keys: []string{logKey(check.Subject, check.Unit)}, done: make(chan struct{}, 1),
		})
	}
	buildChecks(call, jobs)
	if err := s.run(t.Context(), s.scripts.admit, call.keys, call.args).Err(); err != nil {
		t.Fatal(err)
	}
	for want := int64(2); want < 30; want++ {
		ans, err := admit(t, s, few)
		if err != nil || ans.States[0].Used != want+1 {
			t.Fatalf("got %+v, %v; want %d used", ans.States, err, want+1)
		}
	}
}

// policies are two that share one log: the first asks for a day, the second for a minute.
func policies() (day, minute store.Check) {
	return ask("a", []store.Limit{{Max: 10, Period: 24 * time.Hour}}),
		ask("a", []store.Limit{{Max: 1000, Period: time.Minute}})
}

func TestAPolicyThatIsDeniedKeepsItsHistory(t *testing.T) {
	server := harness.Redis(t)
	now := int64(1_800_000_000_000_000)
	s := openStore(t, Options{Addrs: []string{server.Addr}, clock: func() int64 { return now }})
	day, minute := policies()
	for range 10 {
		if ans, err := admit(t, s, day); err != nil || !ans.Admitted {
			t.Fatalf("got %+v, %v", ans, err)
		}
	}
	for i := range 3 * 24 * 60 { // three days: a hit of the one and a call of the other each minute
		now += time.Minute.Microseconds() + 1
		if ans, err := admit(t, s, minute); err != nil || !ans.Admitted {
			t.Fatalf("minute %d: got %+v, %v", i, ans, err)
		}
		if ans, err := admit(t, s, day); err != nil || ans.Admitted {
			t.Fatalf("minute %d: got %+v, %v; want it denied by the other policy's hits of the day", i, ans, err)
		}
	}
}

func TestAnotherPolicysExactWindowDoesNotGrowALogWithoutEnd(t *testing.T) {
	server := harness.Redis(t)
	now := int64(1_800_000_000_000_000)
	s := openStore(t, Options{Addrs: []string{server.Addr}, clock: func() int64 { return now }})
	once := ask("a", []store.Limit{{Max: 4000, Period: 24 * time.Hour}})
	busy := ask("a", []store.Limit{{Max: 100_000, Period: time.Second}})
	if _, err := admit(t, s, once); err != nil {
		t.Fatal(err)
	}
	const hits = 40_000
	for i := range hits {
		now += 2000
		if ans, err := admit(t, s, busy); err != nil || !ans.Admitted {
			t.Fatalf("hit %d: got %+v, %v", i, ans, err)
		}
	}
	size, err := server.Client.StrLen(t.Context(), logKey(once.Subject, store.Requests)).Result()
	if err != nil || size > 200_000 {
		t.Fatalf("the log is %d bytes after %d hits, %v", size, hits, err)
	}
	ans, err := admit(t, s, once)
	if err != nil || ans.Admitted || ans.States[0].Used < hits {
		t.Fatalf("got %+v, %v; want all %d hits to count", ans, err, hits)
	}
}

// TestAPartOfARefundGoesOnUnderAnotherOverride has an override change when parts of a refund have been made: to say so would have
// the caller ask for all of it again.
func TestAPartOfARefundGoesOnUnderAnotherOverride(t *testing.T) {
	s := openStore(t, Options{Addrs: []string{harness.Redis(t).Addr}})
	check := ask("a", hourly(9))
	ans, err := admit(t, s, check)
	if err != nil || !ans.Admitted {
		t.Fatal(ans, err)
	}
	if _, err := s.SetOverride(t.Context(), check.Subject, "limits: [5/hour]"); err != nil {
		t.Fatal(err)
	}
	by := piecewise{pieces: string(appendUint56(appendUint56(nil, ans.Now), 1))}
	var after store.Answer
	given, err := s.refundPiecewise(t.Context(), check, by, &after)
	if err != nil || given != 1 || len(after.Stale) > 0 || len(after.States) != 1 || after.States[0].Used != 0 {
		t.Errorf("gave %d back and answered %+v, %v; want the one hit, and no word of the override", given, after, err)
	}
}
