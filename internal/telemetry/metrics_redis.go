package telemetry

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// The fields of log lines about the memory of Redis.
const (
	FieldEviction  = "maxmemory_policy" // what Redis does when its memory is full
	FieldMaxMemory = "maxmemory_bytes"  // the most memory that Redis may use; 0 without a bound
)

// RedisMemory shows the memory of the Redis that usage lives in, of a Cluster that of all its masters together. It is absent until
// Redis has said it, and while it does not. It is safe for concurrent use.
type RedisMemory struct {
	used, most, evicts *prometheus.Desc
	last               atomic.Pointer[redisMemory]
}

type redisMemory struct {
	used, most int64 // bytes; most is 0 without a bound
	mayEvict   bool
}

func newRedisMemory() *RedisMemory {
	return &RedisMemory{
		used: prometheus.NewDesc("ratelimitd_redis_memory_used_bytes", "Memory that Redis uses, over all masters.", nil, nil),
		most: prometheus.NewDesc("ratelimitd_redis_memory_max_bytes",
			"The most memory that Redis may use, over all masters; 0 without a bound.", nil, nil),
		evicts: prometheus.NewDesc("ratelimitd_redis_may_evict",
			"1 if Redis may drop keys when its memory is full: its maxmemory-policy is not noeviction.", nil, nil),
	}
}

// Set notes what Redis has said, in bytes; most is 0 without a bound.
func (r *RedisMemory) Set(used, most int64, mayEvict bool) {
	r.last.Store(&redisMemory{used: used, most: most, mayEvict: mayEvict})
}

// Unknown notes that Redis does not say.
func (r *RedisMemory) Unknown() { r.last.Store(nil) }

// Describe is a prometheus.Collector's.
func (r *RedisMemory) Describe(to chan<- *prometheus.Desc) {
	to <- r.used
	to <- r.most
	to <- r.evicts
}

// Collect is a prometheus.Collector's.
func (r *RedisMemory) Collect(to chan<- prometheus.Metric) {
	last := r.last.Load()
	if last == nil {
		return
	}
	evicts := 0.0
	if last.mayEvict {
		evicts = 1
	}
	to <- prometheus.MustNewConstMetric(r.used, prometheus.GaugeValue, float64(last.used))
	to <- prometheus.MustNewConstMetric(r.most, prometheus.GaugeValue, float64(last.most))
	to <- prometheus.MustNewConstMetric(r.evicts, prometheus.GaugeValue, evicts)
}
