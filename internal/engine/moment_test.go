package engine

import (
	"testing"
	"time"
)

// A moment that is told too early sends a caller to a door that is still shut.
func TestAMomentThatIsToldIsNotBeforeTheOneMeant(t *testing.T) {
	for meant, want := range map[string]string{
		"2030-01-02T12:00:00Z":           "2030-01-02T12:00:00.000Z",
		"2030-01-02T12:00:00.000001Z":    "2030-01-02T12:00:00.001Z",
		"2030-01-02T12:00:00.001Z":       "2030-01-02T12:00:00.001Z",
		"2030-01-02T12:00:00.001001Z":    "2030-01-02T12:00:00.002Z",
		"2030-12-31T23:59:59.999000001Z": "2031-01-01T00:00:00.000Z",
		"2030-01-02T12:00:00.5+01:00":    "2030-01-02T11:00:00.500Z",
	} {
		at, err := time.Parse(time.RFC3339Nano, meant)
		if err != nil {
			t.Fatal(err)
		}
		if got := FormatMoment(at); got != want {
			t.Errorf("%s is told as %s, want %s", meant, got, want)
		}
		if up := RoundUp(at, time.Second); up.Before(at) || up.Sub(at) >= time.Second || up.Nanosecond() != 0 {
			t.Errorf("%s rounded up to a second is %s", meant, up)
		}
	}
}
