package redis

// WithClock gives these options a clock, in microseconds since the Unix epoch, in place of Redis's own, and returns them. It
// is for tests and the benchmark, which cannot wait for a day to pass; all stores over one Redis must tell the same time.
func (o *Options) WithClock(clock func() int64) *Options {
	o.clock = clock
	return o
}
