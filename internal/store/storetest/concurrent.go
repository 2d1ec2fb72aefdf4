package storetest

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// The concurrent run: four daemons' worth of clients on one user and the global subject.
const (
	runClients  = 4
	runTime     = 1500 * time.Millisecond
	runLongest  = 2 * time.Minute // until which a run on a busy machine goes on, if it was too dull before
	runRecorded = 20_000          // answers that a client records; of further denials one in runSampled
	runSampled  = 64
)

// runLimits are the limits of the user and of the global subject. The longest is longer than any run, and so small that
// it denies in the end however slow the machine is.
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
	limits  [][]store.Limit
	all     *progress
	records []record
	taken   int64
	err     error
}

// concurrent runs clients against each other and has the checker prove their answers right.
func concurrent(t *testing.T, f *Fixture) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	limits := runLimits()
	var group sync.WaitGroup
	runners := make([]*runner, runClients)
	done := make(chan struct{})
	begun, all := time.Now(), new(progress)
	for i := range runners {
		runners[i] = &runner{
			client: f.Another(), random: rand.New(rand.NewPCG(seed, uint64(i))),
			begun: begun, limits: limits, all: all,
		}
		group.Go(runners[i].run)
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
	c := checker{logs: limits, weak: f.TwoStep}
	for _, wrong := range c.check(records) {
		t.Error(wrong)
	}
	settled(t, f, limits, total)
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
func settled(t *testing.T, f *Fixture, limits [][]store.Limit, total int64) {
	t.Helper()
	c := newCaller(t, f)
	ans := c.admit(hit(alice, 0, limits[0]...), hit(global, 0, limits[1]...))
	user, all := ans.States[len(limits[0])-1].Used, ans.States[len(ans.States)-1].Used
	if user != total || all != total {
		t.Errorf("after the run the user has used %d and all %d, want the %d that were admitted", user, all, total)
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
	ans := new(store.Answer)
	for n := 0; !r.over(); n++ {
		amount := []int64{1, 1, 1, 2, 0}[r.random.IntN(5)]
		req := &store.Request{Checks: []store.Check{
			hit(alice, amount, r.limits[0]...), hit(global, amount, r.limits[1]...),
		}}
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
}

// keep records an answer.
func (r *runner) keep(ans *store.Answer, amount int64, sent time.Duration) {
	rec := record{admitted: ans.Admitted, now: ans.Now, sent: us(sent), received: us(time.Since(r.begun)) + 1}
	next := 0
	for log, limits := range r.limits {
		states := append([]store.State(nil), ans.States[next:next+len(limits)]...)
		next += len(limits)
		rec.asked = append(rec.asked, asked{log: log, amount: amount, seq: ans.Seqs[log], states: states})
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
