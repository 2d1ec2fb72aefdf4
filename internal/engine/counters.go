package engine

import (
	"maps"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// series names what a decision is counted under. All of its parts come from the policy, never from a call.
type series struct {
	tier, limit string
	mode        Mode
	denied      bool
	shadow      bool // a shadow limit's: mode says nothing then
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
	c.known.Store(&next) // two at once lose an entry, which is looked up again
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
		return tally{decisions: c.metrics.Decisions.WithLabelValues(tier, limit, verdict, telemetry.ModeShadow)}
	}
	t := tally{decisions: c.metrics.Decisions.WithLabelValues(tier, limit, verdict, s.mode.label())}
	t.queries = c.metrics.Queries.WithLabelValues(status)
	if s.denied {
		t.exceeded = c.metrics.Exceeded.WithLabelValues(tier, limit)
	}
	return t
}

// count counts a decision under its deciding limit, and each shadow limit that would have denied it.
func (c *counters) count(dec *Decision) {
	s := series{tier: telemetry.TierNone, limit: telemetry.LimitNone, denied: dec.Denied, mode: dec.Mode}
	if dec.Deciding.Tier != "" {
		s.tier = dec.Deciding.Tier
	}
	if l := dec.Deciding.Limit; l != nil {
		s.limit = labelOf(l.Ordinal, l.Name)
	}
	t := c.tally(s)
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
			tier: sh.Tier, limit: labelOf(sh.Limit.Ordinal, sh.Limit.Name), denied: true, shadow: true,
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
func labelOf(ordinal int, name string) string {
	if ordinal < 0 {
		return telemetry.LimitOwn
	}
	return name
}

func (c *counters) failedOpen(tier string) {
	c.metrics.FailOpens.WithLabelValues(telemetry.Label(tier)).Inc()
}

func (c *counters) storeError(kind string) { c.metrics.StoreErrors.WithLabelValues(kind).Inc() }
