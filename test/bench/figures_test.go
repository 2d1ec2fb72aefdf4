package main

import (
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
)

func TestPercentilesAreExactNearestRanks(t *testing.T) {
	t.Parallel()

	var callers [2][]time.Duration
	for i := range 1000 {
		callers[i%2] = append(callers[i%2], time.Duration(1000-i))
	}

	want := latencies{P50: 500, P99: 990, P999: 999, Max: 1000}
	if got := percentiles(callers[:]); got != want {
		t.Errorf("percentiles of 1..1000: got %+v, want %+v", got, want)
	}

	if got := percentiles(nil); got != (latencies{}) {
		t.Errorf("percentiles of nothing: got %+v, want zeros", got)
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()

	tests := []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{2}, spread{Median: 2, Min: 2, Max: 2, Rounds: 1}},
		{[]float64{3, 1, 2}, spread{Median: 2, Min: 1, Max: 3, Rounds: 3}},
		{[]float64{4, 1, 2, 3}, spread{Median: 2.5, Min: 1, Max: 4, Rounds: 4}},
	}
	for _, test := range tests {
		if got := spreadOf(test.values); got != test.want {
			t.Errorf("spread of %v: got %+v, want %+v", test.values, got, test.want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()

	const ok, over = rlsv3.RateLimitResponse_OK, rlsv3.RateLimitResponse_OVER_LIMIT

	answer := func(code rlsv3.RateLimitResponse_Code, statuses int, numbers bool) *rlsv3.RateLimitResponse {
		resp := &rlsv3.RateLimitResponse{OverallCode: code}

		for range statuses {
			status := &rlsv3.RateLimitResponse_DescriptorStatus{Code: code}
			if numbers {
				status.CurrentLimit = &rlsv3.RateLimitResponse_RateLimit{RequestsPerUnit: 1}
			}

			resp.Statuses = append(resp.Statuses, status)
		}

		return resp
	}

	tests := []struct {
		name    string
		resp    *rlsv3.RateLimitResponse
		verdict verdict
		right   bool
	}{
		{"the ceiling's answer", answer(ok, 4, false), bareOK, true},
		{"an admission", answer(ok, 4, true), admitted, true},
		{"a fail-open for an admission", answer(ok, 4, false), admitted, false},
		{"a denial for an admission", answer(over, 4, true), admitted, false},
		{"a status too few", answer(ok, 3, true), admitted, false},
		{"a denial", answer(over, 4, true), overLimit, true},
		{"an admission for a denial", answer(ok, 4, true), overLimit, false},
		{"anything in the warm-up", answer(over, 0, false), anyVerdict, true},
	}
	for _, test := range tests {
		if err := test.verdict.check(test.resp, 4); (err == nil) != test.right {
			t.Errorf("%s: got %v, want it right: %t", test.name, err, test.right)
		}
	}
}

func TestTargetsAreJudgedByTheMedianOfValidRounds(t *testing.T) {
	t.Parallel()

	closed := leg{Shape: oneDescriptor}
	r := &report{Rounds: 4, Rate: 3000}

	for round, perSecond := range []float64{50, 61, 90, 62} {
		r.Runs = append(r.Runs,
			&run{Round: round, Contender: ceilingName, Leg: closed, PerSecond: 100},
			&run{Round: round, Contender: redisName, Leg: closed, PerSecond: perSecond})
	}

	r.find(redisName, closed, 2).Invalid = "a fail-open"

	targets := r.judge()
	if len(targets) != 1 {
		t.Fatalf("got %d targets, want the only one that was measured: %+v", len(targets), targets)
	}

	want := spread{Median: 0.61, Min: 0.50, Max: 0.62, Rounds: 3}
	if got := targets[0]; got.Figure != want || !got.Reached {
		t.Errorf("got %+v, want %+v reached", got, want)
	}
}

func TestInfoOfRedis(t *testing.T) {
	t.Parallel()

	info := parseInfo("# CPU\r\nused_cpu_sys:1.5\r\n\r\n# Commandstats\r\ncmdstat_evalsha:calls=12,usec=34,usec_per_call=2.8\r\n")
	if got := info["used_cpu_sys"]; got != "1.5" {
		t.Errorf("used_cpu_sys: got %q, want 1.5", got)
	}

	if got := callsOf(info["cmdstat_evalsha"]); got != 12 {
		t.Errorf("calls of evalsha: got %d, want 12", got)
	}

	if got := timeOf(info["cmdstat_evalsha"]); got != 34*time.Microsecond {
		t.Errorf("time of evalsha: got %v, want 34µs", got)
	}

	if got := callsOf(info["cmdstat_fcall"]); got != 0 {
		t.Errorf("calls of a command that was never called: got %d, want 0", got)
	}
}
