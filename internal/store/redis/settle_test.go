package redis

import (
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// A settlement on a Cluster that was cut short after the first subject goes on with what that one was told, whatever the repeat
// would charge by then.
func TestARepeatedSettlementOnAClusterBooksOneAmountEverywhere(t *testing.T) {
	cluster := harness.Cluster(t)
	s, err := New(Options{Addrs: cluster.Addrs, Cluster: true, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // nothing to lose
	user, global := store.Subject{Kind: "user", ID: "123"}, store.Subject{Kind: "global"}
	day := []store.Limit{{Max: 1000, Period: 24 * time.Hour}}
	parts := []store.Part{{Subject: user, USD: 24 * time.Hour}, {Subject: global, USD: 24 * time.Hour}}
	for name, cut := range map[string]struct {
		flags byte
		usd   int64
		want  int64
	}{"an amount": {0, 40, 40}, "what is held": {settleKeep, 0, 60}} {
		t.Run(name, func(t *testing.T) {
			for _, subject := range []store.Subject{user, global} {
				if err := s.Reset(t.Context(), subject); err != nil {
					t.Fatal(err)
				}
			}
			checks := []store.Check{
				{Subject: user, Unit: store.USD, Amount: 60, Limits: day}, {Subject: global, Unit: store.USD, Amount: 60, Limits: day},
			}
			var ans store.Answer
			hold := &store.Hold{ID: name, Lease: time.Minute, USD: 60}
			if err := s.Admit(t.Context(), &store.Request{Checks: checks, Hold: hold}, &ans); err != nil || !ans.Admitted {
				t.Fatal(err, ans)
			}
			var out store.Settled
			first := &store.Settlement{ID: name, Fingerprint: 1, USD: cut.usd}
			if err := s.settles.settle(t.Context(), first, parts[:1], cut.flags, &out); err != nil {
				t.Fatal(err)
			}
			out = store.Settled{}
			repeat := &store.Settlement{Parts: parts, ID: name, Fingerprint: 1, USD: 70}
			if err := s.Settle(t.Context(), repeat, &out); err != nil || !out.Repeat || out.USD != cut.want {
				t.Fatalf("the repeat is answered %+v, %v; want the first answer, %d", out, err, cut.want)
			}
			for i := range checks {
				checks[i].Amount = 0
			}
			if err := s.Admit(t.Context(), &store.Request{Checks: checks, Look: true}, &ans); err != nil {
				t.Fatal(err)
			}
			if u, g := ans.States[0].Used, ans.States[1].Used; u != cut.want || g != cut.want {
				t.Errorf("the user has used %d and all users %d, want %d of both", u, g, cut.want)
			}
		})
	}
}
