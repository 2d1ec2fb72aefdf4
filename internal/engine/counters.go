package engine

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// series names what a decision is counted under. All of its parts come from the policy, never from a call.
type series struct {
	tier, limit, unit string
	mode              Mode
	denied            bool
	shadow            bool // a shadow limit's: mode says nothing then
}

// tally is what a decision adds one to.
type tally struct {
	decisions prometheus.Counter
	queries   prometheus.Counter // nil for a shadow limit: its call is counted once, elsewhere
	exceeded  prometheus.Counter // nil for what is not denied
}

// counters counts decisions. Each series is looked up once; after that counting is one map read and a few additions.
type counters struct {
	metrics *telemetry.Metrics
	mu      sync.Mutex // guards growing
	known   atomic.Pointer[map[series]tally]
}

// mostSeries bounds the series over many reloads of ever new policies.
const mostSeries = 4096

func newCounters(m *telemetry.Metrics) *counters {
	c := &counters{metrics: m}
	c.known.Store(&map[series]tally{})
	return c
}

func (c *counters) tally(s series) tally {
	if found, ok := (*c.known.Load())[s]; ok {
		return found
	}
	return c.grow(s)
}

// grow adds a series. Series end and begin under its lock alone, so that what is known is always what is scraped.
func (c *counters) grow(s series) tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := *c.known.Load()
	if found, ok := known[s]; ok {
		return found
	}
	if len(known) >= mostSeries { // of policies long gone, too: all begin anew, which a scraper knows as a restart
		c.metrics.Decisions.Reset()
		c.metrics.Exceeded.Reset()
		known = nil
	}
	found := c.find(s)
	next := map[series]tally{s: found}
	maps.Copy(next, known)
	c.known.Store(&next)
	return found
}

// find looks a series up.
func (c *counters) find(s series) tally {
	tier, limit := telemetry.Label(s.tier), telemetry.Label(s.limit)
	verdict, status := telemetry.VerdictAllowed, telemetry.StatusAllowed
	if s.denied {
		verdict, status = telemetry.VerdictDenied, telemetry.StatusRateLimited
	}
	if s.shadow {
		return tally{decisions: c.metrics.Decisions.WithLabelValues(tier, limit, s.unit, verdict, telemetry.ModeShadow)}
	}
	t := tally{decisions: c.metrics.Decisions.WithLabelValues(tier, limit, s.unit, verdict, s.mode.label())}
	t.queries = c.metrics.Queries.WithLabelValues(status)
	if s.denied {
		t.exceeded = c.metrics.Exceeded.WithLabelValues(tier, limit, s.unit)
	}
	return t
}

// count counts a decision under its deciding limit, and each shadow limit that would have denied it.
func (c *counters) count(dec *Decision) {
	by := &dec.Deciding
	t := c.tally(series{tier: by.tier(), limit: by.limit(), unit: by.unit(), denied: dec.Denied, mode: dec.Mode})
	t.decisions.Inc()
	t.queries.Inc()
	if dec.Denied {
		t.exceeded.Inc()
	}
	if dec.Mode == Local {
		c.metrics.LocalAnswers.Inc()
	}
	for _, sh := range dec.Shadowed {
		c.tally(series{
			tier: sh.Tier, limit: labelOf(sh.Limit), unit: sh.Limit.Unit.String(), denied: true, shadow: true,
		}).decisions.Inc()
	}
}

// label is the mode as metrics spell it: whether the store gave a verdict now or earlier, its limits are enforced.
func (m Mode) label() string {
	switch m {
	case Stored, Local:
		return telemetry.ModeEnforced
	case FailedOpen:
		return telemetry.ModeFailedOpen
	case FailedShut:
		return telemetry.ModeFailedShut
	case Unmatched:
		return telemetry.ModeUnmatched
	case Disabled:
		return telemetry.ModeDisabled
	default:
		return m.String()
	}
}

// labelOf is a limit's label; limits that an override or a descriptor brought share one.
func labelOf(l *policy.Limit) string {
	if l.Ordinal < 0 {
		return telemetry.LimitOwn
	}
	return l.Name
}

func (c *counters) failedOpen(tier string) {
	c.metrics.FailOpens.WithLabelValues(telemetry.Label(tier)).Inc()
}

func (c *counters) storeError(kind string) { c.metrics.StoreErrors.WithLabelValues(kind).Inc() }
