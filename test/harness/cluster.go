package harness

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

const (
	masters = 3
	// slots is how many hash slots a Redis Cluster has.
	slots = 16384
)

// ClusterSet is a Redis Cluster of three masters that hold all slots between them.
type ClusterSet struct {
	Addrs   []string
	Servers []*RedisServer
}

// Cluster starts a Redis Cluster and returns when every node says that it is whole.
func Cluster(t TB) *ClusterSet {
	t.Helper()
	c := &ClusterSet{}
	for range masters {
		r := Redis(t, WithArgs("--cluster-enabled", "yes", "--cluster-node-timeout", "5000"))
		c.Servers, c.Addrs = append(c.Servers, r), append(c.Addrs, r.Addr)
	}
	WaitFor(t, "hand out the slots of the cluster", c.handOut)
	WaitFor(t, "the cluster is whole", c.whole)
	return c
}

// handOut gives each node an equal range of slots and has the first one meet the others. It may be repeated.
func (c *ClusterSet) handOut(ctx context.Context) error {
	for i, r := range c.Servers {
		from, to := slots*i/masters, slots*(i+1)/masters-1
		if err := r.Client.Do(ctx, "CLUSTER", "FLUSHSLOTS").Err(); err != nil {
			return fmt.Errorf("free the slots of node %d: %w", i, err)
		}
		if err := r.Client.ClusterAddSlotsRange(ctx, from, to).Err(); err != nil {
			return fmt.Errorf("give slots %d-%d to node %d: %w", from, to, i, err)
		}
		// Nodes that claim the same epoch have to settle it among themselves first; different ones are done at once.
		if err := r.Client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil &&
			!strings.Contains(err.Error(), "already") {
			return fmt.Errorf("give node %d its epoch: %w", i, err)
		}
		if i == 0 {
			continue
		}
		if err := c.Servers[0].Client.ClusterMeet(ctx, loopbackIP, strconv.Itoa(r.Port())).Err(); err != nil {
			return fmt.Errorf("have node 0 meet node %d: %w", i, err)
		}
	}
	return nil
}

// whole errs while a node does not see every slot in good hands, or does not know every node.
func (c *ClusterSet) whole(ctx context.Context) error {
	for i, r := range c.Servers {
		info, err := r.Client.ClusterInfo(ctx).Result()
		if err != nil {
			return fmt.Errorf("ask node %d: %w", i, err)
		}
		for _, want := range []string{
			"cluster_state:ok", fmt.Sprintf("cluster_slots_ok:%d", slots),
			fmt.Sprintf("cluster_known_nodes:%d", masters), fmt.Sprintf("cluster_size:%d", masters),
		} {
			if !strings.Contains(info, want+"\r\n") {
				return fmt.Errorf("node %d does not say %s yet:\n%s", i, want, info)
			}
		}
	}
	return nil
}
