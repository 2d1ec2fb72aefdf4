package telemetry

import "github.com/prometheus/client_golang/prometheus"

// LimitReading is one limit of the global tier as it stands in the store. Amounts are in the unit of the limit, money in USD.
type LimitReading struct {
	Tier, Limit, Unit string
	Window            string // a Window constant
	Max, Used         float64
	Held              float64 // of money and tokens
	Period            float64 // seconds; 0 for none
	Resets            float64 // seconds since the Unix epoch; 0 for unknown
}

// Limits shows limits as the store tells them at the time of a scrape. It is safe for concurrent use if read is.
type Limits struct {
	read                             func() []LimitReading
	most, used, held, period, resets *prometheus.Desc
	slots, slotsMax                  *prometheus.Desc
}

// NewLimits returns a collector of what read returns, each limit once; nothing while the store cannot be asked. read bounds its own
// time.
func NewLimits(read func() []LimitReading) *Limits {
	labels := []string{LabelTier, LabelLimit, LabelUnit, LabelWindow}
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, labels, nil) }
	return &Limits{
		read: read,
		most: desc("ratelimitd_limit_max", "The most that the limit admits, in its unit. Every daemon of a store shows the same."),
		used: desc("ratelimitd_limit_used", "What counts against the limit, held included. Every daemon of a store shows the same."),
		held: desc("ratelimitd_limit_held",
			"What open reservations hold, over all windows. Every daemon of a store shows the same."),
		period: desc("ratelimitd_limit_period_seconds", "The length of the window; of a calendar's, that of the current one."),
		resets: desc("ratelimitd_limit_reset_timestamp_seconds",
			"When the oldest use leaves the window; of a calendar's, when the next begins. Absent while nothing is used."),
		slots: prometheus.NewDesc("ratelimitd_slots_in_use",
			"Slots of the global tier in use. Every daemon of a store shows the same.", nil, nil),
		slotsMax: prometheus.NewDesc("ratelimitd_slots_max",
			"Slots of the global tier. Every daemon of a store shows the same.", nil, nil),
	}
}

// Describe is a prometheus.Collector's.
func (l *Limits) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{l.most, l.used, l.held, l.period, l.resets, l.slots, l.slotsMax} {
		to <- d
	}
}

// Collect is a prometheus.Collector's.
func (l *Limits) Collect(to chan<- prometheus.Metric) {
	for _, r := range l.read() {
		l.collect(to, &r)
	}
}

func (l *Limits) collect(to chan<- prometheus.Metric, r *LimitReading) {
	labels := []string{Label(r.Tier), Label(r.Limit), Label(r.Unit), r.Window}
	show := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	show(l.most, r.Max, labels...)
	show(l.used, r.Used, labels...)
	switch r.Unit {
	case UnitUSD, UnitTokens:
		show(l.held, r.Held, labels...)
	case UnitConcurrent:
		show(l.slots, r.Used)
		show(l.slotsMax, r.Max)
	}
	if r.Period > 0 {
		show(l.period, r.Period, labels...)
	}
	if r.Resets > 0 {
		show(l.resets, r.Resets, labels...)
	}
}
