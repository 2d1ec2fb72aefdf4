package engine

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// mostModels is how many names of prices are counted apart. The names are those of a policy, never a caller's, but a price list may
// have thousands, and reloads bring more: whatever comes later is counted as telemetry.ModelOther.
const mostModels = 256

// purse counts the money of one model.
type purse struct {
	held, settled, released, saved, over prometheus.Counter
	cost                                 prometheus.Counter // settled, by the name that dashboards expect
}

// purses count money. Each model's series are looked up once; after that counting is one map read and a few additions.
type purses struct {
	metrics *telemetry.Metrics
	ends    map[string]prometheus.Counter // of reservations, by an End constant
	mu      sync.Mutex                    // guards growing
	known   atomic.Pointer[map[string]*purse]
}

func newPurses(m *telemetry.Metrics) *purses {
	p := &purses{metrics: m, ends: map[string]prometheus.Counter{}}
	for _, end := range []string{telemetry.EndSettled, telemetry.EndLate, telemetry.EndBooked, telemetry.EndReleased} {
		p.ends[end] = m.Reservations.WithLabelValues(end)
	}
	p.known.Store(&map[string]*purse{telemetry.ModelUnknown: p.find(telemetry.ModelUnknown)})
	return p
}

// of is the purse of a model, by the name of its price in the policy.
func (p *purses) of(model string) *purse {
	known := *p.known.Load()
	if found, ok := known[model]; ok {
		return found
	}
	if len(known) >= mostModels { // whoever comes now would wait for the lock to be told the same
		if other, ok := known[telemetry.ModelOther]; ok {
			return other
		}
	}
	return p.grow(model)
}

// grow adds a model, if there is room for it.
func (p *purses) grow(model string) *purse {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := *p.known.Load()
	if found, ok := known[model]; ok {
		return found
	}
	if len(known) >= mostModels {
		model = telemetry.ModelOther
		if found, ok := known[model]; ok {
			return found
		}
	}
	found := p.find(model)
	next := map[string]*purse{model: found}
	maps.Copy(next, known)
	p.known.Store(&next)
	return found
}

// find looks the series of a model up.
func (p *purses) find(model string) *purse {
	model = telemetry.Label(model)
	flow := func(flow string) prometheus.Counter { return p.metrics.Money.WithLabelValues(flow, model) }
	return &purse{
		held: flow(telemetry.FlowHeld), settled: flow(telemetry.FlowSettled), released: flow(telemetry.FlowReleased),
		saved: flow(telemetry.FlowSaved), over: flow(telemetry.FlowOver), cost: p.metrics.ModelCost.WithLabelValues(model),
	}
}

// held counts a reservation that was granted and what it holds, nano-USD.
func (p *purses) held(model string, usd int64) {
	p.metrics.Started.Inc()
	p.of(model).held.Add(dollars(usd))
}

// ended counts what became of the money of a hold, or of what was booked without one.
func (p *purses) ended(model string, out *store.Settled) {
	to := p.of(model)
	to.settled.Add(dollars(out.USD))
	to.cost.Add(dollars(out.USD))
	to.released.Add(dollars(max(0, out.HeldUSD-out.USD)))
	if memo := parseMemo(out.Memo); memo.saved > 0 {
		to.saved.Add(dollars(memo.saved))
	}
	if out.Was != store.NoHold {
		to.over.Add(dollars(max(0, out.USD-out.HeldUSD)))
	}
}

// dollars are nano-USD as a graph takes them.
func dollars(nano int64) float64 { return float64(nano) / budget.NanoPerUSD }
