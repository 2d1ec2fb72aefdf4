package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// The ledger's run: how many operations, by how many workers over how many clients of one state.
const (
	ledgerOps      = 100_000
	ledgerOpsTwo   = 20_000 // on a store of two steps
	ledgerClients  = 4
	ledgerWorkers  = 8 // of each client
	ledgerFindings = 20
)

// ledgerRun is a random run of many workers, and what they were told. Nothing in its books comes from the store's sums.
type ledgerRun struct {
	seed    uint64
	ops     int
	f       *Fixture
	clients []store.Store
	users   []store.Subject
	orgs    []store.Subject

	mu    sync.Mutex
	now   int64
	left  int
	named int
	pages map[string]*page
	ids   []string // of the pages, in the order of their first mention
	wrong []string
}

// page is what the answers have said of one id.
type page struct {
	user, org    store.Subject
	usd, tokens  int64 // asked for
	actual       int64 // USD that its settlements tell
	used         int64 // tokens, likewise
	release      bool  // its end is a release
	givesBack    bool
	slot, booked bool // booked: it is settled before it is asked for

	admitted            int // answers that say so for the first time
	at, expires         int64
	heldUSD, heldTokens int64
	ended               int // settlements that were not repeats
	was                 store.HoldStatus
	endUSD, endTokens   int64
}

// ledger shows that what is settled and held is what an independent ledger says, to the nano-dollar, and that no
// admission passes a limit.
func ledger(t *testing.T, f *Fixture) {
	t.Helper()
	ops := ledgerOps
	if f.TwoStep {
		ops = ledgerOpsTwo
	}
	run := newLedgerRun(f, rand.Uint64(), ops)
	t.Logf("seed %d, %d operations", run.seed, ops)
	for _, wrong := range run.run() {
		t.Errorf("seed %d: %s", run.seed, wrong)
	}
	for what, n := range run.varied() {
		if n == 0 && (!f.TwoStep || what != "open hold at the end") {
			t.Errorf("seed %d: the run was too dull: no %s", run.seed, what)
		}
	}
}

// newLedgerRun prepares a run.
func newLedgerRun(f *Fixture, seed uint64, ops int) *ledgerRun {
	r := &ledgerRun{seed: seed, ops: ops, left: ops, f: f, now: epoch, pages: make(map[string]*page)}
	f.Set(epoch)
	for range ledgerClients {
		r.clients = append(r.clients, f.Another())
	}
	for i := range 6 {
		r.users = append(r.users, store.Subject{Kind: "user", ID: fmt.Sprintf("spender %d", i)})
	}
	for i := range 2 {
		r.orgs = append(r.orgs, store.Subject{Kind: "org_id", ID: fmt.Sprintf("acme %d", i)})
	}
	return r
}

// ledgerLong is the window that nothing leaves during a run.
const ledgerLong = 30 * day

// checks are what a page asks for.
func (p *page) checks() []store.Check {
	checks := []store.Check{
		hit(p.user, 1, lim(40, sec), lim(store.MaxRequests, ledgerLong)),
		tokens(p.user, p.tokens, lim(250_000, 10*sec), lim(store.MaxAmount, ledgerLong)),
		money(p.user, p.usd, lim(150_000_000_001, 5*sec), lim(store.MaxAmount, ledgerLong)),
		slot(p.user, 60), money(p.org, p.usd, lim(450_000_000_003, 5*sec), lim(store.MaxAmount, ledgerLong)),
		money(global, p.usd, lim(800_000_000_007, 5*sec), lim(store.MaxAmount, ledgerLong)), slot(global, 300),
	}
	if !p.slot {
		checks = append(checks[:3:3], checks[4:6]...)
	}
	return checks
}

// run makes all calls and returns what is wrong.
func (r *ledgerRun) run() []string {
	var group sync.WaitGroup
	for w := range ledgerClients * ledgerWorkers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(r.seed, uint64(w)))
			for n := 0; r.next(random, w == 0 && n%500 == 499); n++ {
				r.one(random, r.clients[w%len(r.clients)])
			}
		})
	}
	group.Wait()
	r.audit()
	return r.wrong
}

// next takes the next operation, and lets time pass before it.
func (r *ledgerRun) next(random *rand.Rand, disturb bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if disturb && r.f.Disturb != nil {
		r.f.Disturb()
	}
	if r.left == 0 || len(r.wrong) >= ledgerFindings {
		return false
	}
	r.left--
	r.now += random.Int64N(us(4 * time.Millisecond))
	r.f.Set(r.now)
	return true
}

// found takes note of what is wrong.
func (r *ledgerRun) found(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wrong) < ledgerFindings {
		r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
	}
}

// one makes one random call.
func (r *ledgerRun) one(random *rand.Rand, client store.Store) {
	switch kind := random.IntN(100); {
	case kind < 45:
		id, p := r.open(random)
		if p.booked {
			r.end(client, id, p) // the settlement overtakes the request
		}
		r.reserve(client, id, p, false)
	case kind < 50: // a request that is sent again
		if id, p := r.some(random, 400); p != nil {
			r.reserve(client, id, p, false)
		}
	case kind < 58:
		if id, p := r.some(random, 200); p != nil {
			r.reserve(client, id, p, true)
		}
	case kind < 95: // most settlements come soon, many twice, some never
		if id, p := r.some(random, 120); p != nil {
			r.end(client, id, p)
		}
	default: // late, and out of order
		if id, p := r.some(random, 1<<30); p != nil {
			r.end(client, id, p)
		}
	}
}

// open begins a page for a new id.
func (r *ledgerRun) open(random *rand.Rand) (string, *page) {
	const most = 2_000_000_000 // nano-USD of one call
	p := &page{
		user: r.users[random.IntN(len(r.users))], org: r.orgs[random.IntN(len(r.orgs))],
		usd: 1 + random.Int64N(most), tokens: 1 + random.Int64N(1000), actual: random.Int64N(most), used: random.Int64N(1500),
		release: random.IntN(8) == 0, givesBack: random.IntN(2) == 0, slot: random.IntN(4) > 0, booked: random.IntN(25) == 0,
	}
	if p.booked {
		p.release = false // nothing can be released before it is there
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.named++
	id := fmt.Sprintf("%d of %d", r.named, r.seed)
	r.pages[id], r.ids = p, append(r.ids, id)
	return id, p
}

// some returns one of the last pages; nil if there is none.
func (r *ledgerRun) some(random *rand.Rand, last int) (string, *page) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last = min(last, len(r.ids))
	if last == 0 {
		return "", nil
	}
	id := r.ids[len(r.ids)-1-random.IntN(last)]
	return id, r.pages[id]
}

// lease is how long a page's hold lives without renewal.
func (p *page) lease() time.Duration { return sec + time.Duration(p.usd%9)*sec/2 }

// reserve asks for a page's hold, or extends it.
func (r *ledgerRun) reserve(client store.Store, id string, p *page, extend bool) {
	req := &store.Request{Checks: p.checks()}
	req.Hold = holdOf(id, req.Checks)
	req.Hold.Lease, req.Hold.ReleaseOnExpiry, req.Hold.Fingerprint = p.lease(), p.givesBack, uint64(p.usd)
	if extend && r.f.TwoStep { // what a raise has taken at one subject stays, when the hold ends at another meanwhile
		for i := range req.Checks {
			req.Checks[i] = named(req.Checks[i].Subject)
		}
		req.Hold.Extend, req.Hold.Slot = true, false
	} else if extend {
		req.Checks = without(req.Checks)
		for i := range req.Checks {
			switch c := &req.Checks[i]; c.Unit {
			case store.USD:
				c.Amount += c.Amount/3 + 1
				req.Hold.USD = c.Amount
			case store.Tokens:
				c.Amount++
				req.Hold.Tokens = c.Amount
			case store.Requests, store.Concurrent:
				*c = named(c.Subject)
			}
		}
		req.Hold.Extend, req.Hold.Slot = true, false
	}
	ans := new(store.Answer)
	err := client.Admit(context.Background(), req, ans)
	switch {
	case err == nil:
		r.write(id, p, req, ans)
	case extend && errors.Is(err, store.ErrNoHold), p.booked && errors.Is(err, store.ErrMismatch):
	default:
		r.found("id %s: Admit: %v", id, err)
	}
}

// write writes the answer to a request into the ledger.
func (r *ledgerRun) write(id string, p *page, req *store.Request, ans *store.Answer) {
	first := !req.Hold.Extend && !ans.Hold.Repeat && ans.Hold.Status == store.Active
	if !req.Hold.Extend && !ans.Hold.Repeat && first != ans.Admitted {
		r.found("id %s: admitted=%v, but its hold is %+v", id, ans.Admitted, ans.Hold)
	}
	if first && !r.f.TwoStep { // there a call may find what another of its id has taken, as it stands by now
		next := 0
		for _, c := range req.Checks {
			for _, l := range c.Limits {
				if used := ans.States[next].Used; used > l.Max {
					r.found("id %s: admitted by %s of %s with a use of %d", id, describeLimit(l), name(c.Subject), used)
				}
				next++
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if first {
		p.admitted++
		p.at = ans.Hold.At
	}
	if ans.Hold.Status == store.Active {
		p.expires = max(p.expires, ans.Hold.Expires)
		p.heldUSD, p.heldTokens = max(p.heldUSD, ans.Hold.USD), max(p.heldTokens, ans.Hold.Tokens)
	}
}

// end settles or releases a page's hold.
func (r *ledgerRun) end(client store.Store, id string, p *page) {
	st := &store.Settlement{
		Parts: partsOf(p.checks()), ID: id, Fingerprint: uint64(p.actual), Release: p.release, USD: p.actual, Tokens: p.used,
	}
	r.mu.Lock()
	there := p.admitted > 0
	if p.booked {
		st.Book = r.now - p.used // up to a millisecond and a half ago
	}
	r.mu.Unlock()
	var out store.Settled
	err := client.Settle(context.Background(), st, &out)
	switch {
	case errors.Is(err, store.ErrNoHold) && !there && !p.booked:
		return
	case err != nil:
		r.found("id %s: Settle: %v", id, err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !out.Repeat {
		p.ended++
		p.was, p.endUSD, p.endTokens = out.Was, out.USD, out.Tokens
	}
}

// audit closes the books and compares them with the store's.
func (r *ledgerRun) audit() {
	// Many leases end at last, some do not; of two steps all do, since there the parts of a hold do not end in one moment.
	wait := 2 * sec
	if r.f.TwoStep {
		wait = hour
	}
	r.now += us(wait)
	r.f.Set(r.now)
	for range 8 { // one call books so many ends, no more
		for _, s := range append(append([]store.Subject{global}, r.users...), r.orgs...) {
			look := &store.Request{Look: true, Checks: []store.Check{money(s, 0, lim(store.MaxAmount, ledgerLong))}}
			_ = r.clients[0].Admit(context.Background(), look, new(store.Answer)) // compare finds what is wrong
		}
	}
	used, held := make(map[logName]int64), make(map[logName]int64)
	for _, id := range r.ids {
		p := r.pages[id]
		if p.admitted > 1 || p.ended > 1 || (p.admitted == 1 && p.ended == 1 && p.was == store.NoHold) {
			r.found("id %s: admitted %d times, settled %d times, the first time from status %d", id, p.admitted, p.ended, p.was)
		}
		usd, tok, open := p.stands(r.now)
		for _, s := range []store.Subject{p.user, p.org, global} {
			used[logName{s, store.USD}] += usd
		}
		used[logName{p.user, store.Tokens}] += tok
		used[logName{p.user, store.Requests}] += int64(p.admitted)
		if !open {
			continue
		}
		for _, s := range []store.Subject{p.user, p.org, global} {
			held[logName{s, store.USD}] += usd
		}
		held[logName{p.user, store.Tokens}] += tok
		if p.slot {
			used[logName{p.user, store.Concurrent}]++
			used[logName{global, store.Concurrent}]++
		}
	}
	for _, s := range append(append([]store.Subject{global}, r.users...), r.orgs...) {
		for _, client := range r.clients {
			r.compare(client, s, used, held)
		}
	}
}

// stands is what a page comes to at the end: money and tokens that count, and whether they are held.
func (p *page) stands(now int64) (usd, tok int64, open bool) {
	switch {
	case p.ended > 0:
		return p.endUSD, p.endTokens, false
	case p.admitted == 0, now >= p.expires && p.givesBack:
		return 0, 0, false
	default:
		return p.heldUSD, p.heldTokens, now < p.expires
	}
}

// compare compares the books of one subject.
func (r *ledgerRun) compare(client store.Store, s store.Subject, used, held map[logName]int64) {
	units := []store.Unit{store.Requests, store.Tokens, store.USD, store.Concurrent}
	req := &store.Request{Look: true}
	for _, unit := range units {
		limit := lim(store.MaxAmount, ledgerLong)
		switch unit {
		case store.Requests:
			limit.Max = store.MaxRequests
		case store.Concurrent:
			limit = store.Limit{Max: store.MaxRequests}
		case store.Tokens, store.USD:
		}
		req.Checks = append(req.Checks, spend(unit, s, 0, limit))
	}
	ans := new(store.Answer)
	if err := client.Admit(context.Background(), req, ans); err != nil || len(ans.States) != len(units) || len(ans.Held) != len(units) {
		r.found("a look at %s: %+v, %v", name(s), ans, err)
		return
	}
	for i, unit := range units {
		log := logName{s, unit}
		if ans.States[i].Used != used[log] || ans.Held[i] != held[log] {
			r.found("%s has used %d %s, %d of them held; the ledger says %d and %d",
				name(s), ans.States[i].Used, unit, ans.Held[i], used[log], held[log])
		}
	}
}

// varied counts what a run must have seen to prove anything.
func (r *ledgerRun) varied() map[string]int {
	seen := map[string]int{
		"denial": 0, "settlement": 0, "late settlement": 0, "booking without a hold": 0, "release": 0,
		"open hold at the end": 0, "charged expiry": 0, "expiry that gave back": 0, "settlement above its hold": 0,
	}
	count := func(what string, is bool) {
		if is {
			seen[what]++
		}
	}
	for _, p := range r.pages {
		expired := p.admitted > 0 && p.ended == 0 && r.now >= p.expires
		count("denial", p.admitted == 0)
		count("settlement", p.ended > 0 && p.was == store.Active && !p.release)
		count("late settlement", p.ended > 0 && p.was == store.Expired)
		count("booking without a hold", p.ended > 0 && p.was == store.NoHold)
		count("release", p.ended > 0 && p.release)
		count("open hold at the end", p.admitted > 0 && p.ended == 0 && r.now < p.expires)
		count("charged expiry", expired && !p.givesBack)
		count("expiry that gave back", expired && p.givesBack)
		count("settlement above its hold", p.ended > 0 && p.endUSD > p.heldUSD)
	}
	return seen
}
