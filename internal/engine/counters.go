package engine

import (
	"maps"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// series names one series of the decisions' counter. All of its parts come from the policy, never from a call.
type series struct {
	tier, limit, verdict string
	mode                 Mode
}

// counters counts decisions. Each series is looked up once; after that counting is one map read and one addition.
type counters struct {
	metrics *telemetry.Metrics
	known   atomic.Pointer[map[series]prometheus.Counter]
}

// mostSeries bounds the series over many reloads of ever new policies.
const mostSeries = 4096

func newCounters(m *telemetry.Metrics) *counters {
	c := &counters{metrics: m}
	c.known.Store(&map[series]prometheus.Counter{})
	return c
}

func (c *counters) counter(s series) prometheus.Counter {
	known := *c.known.Load()
	if found, ok := known[s]; ok {
		return found
	}
	found := c.metrics.Decisions.WithLabelValues(s.tier, s.limit, s.verdict, s.mode.String())
	if len(known) >= mostSeries { // of policies long gone, too: all begin anew, which a scraper knows as a restart
		c.metrics.Decisions.Reset()
		found = c.metrics.Decisions.WithLabelValues(s.tier, s.limit, s.verdict, s.mode.String())
		known = nil
	}
	next := map[series]prometheus.Counter{s: found}
	maps.Copy(next, known)
	c.known.Store(&next) // two at once lose an entry, which is looked up again
	return found
}

// count counts a decision under its deciding limit, and each shadow limit that would have denied it.
func (c *counters) count(dec *Decision) {
	s := series{tier: telemetry.TierNone, limit: telemetry.LimitNone, verdict: telemetry.VerdictAllowed, mode: dec.Mode}
	if dec.Denied {
		s.verdict = telemetry.VerdictDenied
	}
	if dec.Deciding.Tier != "" {
		s.tier = dec.Deciding.Tier
	}
	if l := dec.Deciding.Limit; l != nil {
		s.limit = labelOf(l.Ordinal, l.Name)
	}
	c.counter(s).Inc()
	for _, sh := range dec.Shadowed {
		c.counter(series{
			tier: sh.Tier, limit: labelOf(sh.Limit.Ordinal, sh.Limit.Name),
			verdict: telemetry.VerdictShadowDenied, mode: dec.Mode,
		}).Inc()
	}
}

// labelOf is a limit's label; limits that an override or a descriptor brought share one.
func labelOf(ordinal int, name string) string {
	if ordinal < 0 {
		return "own"
	}
	return name
}

func (c *counters) failedOpen(tier string) { c.metrics.FailOpens.WithLabelValues(tier).Inc() }

func (c *counters) storeError(kind string) { c.metrics.StoreErrors.WithLabelValues(kind).Inc() }
