package engine

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// holding is a descriptor of a call that holds, with further entries, key and value in turn.
func holding(id string, entries ...string) policy.Descriptor {
	d := user(id, 1)
	d.Entries = append(d.Entries, policy.Entry{Key: "request_id", Value: "r"})
	for i := 0; i+1 < len(entries); i += 2 {
		d.Entries = append(d.Entries, policy.Entry{Key: entries[i], Value: entries[i+1]})
	}
	return d
}

func TestACallByEnvoyHoldsByTheRuleAndItsEntries(t *testing.T) {
	const ruled = 100*1500 + 100*2000
	for name, tc := range map[string]struct {
		entries []string
		usd     int64
	}{
		"nothing said":           {nil, ruled},
		"all said":               {[]string{"model", "llama-3.2-3b-instruct", "input_tokens", "1000", "max_output_tokens", "10"}, 206_000},
		"a model without price":  {[]string{"model", "unheard of"}, ruled},
		"a model too long":       {[]string{"model", strings.Repeat("m", MaxModel+1)}, ruled},
		"no output":              {[]string{"max_output_tokens", "0"}, 150_000},
		"not a number":           {[]string{"input_tokens", "1e3", "max_output_tokens", "-1"}, ruled},
		"a sign":                 {[]string{"input_tokens", "+5", "max_output_tokens", " 5"}, ruled},
		"too large a number":     {[]string{"input_tokens", "1000000000001", "max_output_tokens", "99999999999999999999999"}, ruled},
		"only the first is read": {[]string{"input_tokens", "0", "input_tokens", "500"}, 200_000},
	} {
		t.Run(name, func(t *testing.T) {
			runCost(t, "", nil, func(t *testing.T, b *bench) {
				dec := b.decide(holding("a", tc.entries...))
				if dec.Denied || dec.Hold == "" {
					t.Fatalf("got %+v, want it admitted, with a token", dec)
				}
				b.wantMoney("a", tc.usd, tc.usd)
				if b.slots() != 1 {
					t.Errorf("%d slots are in use, want 1", b.slots())
				}
			})
		})
	}
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		b.policy.Store(parse(t, replaceOnce(costPolicy, "hold: {model: m,", "hold: {usd: 0.002,")))
		b.decide(holding("a", "max_output_tokens", "5"))
		b.wantMoney("a", 2_000_000, 2_000_000)
	})
}

func TestWhatOnlyLooksOrGivesBackHoldsNothing(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		look := holding("a")
		look.Amount = 0
		for name, d := range map[string]policy.Descriptor{"a look": look, "a refund": giveBack(holding("a")), "no request_id": user("a", 1)} {
			if dec := b.decide(d); dec.Hold != "" {
				t.Errorf("%s is given a token", name)
			}
		}
		b.wantMoney("a", 0, 0)
	})
}

func TestTheEndOfAStreamSettlesItsHold(t *testing.T) {
	for name, tc := range map[string]struct {
		end  StreamEnd
		want int64
	}{
		"by tokens":               {StreamEnd{Usage: &budget.Usage{Input: 10, Output: 5}, Outcome: "success"}, 20_000},
		"by cost, over tokens":    {StreamEnd{Usage: &budget.Usage{Input: 10, Output: 5}, Cost: new(int64(700))}, 700},
		"by the model that ran":   {StreamEnd{Usage: &budget.Usage{Output: 10}, Model: "llama-3.2-3b-instruct"}, 6000},
		"from the cache":          {StreamEnd{CacheHit: true, Outcome: "success"}, 0},
		"nothing told, a success": {StreamEnd{Outcome: "success"}, 350_000},
		"nothing told, an error":  {StreamEnd{Outcome: "error"}, 0},
		"nothing told, cancelled": {StreamEnd{Outcome: "cancelled"}, 100_000},
		"hostile numbers":         {StreamEnd{Cost: new(int64(-5)), Model: strings.Repeat("m", MaxModel+1)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			runCost(t, "", nil, func(t *testing.T, b *bench) {
				tc.end.Hold = b.decide(holding("a")).Hold
				for range 3 {
					b.EndStream(t.Context(), &tc.end)
				}
				b.wantMoney("a", tc.want, 0)
				if b.slots() != 0 {
					t.Errorf("%d slots are in use, want none", b.slots())
				}
			})
		})
	}
}

func TestAUsageWithoutAHoldIsBookedForTheUser(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		who := []policy.Entry{{Key: "user_id", Value: "a"}}
		ends := []StreamEnd{
			{Outcome: "success"},
			{Usage: &budget.Usage{Input: 10}, Model: "m"},
			{Cost: new(int64(500))},
			{Hold: "no token", Cost: new(int64(500))},
			{Usage: &budget.Usage{Input: 1}}, // priced as the rule's model
			{Usage: &budget.Usage{Input: 1}, Model: "unheard of"},
		}
		for i := range ends {
			ends[i].Domain, ends[i].Entries = "assistant", who
			b.EndStream(t.Context(), &ends[i])
		}
		b.wantMoney("a", 13_000, 0)
		b.wantMoney("", 13_000, 0)
		b.EndStream(t.Context(), &StreamEnd{Domain: "elsewhere", Entries: who, Cost: new(int64(1))})
		b.wantMoney("a", 13_000, 0)
		if b.requests("a") != 0 {
			t.Error("a request was counted")
		}
	})
}

func TestACallLetThroughWhileTheStoreIsAwayIsBooked(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		b.store.fail(store.ErrTimeout)
		dec := b.decide(holding("a"))
		if dec.Denied || dec.Mode != FailedOpen || dec.Hold == "" {
			t.Fatalf("got %+v, want it let through, with a token", dec)
		}
		b.store.fail(nil)
		for range 2 {
			b.EndStream(t.Context(), &StreamEnd{Hold: dec.Hold, Usage: &budget.Usage{Input: 10}})
		}
		b.wantMoney("a", 10_000, 0)

		b.store.fail(store.ErrTimeout)
		dec = b.decide(holding("b"))
		b.store.fail(nil)
		b.EndStream(t.Context(), &StreamEnd{Hold: dec.Hold, Outcome: "success"}) // what would have been held
		b.wantMoney("b", 350_000, 0)
	})
}

func TestASettlementThatTheStoreDidNotTakeIsTriedAgain(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		end := StreamEnd{Hold: b.decide(holding("a")).Hold, Usage: &budget.Usage{Input: 10}}
		b.store.fail(store.ErrUnavailable)
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // Envoy does not wait
		b.EndStream(ctx, &end)
		time.Sleep(4 * time.Second)
		b.store.fail(nil)
		b.ends.running.Wait()
		b.wantMoney("a", 10_000, 0)
		if got := testutil.ToFloat64(b.opt.Metrics.LostEnds); got != 0 {
			t.Errorf("%v are lost, want none", got)
		}
	})
}

func TestTheEndOfAStreamDoesNotDependOnItsCaller(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		end := StreamEnd{Hold: b.decide(holding("a")).Hold, Usage: &budget.Usage{Input: 10}}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b.EndStream(ctx, &end)
		if b.ends.pending() != 0 {
			t.Error("it was not settled at once")
		}
		b.wantMoney("a", 10_000, 0)
	})
}

func TestACallThatHoldsNamesItsLimitOfRequests(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		dec := b.decide(holding("a"))
		st := dec.Statuses[0]
		if st.Limit.Unit != store.Requests || st.Remaining != 4 || dec.Deciding.Limit != st.Limit {
			t.Fatalf("got %d left of %+v, want 4 requests: 2 slots are fewer, and something else", st.Remaining, st.Limit)
		}
		b.reserve(of("x", 1, 1))
		b.reserve(of("y", 1, 1))
		if dec := b.decide(holding("b")); !dec.Denied || dec.Statuses[0].Limit.Unit != store.Concurrent {
			t.Fatalf("got %+v, want the slots named that deny", dec.Statuses[0])
		}
	})
}

func TestADenialForWantOfASlotIsNotRemembered(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		taken := b.fill()
		for range 2 {
			if dec := b.decide(holding("a")); !dec.Denied || dec.Mode != Stored {
				t.Fatalf("got %+v, want the store's own denial", dec)
			}
		}
		b.release(taken[0])
		if dec := b.decide(holding("a")); dec.Denied {
			t.Fatalf("got %+v, want the slot that is free", dec)
		}
	})
}

func TestSettlementsAreLostWithinABound(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		end := StreamEnd{Hold: b.decide(holding("a")).Hold, Usage: &budget.Usage{Input: 10}}
		b.store.fail(store.ErrUnavailable)
		lost := func() float64 { return testutil.ToFloat64(b.opt.Metrics.LostEnds) }
		for range maxEnds + 7 {
			b.EndStream(t.Context(), &end)
		}
		if lost() != 7 || b.ends.pending() != maxEnds {
			t.Fatalf("%v are lost and %d are tried again, want 7 and %d", lost(), b.ends.pending(), maxEnds)
		}
		began := time.Now()
		b.ends.running.Wait()
		if took := time.Since(began); lost() != maxEnds+7 || took != endsTriedFor {
			t.Fatalf("%v are lost after %s, want all after %s", lost(), took, endsTriedFor)
		}
	})
}

func TestClosingTriesOnceMore(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		end := StreamEnd{Hold: b.decide(holding("a")).Hold, Usage: &budget.Usage{Input: 10}}
		b.store.fail(store.ErrUnavailable)
		b.EndStream(t.Context(), &end)
		b.store.fail(nil)
		for range 2 {
			if err := b.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		b.wantMoney("a", 10_000, 0)
		b.store.fail(store.ErrUnavailable)
		b.EndStream(t.Context(), &end)
		if b.ends.pending() != 0 {
			t.Error("it is tried again after the engine was closed")
		}
	})
}

func TestARememberedDenialCoversACallThatHolds(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		for range 5 {
			if b.decide(user("a", 1)).Denied {
				t.Fatal("denied within its limit")
			}
		}
		for i := range 2 {
			dec := b.decide(holding("a"))
			if !dec.Denied || dec.Hold != "" || (dec.Mode == Local) != (i == 1) {
				t.Fatalf("got %+v", dec)
			}
		}
	})
}

// twice is a store whose client sends each question with a hold two times, as a client of a Cluster does that has lost a reply.
type twice struct{ store.Store }

func (s twice) Admit(ctx context.Context, req *store.Request, ans *store.Answer) error {
	if req.Hold != nil {
		if err := s.Store.Admit(ctx, req, new(store.Answer)); err != nil {
			return err
		}
	}
	return s.Store.Admit(ctx, req, ans)
}

func TestACallThatFindsItsOwnHoldPasses(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		b.release(b.fill()[0])
		b.opt.Store = twice{b.store}
		dec := b.decide(holding("a")) // the last slot
		if dec.Denied || dec.Hold == "" {
			t.Fatalf("got %+v, want it admitted, with a token", dec)
		}
		for i := range dec.Statuses {
			if st := &dec.Statuses[i]; st.Denied || st.Wait != 0 {
				t.Errorf("descriptor %d is answered %+v, want it not denied", i, st)
			}
		}
	})
}

func TestATokenTooLongIsLeftOut(t *testing.T) {
	runCost(t, "", nil, func(t *testing.T, b *bench) {
		dec := b.decide(holding(strings.Repeat("u", MaxToken)))
		if dec.Denied || dec.Hold != "" {
			t.Fatalf("got %+v, want it admitted, without a token", dec)
		}
		if b.slots() != 1 {
			t.Error("no slot was taken")
		}
	})
}
