package engine

import "time"

// FormatMoment writes a moment for a caller, in UTC with milliseconds, rounded up: at the stated moment it has come.
func FormatMoment(t time.Time) string {
	return RoundUp(t, time.Millisecond).Format("2006-01-02T15:04:05.000Z07:00")
}

// RoundUp is the first moment, in UTC, that is not before t and is a whole number of units, as of time.Second.
func RoundUp(t time.Time, unit time.Duration) time.Time {
	return t.Add(unit - 1).UTC().Truncate(unit)
}

// micros is a moment in microseconds since the Unix epoch, at least 1.
func micros(t time.Time) int64 {
	return max(t.UnixMicro(), 1)
}
