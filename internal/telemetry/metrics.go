package telemetry

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are all metrics of one daemon. The vectors are exported so that a hot path resolves its series once and then
// only adds to them. All methods are safe for concurrent use.
type Metrics struct {
	// Decisions counts answers by LabelTier, LabelLimit, LabelUnit, LabelVerdict and LabelMode: each call once, and besides each
	// shadow limit that would have denied it.
	Decisions *prometheus.CounterVec
	// LocalAnswers counts denials that were answered from memory, without the store.
	LocalAnswers prometheus.Counter
	// BadCalls counts calls that could not be asked, by LabelEdge.
	BadCalls *prometheus.CounterVec
	// Panics counts handler panics that were caught and answered as an internal error.
	Panics prometheus.Counter
	// LostDecisions counts lines of the decision log that were not written.
	LostDecisions prometheus.Counter
	// LostSpans counts spans of traces that were not sent.
	LostSpans prometheus.Counter

	// StoreErrors counts questions that the store did not answer, by LabelKind: decisions, settlements, refunds, looks at usage.
	StoreErrors *prometheus.CounterVec
	// FailOpens counts answers that let a call through because the store could not be asked, by LabelTier.
	FailOpens *prometheus.CounterVec
	// StoreUp is 1 while the store answers and 0 while it does not.
	StoreUp prometheus.Gauge
	// BatchSize is how many decisions shared one trip to the store.
	BatchSize prometheus.Histogram
	// LocalDenials is how many denials are remembered and answered without the store.
	LocalDenials prometheus.Gauge
	// Subjects is how many subjects the embedded store holds.
	Subjects prometheus.Gauge
	// Evicted counts subjects of the embedded store dropped because none of their hits was live any more.
	Evicted prometheus.Counter
	// EvictedEarly counts subjects of the embedded store dropped with live hits, for want of memory: each may be admitted
	// more than its limits say.
	EvictedEarly prometheus.Counter
	// AnswersForgottenEarly counts answers kept for repeats that the embedded store dropped for want of memory: a repeat of what one
	// of them answered would be booked again.
	AnswersForgottenEarly prometheus.Counter
	// Redis is the memory of the Redis that usage lives in; absent until it is told.
	Redis *RedisMemory

	// Money counts USD by LabelFlow and LabelModel. It is for graphs: a sum of floats is not exact, the store's is.
	Money *prometheus.CounterVec
	// Started counts reservations that were granted here and hold something.
	Started prometheus.Counter
	// Reservations counts reservations that were ended here, by LabelEnd, each once.
	Reservations *prometheus.CounterVec
	// DuplicateEnds counts settlements and releases that an earlier call had done.
	DuplicateEnds prometheus.Counter
	// LostEnds counts ends of streams that were given up because the store could not be asked: their holds end by their leases.
	LostEnds prometheus.Counter
	// LeaseExpiries counts holds whose leases were found over before they were settled.
	LeaseExpiries prometheus.Counter
	// LapsedUSD counts the USD that those holds leave charged.
	LapsedUSD prometheus.Counter
	// PriceMisses counts look-ups of a price that found none. One call may look several times: to reserve, to settle.
	PriceMisses prometheus.Counter
	// Waiters is how many reservations wait for a slot.
	Waiters prometheus.Gauge

	// Queries, Exceeded, ModelCost and QueryTime have the names that the dashboards of an assistant expect.

	// Queries counts calls by LabelStatus.
	Queries *prometheus.CounterVec
	// Exceeded counts denied calls by the LabelTier, LabelLimit and LabelUnit that denied.
	Exceeded *prometheus.CounterVec
	// ModelCost counts the USD that were settled by LabelModel.
	ModelCost *prometheus.CounterVec
	// QueryTime is the time from the admission of a reservation to its settlement, in seconds.
	QueryTime prometheus.Histogram

	// PolicyReloads counts reloads by LabelResult.
	PolicyReloads *prometheus.CounterVec
	// PolicyReloadSuccess is 1 if the last reload took effect and 0 if the policy before it is still in force.
	PolicyReloadSuccess prometheus.Gauge
	// PolicyReloadTime is when a policy last took effect, in seconds since the Unix epoch.
	PolicyReloadTime prometheus.Gauge
	// PolicyInfo is 1 for the LabelHash of the policy in force; it never holds more than one series.
	PolicyInfo *prometheus.GaugeVec

	// Enabled is 1, or 0 while rate limiting is switched off and everything is answered OK.
	Enabled prometheus.Gauge
	// BuildInfo is always 1; its labels name the version, the revision and the Go version.
	BuildInfo *prometheus.GaugeVec

	latency   *prometheus.HistogramVec // by LabelEdge
	stages    *prometheus.HistogramVec // by LabelStage
	exemplars atomic.Bool

	mu    sync.Mutex
	tiers []string // of the policy in force; guarded by mu
}

// NewMetrics makes the metrics of one daemon and registers them with reg. It panics, as prometheus does, if reg already
// holds metrics of these names: each daemon of a process needs a registry of its own.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{}
	m.makeDecisions()
	m.makeLatency()
	m.makeStore()
	m.makeCost()
	m.makeAssistant()
	m.makePolicy()
	m.makeProcess()
	reg.MustRegister(
		m.Decisions, m.LocalAnswers, m.latency, m.stages, m.BadCalls, m.Panics, m.LostDecisions, m.LostSpans,
		m.StoreErrors, m.FailOpens, m.StoreUp, m.BatchSize, m.LocalDenials, m.Subjects, m.Evicted, m.EvictedEarly,
		m.AnswersForgottenEarly, m.Redis,
		m.Money, m.Started, m.Reservations, m.DuplicateEnds, m.LostEnds, m.LeaseExpiries, m.LapsedUSD, m.PriceMisses, m.Waiters,
		m.Queries, m.Exceeded, m.ModelCost, m.QueryTime,
		m.PolicyReloads, m.PolicyReloadSuccess, m.PolicyReloadTime, m.PolicyInfo,
		m.Enabled, m.BuildInfo,
	)
	return m
}

// Running records what is running, and whether rate limiting is switched on.
func (m *Metrics) Running(b Build, enabled bool) {
	m.BuildInfo.Reset()
	m.BuildInfo.WithLabelValues(b.Version, b.Revision, b.Go).Set(1)
	m.Enabled.Set(0)
	if enabled {
		m.Enabled.Set(1)
	}
}

// PolicyLoaded records that the policy with this hash and these tiers took effect at the given time.
func (m *Metrics) PolicyLoaded(hash string, tiers []string, at time.Time) {
	m.showTiers(tiers)
	m.PolicyReloads.WithLabelValues(ResultLoaded).Inc()
	m.PolicyReloadSuccess.Set(1)
	m.PolicyReloadTime.Set(float64(at.UnixMilli()) / 1e3)
	m.PolicyInfo.Reset()
	m.PolicyInfo.WithLabelValues(hash).Set(1)
}

// showTiers shows how often each tier has failed open, from 0 on, so that the first time is seen as a rise. Tiers that the policy no
// longer has are shown no more.
func (m *Metrics) showTiers(tiers []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, old := range m.tiers {
		if !slices.Contains(tiers, old) {
			m.FailOpens.DeleteLabelValues(Label(old))
		}
	}
	m.tiers = slices.Clone(tiers)
	for _, tier := range tiers {
		m.FailOpens.WithLabelValues(Label(tier))
	}
}

// PolicyRejected records that a policy was refused and the one before it is still in force.
func (m *Metrics) PolicyRejected() {
	m.PolicyReloads.WithLabelValues(ResultRejected).Inc()
	m.PolicyReloadSuccess.Set(0)
}

func (m *Metrics) makeDecisions() {
	m.Decisions = counterVec("ratelimitd_decisions_total",
		"Answers by the tier and the limit that decided; with mode shadow, the shadow limits that would have denied.",
		LabelTier, LabelLimit, LabelUnit, LabelVerdict, LabelMode)
	m.LocalAnswers = counter("ratelimitd_local_answers_total", "Denials answered from memory, without the store.")
	m.BadCalls = counterVec("ratelimitd_bad_calls_total", "Calls that could not be asked.", LabelEdge)
	m.Panics = counter("ratelimitd_handler_panics_total", "Handler panics that were caught.")
	m.LostDecisions = counter("ratelimitd_decision_log_dropped_total", "Lines of the decision log that were not written.")
	m.LostSpans = counter("ratelimitd_spans_dropped_total", "Spans of traces that were not sent.")
}

func (m *Metrics) makeStore() {
	m.StoreErrors = counterVec("ratelimitd_store_errors_total",
		"Questions that the store did not answer.", LabelKind)
	m.FailOpens = counterVec("ratelimitd_fail_open_total",
		"Calls let through because the store could not be asked.", LabelTier)
	m.StoreUp = gauge("ratelimitd_store_up", "1 while the store answers.")
	m.BatchSize = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "ratelimitd_store_batch_size",
		Help:    "Decisions that shared one script call of Redis.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 9),
	})
	m.LocalDenials = gauge("ratelimitd_local_denials", "Denials remembered and answered without the store.")
	m.Subjects = gauge("ratelimitd_memory_subjects", "Subjects held by the embedded store.")
	m.Evicted = counter("ratelimitd_memory_evicted_total",
		"Idle subjects that the embedded store dropped.")
	m.EvictedEarly = counter("ratelimitd_memory_evicted_early_total",
		"Subjects with live hits that the embedded store dropped for want of memory.")
	m.AnswersForgottenEarly = counter("ratelimitd_memory_answers_forgotten_early_total",
		"Answers kept for repeats that the embedded store dropped for want of memory: a repeat of one of them would be booked again.")
	m.Redis = newRedisMemory()
	for _, kind := range []string{KindUnavailable, KindTimeout, KindCorrupt, KindFull, KindOther} {
		m.StoreErrors.WithLabelValues(kind) // shown as 0 before the first of its kind
	}
}

func (m *Metrics) makeCost() {
	m.Money = counterVec("ratelimitd_cost_usd_total",
		"USD by what became of them, and by the policy's price that they were counted with.", LabelFlow, LabelModel)
	m.Started = counter("ratelimitd_reservations_started_total", "Reservations granted that hold something.")
	m.Reservations = counterVec("ratelimitd_reservations_ended_total", "Reservations by how they ended.", LabelEnd)
	m.DuplicateEnds = counter("ratelimitd_duplicate_settlements_total",
		"Settlements and releases that an earlier call had done.")
	m.LostEnds = counter("ratelimitd_lost_settlements_total",
		"Ends of streams that were given up because the store could not be asked.")
	m.LapsedUSD = counter("ratelimitd_lapsed_cost_usd_total",
		"USD that were charged because a lease was over before a settlement.")
	m.LeaseExpiries = counter("ratelimitd_lease_expiries_total",
		"Reservations whose lease was over before they were settled, counted once a daemon has found it.")
	m.PriceMisses = counter("ratelimitd_price_misses_total",
		"Look-ups of a model's price that found none: by quotes, reservations, extensions, settlements and records.")
	m.Waiters = gauge("ratelimitd_reservations_waiting", "Reservations that wait for a slot.")
	for _, flow := range []string{FlowHeld, FlowSettled, FlowReleased, FlowSaved, FlowOver} {
		m.Money.WithLabelValues(flow, ModelUnknown)
	}
	for _, end := range []string{EndSettled, EndLate, EndBooked, EndReleased} {
		m.Reservations.WithLabelValues(end)
	}
}

func (m *Metrics) makeAssistant() {
	m.Queries = counterVec("assistant_queries_total", "Calls by whether they were let through.", LabelStatus)
	m.Exceeded = counterVec("assistant_rate_limit_exceeded_total",
		"Denied calls by the tier and the limit that denied.", LabelTier, LabelLimit, LabelUnit)
	m.ModelCost = counterVec("assistant_api_cost_usd_total",
		"USD that were spent, by the policy's price that they were counted with.", LabelModel)
	m.QueryTime = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "assistant_query_duration_seconds",
		Help:    "Time from the admission of a reservation to its settlement.",
		Buckets: []float64{0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120},
	})
	for _, status := range []string{StatusAllowed, StatusRateLimited} {
		m.Queries.WithLabelValues(status)
	}
	m.ModelCost.WithLabelValues(ModelUnknown)
}

func (m *Metrics) makePolicy() {
	m.PolicyReloads = counterVec("ratelimitd_policy_reloads_total", "Policy reloads by their end.", LabelResult)
	m.PolicyReloadSuccess = gauge("ratelimitd_policy_reload_success",
		"1 if the last policy reload took effect, 0 if the policy before it is still in force.")
	m.PolicyReloadTime = gauge("ratelimitd_policy_reload_timestamp_seconds",
		"When a policy last took effect, in seconds since the Unix epoch.")
	m.PolicyInfo = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ratelimitd_policy_info",
		Help: "1 for the hash of the policy in force.",
	}, []string{LabelHash})
	for _, result := range []string{ResultLoaded, ResultRejected} {
		m.PolicyReloads.WithLabelValues(result)
	}
}

func (m *Metrics) makeProcess() {
	m.Enabled = gauge("ratelimitd_enabled", "1, or 0 while everything is answered OK without asking.")
	m.Enabled.Set(1)
	m.BuildInfo = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ratelimitd_build_info",
		Help: "Always 1; the labels name the build.",
	}, []string{"version", "revision", "goversion"})
}

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}
