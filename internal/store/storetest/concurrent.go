package storetest

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// The concurrent runs: four daemons' worth of clients on the same logs.
const (
	runClients  = 4
	runTime     = 1500 * time.Millisecond
	runLongest  = 2 * time.Minute // until which a run on a busy machine goes on, if it was too dull before
	runRecorded = 20_000          // answers that a client records; of further denials one in runSampled
	runSampled  = 64
)

// runLimits are the limits of the two logs of a run. The longest is the last, longer than any run, and so small that it
// denies in the end however slow the machine is.
func runLimits() [][]store.Limit {
	return [][]store.Limit{
		{lim(20, 50*time.Millisecond), lim(100, sec), lim(150, 10*mins)},
		{lim(12, 30*time.Millisecond), lim(150, 10*mins)},
	}
}

// runner is one client of a concurrent run.
type runner struct {
	client  store.Store
	random  *rand.Rand
	begun   time.Time
	logs    []store.Check // what every call asks, but for the amount
	ownTime bool          // the answer's clock is not each log's
	all     *progress
	records []record
	taken   int64
	err     error
}

// concurrent runs clients against each other on a user and the global subject.
func concurrent(t *testing.T, f *Fixture) {
	t.Helper()
	limits := runLimits()
	compete(t, f, f.TwoStep, hit(alice, 0, limits[0]...), hit(global, 0, limits[1]...))
}

// concurrentOnOne runs clients against each other on one subject, which is one step in every store.
func concurrentOnOne(t *testing.T, f *Fixture) {
	t.Helper()
	limits := runLimits()
	compete(t, f, false, hit(alice, 0, limits[0]...), spend(store.Tokens, alice, 0, limits[1]...))
}

// compete runs clients against each other and has the checker prove their answers right.
func compete(t *testing.T, f *Fixture, weak bool, logs ...store.Check) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var group sync.WaitGroup
	runners := make([]*runner, runClients)
	done := make(chan struct{})
	begun, all := time.Now(), new(progress)
	for i := range runners {
		runners[i] = &runner{
			client: f.Another(), random: rand.New(rand.NewPCG(seed, uint64(i))),
			begun: begun, logs: logs, ownTime: weak, all: all,
		}
	}
	runners[0].call(0, 1) // nothing undoes this one: the oldest hit of each log all the time
	for _, r := range runners {
		group.Go(r.run)
	}
	go func() { group.Wait(); close(done) }()
	disturbUntil(f, done)

	var records []record
	total := int64(0)
	for i, r := range runners {
		if r.err != nil {
			t.Fatalf("client %d: %v", i, r.err)
		}
		records = append(records, r.records...)
		total += r.taken
	}
	c := checker{weak: weak}
	for _, log := range logs {
		c.logs = append(c.logs, log.Limits)
	}
	for _, wrong := range c.check(records) {
		t.Error(wrong)
	}
	settled(t, f, logs, total)
	if !all.varied() {
		t.Errorf("%d calls were admitted, and %d limits denied some: too few to prove anything",
			all.admitted.Load(), bits.OnesCount64(all.denied.Load()))
	}
}

// disturbUntil disturbs the store again and again until done.
func disturbUntil(f *Fixture, done <-chan struct{}) {
	tick := time.NewTicker(runTime / 10)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if f.Disturb != nil {
				f.Disturb()
			}
		}
	}
}

// settled fails unless exactly what was admitted counts once all calls have ended.
func settled(t *testing.T, f *Fixture, logs []store.Check, total int64) {
	t.Helper()
	ans, next := newCaller(t, f).admit(logs...), 0
	for _, log := range logs {
		next += len(log.Limits)
		if used := ans.States[next-1].Used; used != total {
			t.Errorf("after the run %s has used %d %s, want the %d that were admitted", name(log.Subject), used, log.Unit, total)
		}
	}
}

// progress is what the clients of a run have seen together.
type progress struct {
	admitted atomic.Int64
	denied   atomic.Uint64 // bit i: by limit i of the call
}

// note takes note of an answer.
func (p *progress) note(ans *store.Answer) {
	if ans.Admitted {
		p.admitted.Add(1)
		return
	}
	for i := range ans.States {
		if ans.States[i].Wait != 0 {
			p.denied.Or(1 << i)
		}
	}
}

// varied tells whether the run was not too dull to prove anything.
func (p *progress) varied() bool {
	const admitted, limits = 20, 2
	return p.admitted.Load() >= admitted && bits.OnesCount64(p.denied.Load()) >= limits
}

// over tells whether the run has come to its end: when its time is up and it was not too dull.
func (r *runner) over() bool {
	passed := time.Since(r.begun)
	return passed >= runLongest || (passed >= runTime && r.all.varied())
}

// run calls until the run is over.
func (r *runner) run() {
	for n := 1; r.err == nil && !r.over(); n++ {
		r.call(n, []int64{1, 1, 1, 2, 0}[r.random.IntN(5)])
	}
}

// call makes the client's n-th call.
func (r *runner) call(n int, amount int64) {
	req, ans := &store.Request{Checks: slices.Clone(r.logs)}, new(store.Answer)
	for i := range req.Checks {
		req.Checks[i].Amount = amount
	}
	sent := time.Since(r.begun)
	if err := r.client.Admit(context.Background(), req, ans); err != nil {
		r.err = fmt.Errorf("call %d: %w", n, err)
		return
	}
	r.all.note(ans)
	if ans.Admitted {
		r.taken += amount
	}
	if (ans.Admitted && amount > 0) || len(r.records) < runRecorded || n%runSampled == 0 {
		r.keep(ans, amount, sent)
	}
}

// keep records an answer.
func (r *runner) keep(ans *store.Answer, amount int64, sent time.Duration) {
	rec := record{admitted: ans.Admitted, now: ans.Now, sent: us(sent), received: us(time.Since(r.begun)) + 1}
	next := 0
	for i, log := range r.logs {
		states := slices.Clone(ans.States[next : next+len(log.Limits)])
		next += len(states)
		at := ans.Now
		if r.ownTime { // in the log's longest window the oldest hit is always the same: count from it
			last := len(states) - 1
			at = us(log.Limits[last].Period - states[last].Reset)
		}
		rec.asked = append(rec.asked, asked{log: i, at: at, amount: amount, seq: ans.Seqs[i], states: states})
	}
	r.records = append(r.records, rec)
}

// retryAfter shows, by the store's own clock, that a call is denied until the wait that it was told is over, and
// admitted from then on.
func retryAfter(t *testing.T, f *Fixture) {
	t.Helper()
	c := newCaller(t, f)
	limits := []store.Limit{lim(2, 80*time.Millisecond), lim(5, 300*time.Millisecond)}
	admissions := 0
	due := int64(0) // the moment from which a call must pass
	deadline := time.Now().Add(10 * time.Second)
	for admissions < 11 {
		ans := c.admit(hit(bob, 1, limits...))
		switch {
		case ans.Admitted && ans.Now < due:
			t.Fatalf("admitted at %d, %d us before the wait was over", ans.Now, due-ans.Now)
		case !ans.Admitted && due != 0 && ans.Now >= due:
			t.Fatalf("denied at %d, %d us after the wait was over", ans.Now, ans.Now-due)
		case ans.Admitted:
			admissions++
			due = 0
		default:
			told := ans.Now + us(max(ans.States[0].Wait, ans.States[1].Wait))
			if due != 0 && told != due {
				t.Fatalf("told at %d to wait until %d, before that until %d", ans.Now, told, due)
			}
			due = told
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %d calls were admitted in 10 s", admissions)
		}
	}
}
