package e2e

import (
	"context"
	"strings"
	"testing"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestCostSentinelFailover kills the master of a Sentinel set between the calls of reservations: the money that was held and
// settled before is known on the new master, and what was open is settled there, once.
func TestCostSentinelFailover(t *testing.T) {
	t.Parallel()
	set := harness.Sentinel(t)
	env := harness.Env{"REDIS_SENTINEL_MASTER": set.Master, "REDIS_ADDRS": strings.Join(set.Addrs, ",")}
	env = with(env, "RATELIMITD_DECISION_TIMEOUT", shortTimeout)
	s := newSpenders(t, 2, withPolicy(t, env, spendPolicy(limits{
		user: "5 USD/day", global: "100 USD/day, 2 concurrent", userOnStoreFailure: "deny",
	})))
	before := mustReserve(t, s.clients[0], worth("123", "0.01"))
	done := costing(before.GetReservationId(), "0.004")
	mustSettle(t, s.clients[1], done)
	open := mustReserve(t, s.clients[1], worth("123", "0.02"))
	checkSpent(t, s.clients[0], "123", "0.004", "0.02")

	set.Replicated()
	set.Failover()
	if res := settleUntilBooked(t, s.clients[0], done); !res.GetDuplicate() || res.GetCostUsd() != "0.004" {
		t.Errorf("on the new master a repeat is answered %v, want a duplicate that costs 0.004 USD", res)
	}
	checkSpentSoon(t, s.clients[1], "123", "0.004", "0.02")
	for i, c := range s.clients {
		res := settleUntilBooked(t, c, costing(open.GetReservationId(), "0.007"))
		if res.GetCostUsd() != "0.007" || i > 0 && !res.GetDuplicate() {
			t.Errorf("settlement %d of what was open is answered %v", i, res)
		}
	}
	v := s.reserveAtOnce(t, 3, func(int) *costv1.ReserveRequest { return worth("123", "0.001") })
	if v.counts[""] != 2 || v.counts[noSlot] != 1 {
		t.Errorf("on the new master the answers by reason are %v, want that 2 of 3 calls pass", v.counts)
	}
	checkSpent(t, s.clients[0], "123", "0.011", "0.002")
	checkSpent(t, s.clients[0], "", "0.011", "0.002")
}

// checkSpentSoon is checkSpent of a daemon that may still look for its store.
func checkSpentSoon(t *testing.T, c costv1.CostServiceClient, user, spent, held string) {
	t.Helper()
	harness.WaitFor(t, "the daemon has found its store", func(ctx context.Context) error {
		_, err := balances(ctx, c, user)
		return err
	})
	checkSpent(t, c, user, spent, held)
}

// TestCostCluster has the random run over a Cluster, where the users' and the system's sums lie on different masters: when it is
// over all of them are exact. Nothing is extended, and no two calls of one key at once are granted in part: there the system's
// sum may hold more than was answered, until the settlement.
func TestCostCluster(t *testing.T) {
	t.Parallel()
	set := harness.Cluster(t)
	env := harness.Env{"REDIS_ADDRS": strings.Join(set.Addrs, ","), "REDIS_CLUSTER": "true"}
	ops := ledgerSize(t) / 8
	l := newLedgerRun(t, ops, newSpenders(t, 2, ledgerPolicy(t, env, ops, "charge")), "charge")
	l.static = true
	l.run(patientFor(t, ops))
	l.compare(t)
}
