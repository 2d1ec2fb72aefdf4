package memory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// user is the n-th user.
func user(n int) store.Subject { return store.Subject{Kind: "user", ID: fmt.Sprintf("user %d", n)} }

// global is the system as a whole.
var global = store.Subject{Kind: "global"}

// take asks for hits of a subject, of which 10 pass in the period, and returns how many it has used.
func take(t *testing.T, s *memory.Store, subject store.Subject, amount int64, period time.Duration) int64 {
	t.Helper()
	version, _, err := s.Override(context.Background(), subject)
	if err != nil {
		t.Fatalf("Override: %v", err)
	}
	ans := new(store.Answer)
	err = s.Admit(context.Background(), &store.Request{Checks: []store.Check{{
		Subject: subject, Unit: store.Requests, Amount: amount, Override: version,
		Limits: []store.Limit{{Max: 10, Period: period}},
	}}}, ans)
	if err != nil {
		t.Fatalf("Admit: %v", err)
	}
	return ans.States[0].Used
}

func TestIdleSubjectsAreSwept(t *testing.T) {
	var clock, swept, early atomic.Int64
	clock.Store(1e15)
	s := memory.New(memory.Options{Now: clock.Load, Shards: 4, OnEvict: func(isEarly bool) {
		if isEarly {
			early.Add(1)
		} else {
			swept.Add(1)
		}
	}})
	t.Run("as others come anew", func(t *testing.T) {
		for n := range 100_000 {
			take(t, s, user(n), 1, time.Second)
			clock.Add(1000) // 1,000 users have a live hit at any moment
			if got := s.Stats().Subjects; got > 3000 {
				t.Fatalf("after %d users %d are held, want about the 1,000 that count", n, got)
			}
		}
	})
	t.Run("as a known one comes again", func(t *testing.T) {
		clock.Add(1e6)
		const known = 256 // so many that each shard is called upon: that one is not has a chance of 1 in 10^31
		for range 10_000 {
			for n := range known {
				take(t, s, user(n), 1, time.Second)
			}
			if s.Stats().Subjects <= known {
				break
			}
		}
		if got := s.Stats().Subjects; got > known {
			t.Errorf("%d subjects are held, want the %d that come", got, known)
		}
	})
	if early.Load() != 0 {
		t.Errorf("%d were evicted early, want none: there was room", early.Load())
	}
	if swept.Load() < 99_000 {
		t.Errorf("%d evictions heard of, want all but a few of 100,000", swept.Load())
	}
}

func TestLiveSubjectsAreNotSwept(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1e15)
	s := memory.New(memory.Options{Now: clock.Load, Shards: 2})
	take(t, s, user(-1), 3, time.Hour)
	for n := range 50_000 {
		clock.Add(1000)
		take(t, s, user(n), 1, time.Millisecond)
	}
	if used := take(t, s, user(-1), 0, time.Hour); used != 3 {
		t.Errorf("a user with live hits has used %d, want 3", used)
	}
}

func TestFullStoreEvictsTheLeastRecentlyUsed(t *testing.T) {
	const most = 100_000
	var early atomic.Int64
	clock := func() int64 { return 1e15 }
	s := memory.New(memory.Options{Now: clock, Shards: 1, MaxBytes: most, OnEvict: func(isEarly bool) {
		if isEarly {
			early.Add(1)
		}
	}})
	if _, err := s.SetOverride(context.Background(), user(0), "plan: gold"); err != nil {
		t.Fatalf("SetOverride: %v", err)
	}
	for n := range 5000 {
		take(t, s, global, 0, time.Hour)
		take(t, s, user(n), 1, time.Hour)
		take(t, s, user(1), 0, time.Hour) // used all the time
		if n < 10 {
			take(t, s, global, 1, time.Hour)
		}
		if got := s.Stats().Bytes; got > most {
			t.Fatalf("after %d users %d bytes are held, want at most %d", n, got, most)
		}
	}
	stats := s.Stats()
	if early.Load() == 0 {
		t.Error("no early eviction was heard of, want some")
	}
	if stats.Subjects < 100 {
		t.Errorf("%d subjects are held in %d bytes, want more than 100", stats.Subjects, most)
	}
	for _, tt := range []struct {
		what    string
		subject store.Subject
		want    int64
	}{
		{"the global subject", global, 10},
		{"the user in use all the time", user(1), 1},
		{"the newest user", user(4999), 1},
		{"a user not seen for long", user(2), 0},
	} {
		if used := take(t, s, tt.subject, 0, time.Hour); used != tt.want {
			t.Errorf("%s has used %d, want %d", tt.what, used, tt.want)
		}
	}
	if _, value, err := s.Override(context.Background(), user(0)); err != nil || value != "plan: gold" {
		t.Errorf("the override of an evicted user is %q, %v, want plan: gold", value, err)
	}
}

func TestOverridesAloneCanFillTheStore(t *testing.T) {
	ctx := context.Background()
	s := memory.New(memory.Options{MaxBytes: 100_000, Shards: 2})
	value := strings.Repeat("x", 1000)
	n, err := 0, error(nil)
	for ; n < 1000 && err == nil; n++ {
		_, err = s.SetOverride(ctx, user(n), value)
	}
	if !errors.Is(err, store.ErrFull) || n < 50 {
		t.Fatalf("override %d: error %v, want ErrFull after about 80", n, err)
	}
	if _, err := s.SetOverride(ctx, user(0), value[1:]); err != nil {
		t.Errorf("replacing an override by a shorter one: %v, want no error", err)
	}
	for i := range n {
		if _, err := s.SetOverride(ctx, user(i), ""); err != nil {
			t.Fatalf("removing override %d: %v", i, err)
		}
	}
	if stats := s.Stats(); stats.Subjects != 0 || stats.Bytes != 0 {
		t.Errorf("after all are removed the store holds %+v, want nothing", stats)
	}
	if _, err := s.SetOverride(ctx, user(0), value); err != nil {
		t.Errorf("an override after all are removed: %v, want no error", err)
	}
}

func TestBytesAreAccountedFor(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1e15)
	s := memory.New(memory.Options{Now: clock.Load})
	for n := range 1000 {
		take(t, s, user(n%100), 1, time.Second)
		clock.Add(1e5)
	}
	for n := range 100 {
		if err := s.Reset(context.Background(), user(n)); err != nil {
			t.Fatalf("Reset: %v", err)
		}
	}
	if stats := s.Stats(); stats.Subjects != 0 || stats.Bytes != 0 {
		t.Errorf("after all are reset the store holds %+v, want nothing", stats)
	}
}

func TestLongIDsTakeLittle(t *testing.T) {
	s := memory.New(memory.Options{})
	for n := range 10 {
		take(t, s, store.Subject{Kind: "user", ID: strings.Repeat("x", 64<<10) + fmt.Sprint(n)}, 1, time.Hour)
	}
	if stats := s.Stats(); stats.Subjects != 10 || stats.Bytes > 10*1024 {
		t.Errorf("10 users of 64 KiB ids: %+v, want 10 subjects in 10 KiB", stats)
	}
}

func TestSumsCannotOverflow(t *testing.T) {
	s := memory.New(memory.Options{Now: func() int64 { return 1e15 }})
	ans := new(store.Answer)
	req := &store.Request{Checks: []store.Check{{
		Subject: user(1), Unit: store.USD, Amount: store.MaxAmount,
		Limits: []store.Limit{{Max: store.MaxAmount, Period: time.Hour, Shadow: true}},
	}}}
	err := error(nil)
	for n := 0; n < 5000 && err == nil; n++ {
		err = s.Admit(context.Background(), req, ans)
		if err == nil && ans.States[0].Used < 0 {
			t.Fatalf("call %d: used %d", n, ans.States[0].Used)
		}
	}
	if err == nil {
		t.Error("5,000 of the largest amounts fit under a watched limit, want an error before the sum overflows")
	}
}

func TestSameSubjectTwiceIsRefused(t *testing.T) {
	s := memory.New(memory.Options{})
	check := store.Check{Subject: user(1), Unit: store.Requests, Amount: 1, Limits: []store.Limit{{Max: 1, Period: time.Hour}}}
	err := s.Admit(context.Background(), &store.Request{Checks: []store.Check{check, check}}, new(store.Answer))
	if err == nil {
		t.Error("no error: two checks of one log could pass a limit together that they must not")
	}
}
