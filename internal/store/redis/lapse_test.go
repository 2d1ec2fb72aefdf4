package redis

import (
	"sync/atomic"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/ratelimitd/ratelimitd/internal/store/storetest"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

func TestEachLeaseThatEndsIsToldOnce(t *testing.T) {
	t.Parallel()
	server, cluster := harness.Redis(t), harness.Cluster(t)
	nodes := make([]*goredis.Client, 0, len(cluster.Servers))
	for _, n := range cluster.Servers {
		nodes = append(nodes, n.Client)
	}
	for _, tt := range []struct {
		name  string
		opt   Options
		nodes []*goredis.Client
	}{
		{"one server", Options{Addrs: []string{server.Addr}}, []*goredis.Client{server.Client}},
		{"a Cluster", Options{Addrs: cluster.Addrs, Cluster: true}, nodes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var told, charged atomic.Int64
			tt.opt.Timeout = patience
			tt.opt.OnLapse = func(leases int, usd int64) {
				told.Add(int64(leases))
				charged.Add(usd)
			}
			storetest.RunLapses(t, open(tt.opt, tt.nodes, true)(t), func() (int, int64) { return int(told.Load()), charged.Load() })
		})
	}
}
