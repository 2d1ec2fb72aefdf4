package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// TestTheBooksBalance makes random calls, in a store with room and in one that evicts all the time, and compares every
// count that the store keeps with what it holds.
func TestTheBooksBalance(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, maxBytes := range []int64{DefaultMaxBytes, 60_000, 15_000} {
		t.Run(fmt.Sprint(maxBytes), func(t *testing.T) {
			c := &clerk{t: t, random: rand.New(rand.NewPCG(seed, uint64(maxBytes))), now: 1e15}
			c.s = New(Options{
				MaxBytes: maxBytes, Shards: 3, Now: func() int64 { return c.now }, OnForget: func() { c.early++ },
				OnEvict: func(early bool) {
					if early {
						c.early++
					}
				},
			})
			for n := range 20_000 {
				c.call()
				if n%20 == 0 {
					c.balance()
				}
				if got, most := c.s.Stats().Bytes, maxBytes+c.global(); got > most {
					t.Fatalf("after %d calls %d bytes are held, want at most %d", n, got, most)
				}
			}
			c.end()
		})
	}
}

// TestTheBooksBalanceAfterACrowd has many goroutines hold of two subjects of different shards, while others touch one of the two
// and leases end. Run it with -race.
func TestTheBooksBalanceAfterACrowd(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, maxBytes := range []int64{DefaultMaxBytes, 100_000} {
		t.Run(fmt.Sprint(maxBytes), func(t *testing.T) {
			const workers, calls = 4, 5_000
			var clock atomic.Int64
			clock.Store(1e15)
			s := New(Options{MaxBytes: maxBytes, Shards: 8, Now: clock.Load})
			var group sync.WaitGroup
			for w := range uint64(workers) {
				group.Go(func() {
					random := rand.New(rand.NewPCG(seed, w))
					for n := range calls {
						crowd(s, random, &clock, fmt.Sprint(w, "-", n-random.IntN(6)))
					}
				})
			}
			group.Wait()
			(&clerk{t: t, s: s}).balance()
		})
	}
}

// crowd makes a random call: a hold of an id, its settlement, a question by one of its subjects, or none while time goes by.
func crowd(s *Store, random *rand.Rand, clock *atomic.Int64, id string) {
	one := store.Subject{Kind: "user", ID: fmt.Sprint(random.IntN(20))}
	other := store.Subject{Kind: "org", ID: fmt.Sprint(random.IntN(5))}
	limits := []store.Limit{{Max: store.MaxAmount, Period: time.Hour}}
	check := func(subject store.Subject, amount int64) store.Check {
		return store.Check{Subject: subject, Unit: store.USD, Amount: amount, Limits: limits}
	}
	// What errs, as a settlement of an id that is not known, is of no matter here.
	switch random.IntN(5) {
	case 0, 1:
		slot := store.Check{Subject: one, Unit: store.Concurrent, Amount: 1, Limits: []store.Limit{{Max: store.MaxAmount}}}
		_ = s.Admit(context.Background(), &store.Request{
			Hold:   &store.Hold{ID: id, Lease: store.MinLease, Slot: true, USD: 10, Fingerprint: 1},
			Checks: []store.Check{check(one, 10), slot, check(other, 10)},
		}, new(store.Answer))
	case 2:
		_ = s.Admit(context.Background(), &store.Request{Checks: []store.Check{check(other, 0)}, Look: true}, new(store.Answer))
	case 3:
		_ = s.Settle(context.Background(), &store.Settlement{
			ID: id, USD: 7, Book: 1e15, Fingerprint: 3, Parts: []store.Part{{Subject: one, USD: time.Hour}},
		}, new(store.Settled))
	case 4:
		clock.Add(random.Int64N(3_000_000))
		if random.IntN(300) == 0 {
			clock.Add(2 * store.KeepAnswers.Microseconds())
		}
	}
}

// clerk makes random calls and does the books.
type clerk struct {
	t      *testing.T
	s      *Store
	random *rand.Rand
	now    int64
	early  int // subjects evicted and answers forgotten
	ans    store.Answer
	out    store.Settled
}

// subjects draws some subjects, the global one last among them now and then.
func (c *clerk) subjects() []store.Subject {
	var out []store.Subject
	for _, n := range c.random.Perm(30)[:1+c.random.IntN(3)] {
		out = append(out, store.Subject{Kind: "user", ID: fmt.Sprint(n)})
	}
	if c.random.IntN(2) == 0 {
		out = append(out, store.Subject{Kind: "global"})
	}
	return out
}

// checks draws checks of subjects.
func (c *clerk) checks(subjects []store.Subject, usd, tokens int64, slot bool) []store.Check {
	var out []store.Check
	for _, s := range subjects {
		version, _, _ := c.s.Override(context.Background(), s)
		add := func(u store.Unit, amount int64, l store.Limit) {
			if c.random.IntN(3) > 0 {
				out = append(out, store.Check{Subject: s, Unit: u, Amount: amount, Limits: []store.Limit{l}, Override: version})
			}
		}
		out = append(out, store.Check{Subject: s, Unit: store.Requests, Override: version})
		add(store.Tokens, tokens, store.Limit{Max: 1e6, Period: time.Minute})
		add(store.USD, usd, store.Limit{Max: 1e6, Period: 24 * time.Hour})
		if slot {
			add(store.Concurrent, 1, store.Limit{Max: 3})
		}
	}
	return out
}

// call makes one random call.
func (c *clerk) call() {
	ctx, err := context.Background(), error(nil)
	c.now += c.random.Int64N(2e6)
	subjects, id := c.subjects(), fmt.Sprint(c.random.IntN(40))
	switch c.random.IntN(12) {
	case 0:
		err = c.s.Reset(ctx, subjects[0])
	case 1:
		_, err = c.s.SetOverride(ctx, subjects[0], strings.Repeat("x", c.random.IntN(3)))
	case 2:
		c.now += c.random.Int64N(us(store.KeepAnswers) / 100)
	case 3, 4, 5, 6:
		st := &store.Settlement{
			ID: id, Fingerprint: 1, USD: c.random.Int64N(2e5), Tokens: c.random.Int64N(2e5),
			Release: c.random.IntN(4) == 0, Keep: c.random.IntN(4) == 0, Waiting: c.random.IntN(20) == 0,
		}
		for _, s := range subjects {
			st.Parts = append(st.Parts, store.Part{Subject: s, USD: 24 * time.Hour, Tokens: time.Minute})
		}
		if c.random.IntN(5) == 0 {
			st.Book = c.now - c.random.Int64N(1e11)
		}
		err = c.s.Settle(ctx, st, &c.out)
	default:
		err = c.s.Admit(ctx, c.request(subjects, id), &c.ans)
	}
	if err != nil && !errors.Is(err, store.ErrNoHold) && !errors.Is(err, store.ErrFull) && !errors.Is(err, store.ErrMismatch) {
		c.t.Fatal(err)
	}
}

// request draws a request.
func (c *clerk) request(subjects []store.Subject, id string) *store.Request {
	usd, tokens := c.random.Int64N(1e5), c.random.Int64N(1e5)
	req := &store.Request{Checks: c.checks(subjects, usd, tokens, true), Hold: &store.Hold{
		ID: id, Fingerprint: 1, Lease: time.Duration(1+c.random.IntN(60)) * time.Second, Slot: true, USD: usd, Tokens: tokens,
		ReleaseOnExpiry: c.random.IntN(2) == 0, Extend: c.random.IntN(4) == 0, InLine: c.random.IntN(2) == 0,
	}}
	switch c.random.IntN(6) {
	case 0:
		req.Look = true
	case 1:
		req.Hold, req.Checks = nil, c.checks(subjects, usd, tokens, false)
	}
	return req
}

// global is what the global subject takes, whose usage is never evicted.
func (c *clerk) global() int64 {
	for _, sub := range c.s.shards[c.s.global()].subjects {
		return sub.bytes
	}
	return 0
}

// balance compares the counts.
func (c *clerk) balance() {
	c.t.Helper()
	var bytes, kept, answers int64
	known, held := make(map[*subject]int32), make(map[*subject]amounts)
	for i := range c.s.shards {
		sh := &c.s.shards[i]
		for _, h := range sh.holds {
			bytes += h.size()
			if h.ended {
				answers += h.size()
			} else {
				kept += h.unsettled.kept
			}
			if h.unsettled == nil {
				known[h.first]++
				continue
			}
			for _, part := range h.shares() {
				known[part.sub]++
			}
		}
		for _, sub := range sh.subjects {
			bytes += sub.size()
			kept += sub.keptSize()
			if sub.bytes != sub.size() {
				c.t.Fatalf("subject %v takes %d bytes, %d are counted", sub.key, sub.size(), sub.bytes)
			}
			if sub.holding == nil {
				continue
			}
			for _, w := range sub.holding.line {
				kept += w.keptSize()
			}
			for _, list := range []leases{sub.holding.slots, sub.holding.plain} {
				for j, part := range list {
					if j > 0 && list[j-1].hold.expires > part.hold.expires {
						c.t.Fatalf("the leases of %v are not in order", sub.key)
					}
					if sum := held[sub]; part.counts() {
						held[sub] = amounts{sum[0] + part.has[0], sum[1] + part.has[1]}
					}
				}
			}
		}
	}
	for i := range c.s.shards {
		for _, sub := range c.s.shards[i].subjects {
			if hg := sub.holding; hg != nil && (hg.known.Load() != known[sub] || hg.held != held[sub]) {
				c.t.Fatalf("subject %v counts %d holds and holds %v, want %d and %v", sub.key, hg.known.Load(), hg.held, known[sub], held[sub])
			}
		}
	}
	got := [3]int64{c.s.bytes.Load(), c.s.kept.Load(), c.s.answers.Load()}
	if want := [3]int64{bytes, kept, answers}; got != want {
		c.t.Fatalf("bytes, kept and answers are %v, want %v", got, want)
	}
}

// end lets all come to its end: nothing may be left over.
func (c *clerk) end() {
	ctx := context.Background()
	for n := range 30 {
		if _, err := c.s.SetOverride(ctx, store.Subject{Kind: "user", ID: fmt.Sprint(n)}, ""); err != nil {
			c.t.Fatal(err)
		}
	}
	c.now += 2 * us(store.KeepAnswers)
	for n := range 30_000 { // each call makes a step of the sweep of its shards now and then
		checks := []store.Check{
			{Subject: store.Subject{Kind: "user", ID: fmt.Sprint(n)}, Unit: store.Requests}, {Subject: store.Subject{Kind: "global"}, Unit: store.Requests},
		}
		if err := c.s.Admit(ctx, &store.Request{Checks: checks}, &c.ans); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := c.s.Reset(ctx, store.Subject{Kind: "global"}); err != nil {
		c.t.Fatal(err)
	}
	c.balance()
	if st := c.s.Stats(); st.Subjects != 0 || st.Bytes != 0 {
		c.t.Errorf("after all has come to its end the store holds %+v, want nothing", st)
	}
	if c.s.maxBytes < DefaultMaxBytes && c.early == 0 {
		c.t.Errorf("nothing was evicted in %d bytes: the run shows little", c.s.maxBytes)
	}
}
