package telemetry

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestLimitsAreShownAsTheStoreTellsThem(t *testing.T) {
	limits := []LimitReading{
		{Tier: "global", Limit: "hour", Unit: UnitRequests, Window: WindowSliding, Max: 1000, Used: 7, Period: 3600, Resets: 1.5e9},
		{Tier: "global", Limit: "month", Unit: UnitUSD, Window: WindowCalendar, Max: 100, Used: 12.5, Held: 2.5, Period: 2592000, Resets: 2e9},
		{Tier: "global", Limit: "concurrent", Unit: UnitConcurrent, Window: WindowNone, Max: 4, Used: 3},
		{Tier: "global", Limit: "not\xffutf8", Unit: UnitTokens, Window: WindowSliding, Max: 1, Period: 1},
	}
	l := NewLimits(func() []LimitReading { return limits })
	const want = `
# HELP ratelimitd_limit_held What open reservations hold, over all windows. Every daemon of a store shows the same.
# TYPE ratelimitd_limit_held gauge
ratelimitd_limit_held{limit="month",tier="global",unit="usd",window="calendar"} 2.5
ratelimitd_limit_held{limit="not�utf8",tier="global",unit="tokens",window="sliding"} 0
# HELP ratelimitd_limit_max The most that the limit admits, in its unit. Every daemon of a store shows the same.
# TYPE ratelimitd_limit_max gauge
ratelimitd_limit_max{limit="concurrent",tier="global",unit="concurrent",window="none"} 4
ratelimitd_limit_max{limit="hour",tier="global",unit="requests",window="sliding"} 1000
ratelimitd_limit_max{limit="month",tier="global",unit="usd",window="calendar"} 100
ratelimitd_limit_max{limit="not�utf8",tier="global",unit="tokens",window="sliding"} 1
# HELP ratelimitd_limit_period_seconds The length of the window; of a calendar's, that of the current one.
# TYPE ratelimitd_limit_period_seconds gauge
ratelimitd_limit_period_seconds{limit="hour",tier="global",unit="requests",window="sliding"} 3600
ratelimitd_limit_period_seconds{limit="month",tier="global",unit="usd",window="calendar"} 2.592e+06
ratelimitd_limit_period_seconds{limit="not�utf8",tier="global",unit="tokens",window="sliding"} 1
# HELP ratelimitd_limit_reset_timestamp_seconds When the oldest use leaves the window; of a calendar's, when the next begins. Absent while nothing is used.
# TYPE ratelimitd_limit_reset_timestamp_seconds gauge
ratelimitd_limit_reset_timestamp_seconds{limit="hour",tier="global",unit="requests",window="sliding"} 1.5e+09
ratelimitd_limit_reset_timestamp_seconds{limit="month",tier="global",unit="usd",window="calendar"} 2e+09
# HELP ratelimitd_slots_in_use Slots of the global tier in use. Every daemon of a store shows the same.
# TYPE ratelimitd_slots_in_use gauge
ratelimitd_slots_in_use 3
# HELP ratelimitd_slots_max Slots of the global tier. Every daemon of a store shows the same.
# TYPE ratelimitd_slots_max gauge
ratelimitd_slots_max 4
`
	if err := testutil.CollectAndCompare(l, strings.NewReader(want), "ratelimitd_limit_held", "ratelimitd_limit_max",
		"ratelimitd_limit_period_seconds", "ratelimitd_limit_reset_timestamp_seconds", "ratelimitd_slots_in_use",
		"ratelimitd_slots_max"); err != nil {
		t.Error(err)
	}
	limits = nil
	if got := testutil.CollectAndCount(l); got != 0 {
		t.Errorf("%d series are shown while the store cannot be asked, want none", got)
	}
}

func TestTheMemoryOfRedisIsAbsentUntilRedisHasSaidIt(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	names := []string{"ratelimitd_redis_memory_used_bytes", "ratelimitd_redis_memory_max_bytes", "ratelimitd_redis_may_evict"}
	wantAbsent := func(when string) {
		t.Helper()
		if got, err := testutil.GatherAndCount(reg, names...); got != 0 || err != nil {
			t.Errorf("%s: %d series (%v), want none", when, got, err)
		}
	}
	wantAbsent("before it has said so")
	m.Redis.Set(1024, 4096, true)
	for i, want := range []float64{1024, 4096, 1} {
		if series := family(t, reg, names[i]); len(series) != 1 || series[0].GetGauge().GetValue() != want {
			t.Errorf("%s is %v, want %v", names[i], series, want)
		}
	}
	m.Redis.Set(1024, 4096, false)
	if got := family(t, reg, names[2])[0].GetGauge().GetValue(); got != 0 {
		t.Errorf("%s is %v of a Redis that evicts nothing, want 0", names[2], got)
	}
	m.Redis.Unknown()
	wantAbsent("when it no longer says so")
}
