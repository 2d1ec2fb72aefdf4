package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// The ledger's run through daemons. The conformance suite of the stores makes 100,000 operations on each store; through gRPC
// and four processes a run makes as many as a few seconds allow, or RATELIMITD_E2E_OPS.
const (
	ledgerOps     = 12_000
	ledgerWorkers = 12
	ledgerUsers   = 6
	ledgerOpen    = 230 // reservations that wait to be ended, about
	ledgerSlots   = 150 // too few for them at times
	ledgerEnv     = "RATELIMITD_E2E_OPS"
)

// ledgerRun is random calls by many workers, over daemons that share one store.
type ledgerRun struct {
	book

	seed   uint64
	ops    int64
	s      *spenders
	static bool                    // nothing is extended, and nothing granted in part to two calls at once
	marks  map[int64]chan struct{} // closed when so many operations are left
	left   atomic.Int64
}

// TestCostLedger has many workers reserve, repeat, extend, settle, release and record at random through four daemons, also
// after leases have ended. What GetUsage then says of each user and of the system is what the answers come to, to the
// nano-dollar, the token, the request and the slot.
func TestCostLedger(t *testing.T) {
	t.Parallel()
	for _, expiry := range []string{"charge", "release"} {
		t.Run(expiry+" on expiry", func(t *testing.T) {
			t.Parallel()
			ops := ledgerSize(t) / 2
			l := newLedgerRun(t, ops, newSpenders(t, 4, ledgerPolicy(t, onRedis(harness.Redis(t)), ops, expiry)), expiry)
			l.run(patientFor(t, ops))
			l.compare(t)
		})
	}
}

// ledgerSize is how many operations to make.
func ledgerSize(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv(ledgerEnv)
	if text == "" {
		return ledgerOps
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q: write how many operations to make, as 100000", ledgerEnv, text)
	}
	return n
}

// patientFor is the context of a run of so many operations.
func patientFor(t *testing.T, ops int64) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience+time.Duration(ops)*10*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// ledgerPolicy is the environment of daemons whose limits a run of so many operations reaches near its end.
func ledgerPolicy(t *testing.T, env harness.Env, ops int64, expiry string) harness.Env {
	t.Helper()
	money := usd(max(ops/ledgerUsers, 1) * 500_000)
	return withPolicy(t, env, spendPolicy(limits{
		user:   money + " USD/day, 1000000 USD/7d, 10000000/hour, 100000000000 tokens/day",
		global: fmt.Sprintf("1000000 USD/day, 1000000 USD/7d, 10000000/hour, 100000000000 tokens/day, %d concurrent", ledgerSlots),
	}, "on_expiry: "+expiry))
}

func newLedgerRun(t *testing.T, ops int64, s *spenders, expiry string) *ledgerRun {
	t.Helper()
	l := &ledgerRun{book: book{releases: expiry == "release", seen: map[string]int{}}, seed: rand.Uint64(), ops: ops, s: s}
	l.left.Store(ops)
	t.Logf("seed %d, %d operations", l.seed, ops)
	return l
}

// run makes the operations.
func (l *ledgerRun) run(ctx context.Context) {
	var wg sync.WaitGroup
	for worker := range uint64(ledgerWorkers) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(l.seed, worker))
			for n := 0; ctx.Err() == nil; n++ {
				left := l.left.Add(-1)
				if left < 0 {
					return
				}
				if mark := l.marks[left]; mark != nil {
					close(mark)
				}
				l.step(ctx, r, fmt.Sprintf("%d-%d", worker, n))
			}
		})
	}
	wg.Wait()
}

// step makes one operation. The key is one that no other has.
func (l *ledgerRun) step(ctx context.Context, r *rand.Rand, key string) {
	switch dice := r.IntN(100); {
	case dice < 60:
		if l.isFull() {
			l.end(ctx, r)
		} else {
			p, times := newReservation(r, key), 1+r.IntN(10)/9
			p.reserve.Partial = p.reserve.Partial && (times == 1 || !l.static)
			l.reserve(ctx, r, p, times)
		}
	case dice < 67:
		l.settle(ctx, r, l.any(r), 1)
	case dice < 70:
		l.release(ctx, r, l.any(r))
	case dice < 74:
		l.reserve(ctx, r, l.any(r), 1)
	case dice < 77:
		l.contradict(ctx, r, l.any(r))
	case dice < 84:
		l.extend(ctx, r, l.running(r))
	case dice < 94:
		p := newRecord(r, key)
		for range 1 + r.IntN(3)/2 {
			l.note(ctx, r, p)
		}
	default:
		l.look(ctx, r, key)
	}
}

// isFull tells whether it is time to end a reservation, not to make one.
func (l *ledgerRun) isFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open) >= ledgerOpen
}

// end settles or releases a reservation that nobody has chosen to end yet.
func (l *ledgerRun) end(ctx context.Context, r *rand.Rand) {
	if p := l.take(r); r.IntN(5) == 0 {
		l.release(ctx, r, p)
	} else {
		l.settle(ctx, r, p, 1+r.IntN(8)/7)
	}
}

// newReservation makes up a reservation, and how it will be settled.
func newReservation(r *rand.Rand, key string) *page {
	const most = 12_000
	p := &page{user: fmt.Sprintf("user-%d", r.IntN(ledgerUsers)), key: key, long: r.IntN(3) > 0, extended: r.IntN(4) == 0}
	p.input = 1 + r.Int64N(most)
	output := 1 + r.Int64N(most)
	p.reserve = &costv1.ReserveRequest{
		IdempotencyKey: key, UserId: p.user, Model: llama, InputTokens: p.input, MaxOutputTokens: output, Partial: r.IntN(3) == 0,
		Ttl: durationpb.New(shortLease), Tags: map[string]string{"of": "the ledger"},
	}
	if p.long {
		p.reserve.Ttl = durationpb.New(longLease)
	}
	if r.IntN(3) == 0 {
		p.reserve.Model = "fine"
	}
	if r.IntN(5) == 0 {
		p.reserve.Slot = new(false)
	}
	if !p.extended && r.IntN(5) == 0 {
		p.reserve.MaxCostUsd = usd(1 + r.Int64N(10_000_000))
	}
	p.settle = &costv1.SettleRequest{IdempotencyKey: "settle " + key, Outcome: "success"}
	switch kind := r.IntN(10); {
	case kind == 0 && !p.extended:
		p.settle.Outcome = "cancelled" // and nobody knows what was used: what is held is charged
		return p
	case kind == 1:
		p.settle.ResponseCacheHit = true
	case kind == 2:
		p.settle.ProviderCostUsd = usd(r.Int64N(10_000_000))
	}
	p.settle.Usage = &costv1.Usage{InputTokens: p.input, OutputTokens: r.Int64N(output + output/4 + 1)} // may be more than is held
	return p
}

// newRecord makes up a record of a call, of now or of up to two days ago.
func newRecord(r *rand.Rand, key string) *page {
	p := &page{user: fmt.Sprintf("user-%d", r.IntN(ledgerUsers)), key: key}
	p.record = &costv1.RecordRequest{
		IdempotencyKey: key, UserId: p.user, Model: llama,
		Usage: &costv1.Usage{InputTokens: r.Int64N(1000), OutputTokens: r.Int64N(1000)},
	}
	switch r.IntN(4) {
	case 0:
		p.before = time.Duration(r.Int64N(int64(20 * time.Hour)))
	case 1:
		p.before = 28*time.Hour + time.Duration(r.Int64N(int64(20*time.Hour)))
	default:
		return p
	}
	p.record.OccurredAt = timestamppb.New(time.Now().Add(-p.before))
	return p
}

// take chooses a reservation that nobody has chosen to end yet; nil if there is none.
func (l *ledgerRun) take(r *rand.Rand) *page {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) == 0 {
		return nil
	}
	i, last := r.IntN(len(l.open)), len(l.open)-1
	p := l.open[i]
	l.open[i], l.open = l.open[last], l.open[:last]
	return p
}

// running chooses a reservation that nobody has chosen to end yet, and leaves it to others; nil if there is none.
func (l *ledgerRun) running(r *rand.Rand) *page {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) == 0 {
		return nil
	}
	return l.open[r.IntN(len(l.open))]
}

// any chooses a reservation that was admitted, also one that has ended; nil if there is none.
func (l *ledgerRun) any(r *rand.Rand) *page {
	l.mu.Lock()
	defer l.mu.Unlock()
	const tries = 20
	for range min(tries, len(l.pages)) {
		if p := l.pages[r.IntN(len(l.pages))]; p.reserve != nil {
			return p
		}
	}
	return nil
}

// ask asks a daemon, and the next one as long as nobody answers. It returns the reason of the error, empty for none.
func (l *ledgerRun) ask(r *rand.Rand, p *page, call func(c costv1.CostServiceClient) error) string {
	for at := r.IntN(len(l.s.clients)); ; at++ {
		err := call(l.s.clients[at%len(l.s.clients)])
		if !isAway(err) {
			return reason(err)
		}
		l.mu.Lock()
		p.lost = true
		l.count("asked again", false)
		l.mu.Unlock()
	}
}

// reserve asks for a reservation, so many times at once.
func (l *ledgerRun) reserve(ctx context.Context, r *rand.Rand, p *page, times int) {
	if p == nil {
		return
	}
	atOnce(r, times, func(r *rand.Rand) {
		var res *costv1.ReserveResponse
		why := l.ask(r, p, func(c costv1.CostServiceClient) (err error) {
			res, err = c.Reserve(ctx, p.reserve)
			return err
		})
		if why == "" {
			l.reserved(p, res)
		} else {
			l.refused(p, "Reserve", why)
		}
	})
}

// settle settles a reservation, so many times at once.
func (l *ledgerRun) settle(ctx context.Context, r *rand.Rand, p *page, times int) {
	if p == nil {
		return
	}
	atOnce(r, times, func(r *rand.Rand) {
		ask := proto.CloneOf(p.settle)
		ask.ReservationId = l.idOf(p)
		var res *costv1.SettleResponse
		why := l.ask(r, p, func(c costv1.CostServiceClient) (err error) {
			res, err = c.Settle(ctx, ask)
			return err
		})
		if why == "" {
			l.settledAs(p, res)
		} else {
			l.refused(p, "Settle", why)
		}
	})
}

func (l *ledgerRun) release(ctx context.Context, r *rand.Rand, p *page) {
	if p == nil {
		return
	}
	var res *costv1.ReleaseResponse
	why := l.ask(r, p, func(c costv1.CostServiceClient) (err error) {
		res, err = c.Release(ctx, &costv1.ReleaseRequest{ReservationId: l.idOf(p)})
		return err
	})
	if why == "" {
		l.releasedAs(p, res)
	} else {
		l.refused(p, "Release", why)
	}
}

// contradict repeats the key of a reservation with other contents, and an end with another one. Both are refused.
func (l *ledgerRun) contradict(ctx context.Context, r *rand.Rand, p *page) {
	if p == nil {
		return
	}
	other := proto.CloneOf(p.reserve)
	other.InputTokens++
	why := l.ask(r, p, func(c costv1.CostServiceClient) error { _, err := c.Reserve(ctx, other); return err })
	l.expect(p, "a reservation of other contents", why, mismatch)
	l.mu.Lock()
	ended := p.state != ""
	l.mu.Unlock()
	if !ended {
		return
	}
	otherEnd := proto.CloneOf(p.settle)
	otherEnd.ReservationId, otherEnd.Outcome = l.idOf(p), "error"
	why = l.ask(r, p, func(c costv1.CostServiceClient) error { _, err := c.Settle(ctx, otherEnd); return err })
	l.expect(p, "a settlement of other contents", why, mismatch)
}

func (l *ledgerRun) expect(p *page, what, got, want string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count("contradicted", false)
	if got != want {
		l.fault(p, "%s is answered %q, want %s", what, got, want)
	}
}

// extend renews a lease and asks for more, of a reservation that is made to be extended.
func (l *ledgerRun) extend(ctx context.Context, r *rand.Rand, p *page) {
	if p == nil || !p.extended || l.static {
		return
	}
	output := 1 + r.Int64N(2*p.reserve.GetMaxOutputTokens())
	var res *costv1.ExtendResponse
	why := l.ask(r, p, func(c costv1.CostServiceClient) (err error) {
		res, err = c.Extend(ctx, &costv1.ExtendRequest{
			ReservationId: l.idOf(p), Ttl: p.reserve.GetTtl(), MaxOutputTokens: output,
		})
		return err
	})
	if why == "" {
		l.extendedTo(p, output, res)
	} else {
		l.refused(p, "Extend", why)
	}
}

// note records a call that was made without a reservation.
func (l *ledgerRun) note(ctx context.Context, r *rand.Rand, p *page) {
	var res *costv1.RecordResponse
	why := l.ask(r, p, func(c costv1.CostServiceClient) (err error) {
		res, err = c.Record(ctx, p.record)
		return err
	})
	if why == "" {
		l.recorded(p, res)
	} else {
		l.refused(p, "Record", why)
	}
}

// look asks for a quote, or for the usage of a user: neither may change anything.
func (l *ledgerRun) look(ctx context.Context, r *rand.Rand, key string) {
	p := newReservation(r, key)
	why := l.ask(r, p, func(c costv1.CostServiceClient) error {
		_, err := c.GetUsage(ctx, &costv1.GetUsageRequest{UserId: p.user})
		if r.IntN(2) == 0 && err == nil {
			_, err = c.Quote(ctx, &costv1.QuoteRequest{
				UserId: p.user, Model: llama, InputTokens: p.input, MaxOutputTokens: p.reserve.GetMaxOutputTokens(),
			})
		}
		return err
	})
	if why != "" {
		l.refused(p, "a look", why)
	}
}

// idOf is a page's id, which is known to those who found the page in the book.
func (l *ledgerRun) idOf(p *page) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return p.id
}

// atOnce does the same so many times at once, each with its own dice.
func atOnce(r *rand.Rand, times int, do func(r *rand.Rand)) {
	var wg sync.WaitGroup
	for range times - 1 {
		other := rand.New(rand.NewPCG(r.Uint64(), 0))
		wg.Go(func() { do(other) })
	}
	do(r)
	wg.Wait()
}

// compare waits until every short lease is over, and compares what the daemons say with the book.
func (l *ledgerRun) compare(t *testing.T) {
	t.Helper()
	l.check()
	for _, wrong := range l.wrong {
		t.Errorf("seed %d: %s", l.seed, wrong)
	}
	t.Logf("answers: %v", l.seen)
	if left := l.left.Load(); left > 0 {
		t.Errorf("seed %d: %d operations are left undone", l.seed, left)
	}
	users := []string{""}
	for u := range ledgerUsers {
		users = append(users, fmt.Sprintf("user-%d", u))
	}
	for i, user := range users {
		c, want := l.s.clients[i%len(l.s.clients)], l.sumsOf(user)
		var got map[string]balance
		what := fmt.Sprintf("seed %d: the short leases of user %q are over", l.seed, user)
		harness.WaitFor(t, what, func(ctx context.Context) (err error) {
			if got, err = balances(ctx, c, user); err != nil {
				return err
			}
			if got["usd day"].held > want.held {
				return errors.New("too much is held: " + usd(got["usd day"].held) + " USD, by the book " + usd(want.held))
			}
			return nil
		})
		found := sums{
			day: got["usd day"].used, week: got["usd 7d"].used, held: got["usd day"].held, tokens: got["tokens day"].used,
			heldTokens: got["tokens day"].held, requests: got["requests hour"].used, slots: got["concurrent concurrent"].used,
		}
		if user != "" {
			want.slots = 0 // only the system's are bounded
		}
		if late := found.day - want.day; l.ops > ledgerOps && late > 0 && late < want.day/100 {
			want.day = found.day // a log of more than 4,096 entries merges some: what has left the day may leave it a little later
		}
		if found != want || got["usd day"].spent != want.day-want.held {
			t.Errorf("seed %d: user %q stands at %+v, by the book at %+v: %v", l.seed, user, found, want, got)
		}
	}
}
