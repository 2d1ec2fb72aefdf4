package main

import (
	"fmt"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
)

// verdict is what every answer of a run must be.
type verdict string

// The verdicts. Anything else than the expected one makes a run invalid.
const (
	anyVerdict verdict = "any"    // warm-up: the answer is not looked at
	bareOK     verdict = "bare"   // OK, with one OK status per descriptor and no numbers: the ceiling
	admitted   verdict = "ok"     // OK, with the store's numbers in every status: a fail-open has none
	overLimit  verdict = "denied" // over limit, with numbers in every status
)

// check errs when an answer to n descriptors is not this verdict.
func (v verdict) check(resp *rlsv3.RateLimitResponse, n int) error {
	want := rlsv3.RateLimitResponse_OK

	switch v {
	case anyVerdict:
		return nil
	case overLimit:
		want = rlsv3.RateLimitResponse_OVER_LIMIT
	case bareOK, admitted:
	}

	if got := resp.GetOverallCode(); got != want {
		return fmt.Errorf("overall code %v, want %v", got, want)
	}

	if got := len(resp.GetStatuses()); got != n {
		return fmt.Errorf("%d statuses, want %d", got, n)
	}

	for _, status := range resp.GetStatuses() {
		if got := status.GetCode(); got != want {
			return fmt.Errorf("a status of code %v, want %v", got, want)
		}

		if numbers := status.GetCurrentLimit() != nil; numbers != (v != bareOK) {
			return fmt.Errorf("current_limit present: %t, want %t (a fail-open has none)", numbers, !numbers)
		}
	}

	return nil
}
