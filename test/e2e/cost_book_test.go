package e2e

import (
	"fmt"
	"sync"
	"time"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// book is an independent ledger: it knows what callers asked for and what they were answered, and nothing else.
type book struct {
	releases bool // the policy's on_expiry is release

	mu    sync.Mutex
	pages []*page // of what was admitted or booked
	open  []*page // reservations that nobody has chosen to end yet
	seen  map[string]int
	wrong []string
}

// page is one reservation, or one record, and what the answers have said of it.
type page struct {
	user   string
	key    string
	long   bool // its lease does not end within the test
	lost   bool // an answer may have been lost: a later one repeats it
	before time.Duration

	reserve *costv1.ReserveRequest // nil for a record
	settle  *costv1.SettleRequest  // what every settlement of it tells, but for its id
	record  *costv1.RecordRequest

	id              string
	input, granted  int64
	usd, tokens     int64 // held
	extended        bool
	firsts, ends    int // answers that were no repeats, to Reserve and to what ended it
	state           string
	cost            int64
	settled, denied int  // refused settlements and releases
	stale           bool // an extension found it no longer active
}

// fault notes a wrong answer. It is called with mu held.
func (b *book) fault(p *page, format string, args ...any) {
	const most = 20
	if len(b.wrong) < most {
		b.wrong = append(b.wrong, fmt.Sprintf("%s of %s: ", p.key, p.user)+fmt.Sprintf(format, args...))
	}
}

// priceOf is what tokens cost, in nano-dollars: summed up exactly, in units of 1e-15 USD, and rounded up once.
func priceOf(model string, input, output int64) int64 {
	const atto = 1_000_000 // in a nano-dollar
	in, out := int64(200_000_000), int64(600_000_000)
	if model == "fine" {
		in, out = 150_000, 450_000
	}
	return (in*input + out*output + atto - 1) / atto
}

// reserved enters an answer to Reserve.
func (b *book) reserved(p *page, res *costv1.ReserveResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count("reserved", res.GetDuplicate())
	if !res.GetDuplicate() {
		p.firsts++
	}
	if p.id != "" {
		if res.GetReservationId() != p.id || !p.extended && nano(res.GetHeldUsd()) != p.usd {
			b.fault(p, "a repeat is answered %v, want id %s and %s USD", res, p.id, usd(p.usd))
		}
		return
	}
	p.id, p.usd, p.granted = res.GetReservationId(), nano(res.GetHeldUsd()), res.GetGrantedOutputTokens()
	p.tokens = p.input + p.granted
	want := nano(p.reserve.GetMaxCostUsd())
	if p.reserve.GetMaxCostUsd() == "" {
		want = priceOf(p.reserve.GetModel(), p.input, p.granted)
	}
	if p.usd != want && p.granted == p.reserve.GetMaxOutputTokens() || p.usd > want {
		b.fault(p, "%s USD are held, want %s: %v", usd(p.usd), usd(want), res)
	}
	if less := p.granted < p.reserve.GetMaxOutputTokens(); less {
		b.count("granted in part", false)
		if !p.reserve.GetPartial() || p.granted < 1 {
			b.fault(p, "%d output tokens are granted of %v", p.granted, p.reserve)
		}
	}
	b.pages, b.open = append(b.pages, p), append(b.open, p)
}

// extendedTo enters an answer to Extend, which asked for so many tokens of output.
func (b *book) extendedTo(p *page, output int64, res *costv1.ExtendResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if res.GetMustStop() {
		b.count("told to stop", false)
		return
	}
	b.count("extended", false)
	if want := priceOf(p.reserve.GetModel(), p.input, output); nano(res.GetHeldUsd()) < want {
		b.fault(p, "%s USD are held for %d tokens of output, want at least %s", res.GetHeldUsd(), output, usd(want))
	}
	p.usd, p.tokens = max(p.usd, nano(res.GetHeldUsd())), max(p.tokens, p.input+output)
}

// expected is what a settlement of the page costs, and how many tokens it counts.
func (p *page) expected() (cost, tokens int64) {
	s := p.settle
	used := s.GetUsage().GetInputTokens() + s.GetUsage().GetOutputTokens()
	switch {
	case s.GetResponseCacheHit():
		return 0, 0
	case s.GetUsage() == nil:
		return p.usd, p.tokens
	case s.GetProviderCostUsd() != "":
		return nano(s.GetProviderCostUsd()), used
	default:
		return priceOf(p.reserve.GetModel(), s.GetUsage().GetInputTokens(), s.GetUsage().GetOutputTokens()), used
	}
}

// settledAs enters an answer to Settle.
func (b *book) settledAs(p *page, res *costv1.SettleResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count("settled", res.GetDuplicate())
	if res.GetLate() {
		b.count("settled late", res.GetDuplicate())
	}
	b.ended(p, "SETTLED", res.GetState(), res.GetDuplicate())
	cost, _ := p.expected()
	p.cost = nano(res.GetCostUsd())
	lost := b.releases && !p.long && p.settle.GetUsage() == nil && res.GetLate() // what is kept of nothing is nothing
	if p.cost != cost && !lost || res.GetLate() && p.long {
		b.fault(p, "the settlement is answered %v, want a cost of %s USD", res, usd(cost))
	}
	over, back := nano(res.GetOverageUsd()), nano(res.GetReleasedUsd())
	if !p.extended && !res.GetLate() && (over != max(0, p.cost-p.usd) || back != max(0, p.usd-p.cost)) {
		b.fault(p, "%s USD were held and the settlement is answered %v", usd(p.usd), res)
	}
}

// releasedAs enters an answer to Release.
func (b *book) releasedAs(p *page, res *costv1.ReleaseResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count("released", res.GetDuplicate())
	b.ended(p, "RELEASED", res.GetState(), res.GetDuplicate())
}

// ended enters an end. It is called with mu held.
func (b *book) ended(p *page, want, state string, repeat bool) {
	if state != want || p.state != "" && p.state != state {
		b.fault(p, "the end is told to be %s, want %s; before, it was %q", state, want, p.state)
	}
	p.state = state
	if !repeat {
		p.ends++
	}
}

// recorded enters an answer to Record.
func (b *book) recorded(p *page, res *costv1.RecordResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count("recorded", res.GetDuplicate())
	if !res.GetDuplicate() {
		p.firsts++
	}
	u := p.record.GetUsage()
	if want := priceOf(p.record.GetModel(), u.GetInputTokens(), u.GetOutputTokens()); nano(res.GetCostUsd()) != want {
		b.fault(p, "the record is answered %v, want a cost of %s USD", res, usd(want))
	}
	if p.state == "" {
		p.state, p.cost, p.tokens = "RECORDED", nano(res.GetCostUsd()), u.GetInputTokens()+u.GetOutputTokens()
		b.pages = append(b.pages, p)
	}
}

// refused enters an error that has a reason.
func (b *book) refused(p *page, call, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count(call+": "+reason, false)
	switch call + " " + reason {
	case "Settle " + mismatch:
		p.settled++
	case "Release " + notActive:
		p.denied++
	case "Extend " + notActive:
		p.stale = true
	case "Reserve " + noUserMoney, "Reserve " + noSlot:
	default:
		b.fault(p, "%s errs with %s", call, reason)
	}
}

// count counts an answer. It is called with mu held.
func (b *book) count(what string, repeat bool) {
	if repeat {
		what += ", again"
	}
	b.seen[what]++
}

// check looks for pages whose answers contradict each other, when no more will come.
func (b *book) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pages {
		if p.firsts != 1 && !p.lost || p.firsts > 1 {
			b.fault(p, "%d answers say that they are the first, want 1", p.firsts)
		}
		if p.reserve != nil && p.state != "" && (p.ends > 1 || p.ends == 0 && !p.lost) {
			b.fault(p, "%d answers say that they end it first, want 1", p.ends)
		}
		if p.settled > 0 && p.state != "RELEASED" {
			b.fault(p, "a settlement is refused as another one's, and it is %q", p.state)
		}
		if p.denied > 0 && p.state != "SETTLED" {
			b.fault(p, "a release is refused as too late, and it is %q", p.state)
		}
		if p.stale && p.long && p.state == "" {
			b.fault(p, "it is said not to be active, and nothing has ended it")
		}
	}
}

// sums is what the book says that a user's limits, or the system's, come to once every short lease is over.
type sums struct{ day, week, held, tokens, heldTokens, requests, slots int64 }

// sumsOf adds up the pages of a user; of all for an empty one.
func (b *book) sumsOf(user string) sums {
	b.mu.Lock()
	defer b.mu.Unlock()
	var s sums
	for _, p := range b.pages {
		if user != "" && p.user != user {
			continue
		}
		cost, tokens := p.used(b.releases)
		s.week += cost
		if p.before < 24*time.Hour {
			s.day += cost
			s.tokens += tokens
		}
		if p.reserve == nil {
			continue
		}
		s.requests++
		if p.state == "" && p.long {
			s.held += p.usd
			s.heldTokens += p.tokens
			if p.reserve.Slot == nil || p.reserve.GetSlot() {
				s.slots++
			}
		}
	}
	return s
}

// used is what a page counts for: what it costs, or what it holds while it is not ended.
func (p *page) used(releases bool) (cost, tokens int64) {
	switch p.state {
	case "RECORDED":
		return p.cost, p.tokens
	case "RELEASED":
		return 0, 0
	case "SETTLED":
		_, tokens = p.expected()
		if p.settle.GetUsage() == nil && !p.settle.GetResponseCacheHit() && p.cost != p.usd {
			tokens = 0 // kept late what had been released
		}
		return p.cost, tokens
	}
	if !p.long && releases {
		return 0, 0
	}
	return p.usd, p.tokens
}
