package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// dearAnswer is a JSON answer with 12 + 856 tokens of input and 145 of output: 0.0002606 USD.
func dearAnswer(wait <-chan struct{}) harness.Reply {
	return harness.Reply{
		Wait: wait, Header: map[string]string{"Content-Type": jsonMedia},
		Chunks: []string{`{"model":"llama-3.2-3b-instruct","choices":[],` + plainUsage + `}`},
	}
}

// TestAtMostAHundredAtOnce sends 150 slow requests at once, twice. The assistant never has more than 100 of them, the others
// are told why, and the slots of the first ones serve the second ones.
func TestAtMostAHundredAtOnce(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, env harness.Env) {
		const slots, at = 100, 150
		gate := make(chan struct{})
		s := newCostStack(t, env, costPolicy{user: "100000/hour, 5 USD/day", global: "100 concurrent, 100 USD/day"},
			func(*http.Request) harness.Reply { return dearAnswer(gate) })
		for wave := range 2 {
			c := sendAtOnce(t, s.envoy.URL, at, func(i int) string { return fmt.Sprintf("user-%d", i%7) }, nil)
			checkReason(t, c.waitFor(t, at-slots, http.StatusTooManyRequests), "global:concurrent")
			s.assistant.WaitInFlight(t, slots)
			for range slots {
				gate <- struct{}{}
			}
			c.waitFor(t, slots, http.StatusOK)
			waitSpent(t, s.daemon, "user-0", "")
			if got := s.assistant.MostAtOnce(); got != slots {
				t.Errorf("wave %d: the assistant had %d requests at once, want %d", wave, got, slots)
			}
			if got, want := s.assistant.Hits(), int64(slots*(wave+1)); got != want {
				t.Errorf("wave %d: %d requests reached the assistant, want %d", wave, got, want)
			}
		}
	})
}

// TestBrokenRequestsFreeTheirSlots has clients go and an assistant break off: their slots are free at once, and their money
// is what the policy says of such an end.
func TestBrokenRequestsFreeTheirSlots(t *testing.T) {
	t.Parallel()
	const tokens = "model: llama-3.2-3b-instruct, input_tokens: 1000, max_output_tokens: 1000" // 0.0008 USD at most
	for _, c := range []struct {
		unknown         string
		gone, brokenOff string // what two such requests cost, USD
	}{
		{unknown: "charge_hold", gone: "0.0016", brokenOff: "0.0016"},
		{unknown: "charge_input", gone: "0.0004", brokenOff: "0.0004"},
		{unknown: "{cancelled: charge_input, error: release}", gone: "0.0004", brokenOff: "0"},
	} {
		t.Run(c.unknown, func(t *testing.T) {
			t.Parallel()
			onEachStore(t, func(t *testing.T, env harness.Env) {
				arrived, stay := make(chan struct{}), make(chan struct{})
				t.Cleanup(func() { close(stay) })
				begun := harness.Reply{Header: map[string]string{"Content-Type": eventMedia}, Chunks: []string{"data: {}\n\n"}}
				s := newCostStack(t, env, costPolicy{
					user: "1000/hour, 5 USD/day", global: "2 concurrent, 100 USD/day", hold: tokens, unknown: c.unknown,
				}, func(r *http.Request) harness.Reply {
					switch r.URL.Path {
					case "/wait":
						close(arrived)
						return harness.Reply{Wait: stay}
					case "/started":
						return harness.Reply{Header: begun.Header, Chunks: begun.Chunks, Stay: stay}
					case "/broken":
						return harness.Reply{Header: begun.Header, Chunks: begun.Chunks, Reset: true}
					default:
						return harness.Reply{Reset: true}
					}
				})
				leaveWhen(t, func() { <-arrived }, s.envoy.URL+"/wait", "gone")
				leaveWithin(t, httpClient, s.envoy.URL+"/started", "gone")
				waitSpent(t, s.daemon, "gone", c.gone)
				for _, path := range []string{"/reset", "/broken"} {
					if r, err := fetch(t.Context(), s.envoy.URL+path, "broken"); err == nil && r.status == http.StatusOK {
						t.Errorf("%s is answered with %q, want a broken answer", path, r.body)
					}
				}
				waitSpent(t, s.daemon, "broken", c.brokenOff)
			})
		})
	}
}

// TestSlotsOfADeadEnvoyAreFreeAfterTheLease kills an Envoy whose requests hold all slots. Another one gets them when the lease
// is over, and what was held is charged.
func TestSlotsOfADeadEnvoyAreFreeAfterTheLease(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, env harness.Env) {
		const slots = 5
		stay := make(chan struct{})
		t.Cleanup(func() { close(stay) })
		s := newCostStack(t, env,
			costPolicy{user: "1000/hour, 5 USD/day", global: "5 concurrent, 100 USD/day", lease: "8s"},
			func(r *http.Request) harness.Reply {
				if r.URL.Path == "/stay" {
					return harness.Reply{Wait: stay}
				}
				return dearAnswer(nil)
			})
		other := newCostEnvoy(t, s)
		doomed := sendAtOnce(t, s.envoy.URL+"/stay", slots, one("a"), nil)
		s.assistant.WaitInFlight(t, slots)
		checkReason(t, []reply{get(t, other.URL, "b")}, "global:concurrent")
		s.envoy.Kill()
		doomed.wg.Wait()
		waitSpent(t, s.daemon, "a", "0.005") // five holds
		if r := get(t, other.URL, "b"); r.status != http.StatusOK {
			t.Errorf("after the lease the status is %d, want 200: %s", r.status, r.body)
		}
		waitSpent(t, s.daemon, "b", "0.0002606")
	})
}

// TestAnAnswerOutlastsItsLease has an answer that takes longer than the lease: its slot is another's then, and what it has used
// takes the place of what the end of the lease has charged.
func TestAnAnswerOutlastsItsLease(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, env harness.Env) {
		gate := make(chan struct{})
		s := newCostStack(t, env,
			costPolicy{user: "1000/hour, 5 USD/day", global: "1 concurrent, 100 USD/day", lease: "1s"}, gated(gate))
		c := sendAtOnce(t, s.envoy.URL, 1, one("a"), nil)
		s.assistant.WaitInFlight(t, 1)
		waitSpent(t, s.daemon, "a", "0.001")
		if r := get(t, s.envoy.URL+probePath, "b"); r.status != http.StatusOK {
			t.Errorf("after the lease another's status is %d, want 200: %s", r.status, r.body)
		}
		close(gate)
		c.waitFor(t, 1, http.StatusOK)
		waitSpent(t, s.daemon, "a", "0.0002606")
	})
}

// TestAClientGoesWhileItIsDecided has a client go before ratelimitd has answered, while Redis hangs: Envoy tells nothing of the
// end of such a request, which has reached nobody. Its slot is free all the same when Redis answers, and it costs nothing.
func TestAClientGoesWhileItIsDecided(t *testing.T) {
	t.Parallel()
	redis := harness.Redis(t)
	s := newCostStack(t, onRedis(redis), costPolicy{user: "1000/hour, 5 USD/day", global: "1 concurrent, 100 USD/day"},
		func(*http.Request) harness.Reply { return dearAnswer(nil) })
	redis.Pause()
	leaveWhen(t, func() { waitActive(t, s.envoy, 1) }, s.envoy.URL, "a")
	waitActive(t, s.envoy, 0)
	redis.Resume()
	waitSpent(t, s.daemon, "a", "0")
	if r := get(t, s.envoy.URL, "b"); r.status != http.StatusOK {
		t.Errorf("another's status is %d, want 200: %s", r.status, r.body)
	}
}

// TestTheSameRequestIDGainsNothing has a client send one x-request-id with every call: each takes a slot of its own, a denied
// one frees none, and each is paid for.
func TestTheSameRequestIDGainsNothing(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, env harness.Env) {
		const slots, calls, more = 3, 8, 4
		gate := make(chan struct{})
		s := newCostStack(t, env, costPolicy{user: "1000/hour, 5 USD/day", global: "3 concurrent, 100 USD/day"},
			func(*http.Request) harness.Reply { return dearAnswer(gate) })
		mine := map[string]string{"x-request-id": "mine"}
		c := sendAtOnce(t, s.envoy.URL, calls, one("a"), mine)
		checkReason(t, c.waitFor(t, calls-slots, http.StatusTooManyRequests), "global:concurrent")
		s.assistant.WaitInFlight(t, slots)
		for range more {
			r, err := fetchWith(t.Context(), s.envoy.URL, "a", mine)
			if err != nil || r.status != http.StatusTooManyRequests {
				t.Fatalf("a further call while all slots are taken: status %d (%v), want 429", r.status, err)
			}
		}
		close(gate)
		c.waitFor(t, slots, http.StatusOK)
		waitSpent(t, s.daemon, "a", "0.0007818") // three calls
		for i := range 2 {
			send(t, s.envoy.URL, "a", mine)
			waitSpent(t, s.daemon, "a", []string{"0.0010424", "0.001303"}[i])
		}
		if got := s.assistant.MostAtOnce(); got != slots {
			t.Errorf("the assistant had %d requests at once, want %d", got, slots)
		}
		if used := statsOf(t, s.daemon, "a").Limits["hour"].Current; used != slots+2 {
			t.Errorf("%d requests are counted, want %d", used, slots+2)
		}
	})
}

// TestAnOddRequestIDGainsNothing has clients send ids that no program makes: each call is still counted and held.
func TestAnOddRequestIDGainsNothing(t *testing.T) {
	t.Parallel()
	s := newCostStack(t, harness.Env{}, costPolicy{user: "100/hour, 5 USD/day", global: "1 concurrent, 100 USD/day"},
		func(*http.Request) harness.Reply { return dearAnswer(nil) })
	for i, id := range []string{"", " ", strings.Repeat("x", 8000), "\xff\xfe"} {
		send(t, s.envoy.URL, "a", map[string]string{"x-request-id": id})
		waitSpent(t, s.daemon, "a", []string{"0.0002606", "0.0005212", "0.0007818", "0.0010424"}[i])
		if used := statsOf(t, s.daemon, "a").Limits["hour"].Current; used != int64(i+1) {
			t.Errorf("with the id %.9q %d requests are counted, want %d", id, used, i+1)
		}
	}
}

// TestWhatPassedUnheldIsBooked has requests pass while Redis or ratelimitd is away, and end when it is back: their money is
// booked, once.
func TestWhatPassedUnheldIsBooked(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) outage{
		"Redis hangs": func(t *testing.T) outage {
			r := harness.Redis(t)
			return outage{env: onRedis(r), begin: func(*costStack) { r.Pause() }, end: func(*costStack) { r.Resume() }}
		},
		"Redis is not there yet": func(t *testing.T) outage {
			r := harness.RedisAway(t)
			return outage{env: onRedis(r), begin: func(*costStack) {}, end: func(*costStack) { r.Start() }}
		},
		"Redis is away for a while": func(t *testing.T) outage {
			r := harness.Redis(t, harness.WithAppendOnly())
			return outage{env: onRedis(r), begin: func(*costStack) { r.Stop() }, end: func(*costStack) { r.Start() }}
		},
		"ratelimitd is away": func(t *testing.T) outage {
			return outage{
				env:   onRedis(harness.Redis(t)),
				begin: func(s *costStack) { s.daemon.Kill() }, end: func(s *costStack) { s.daemon.Start() },
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const calls, cost = 3, "0.0007818"
			gate, o := make(chan struct{}), start(t)
			s := newCostStack(t, with(o.env, "RATELIMITD_DECISION_TIMEOUT", shortTimeout),
				costPolicy{user: "1000/hour, 5 USD/day", global: "100 concurrent, 100 USD/day"}, gated(gate))
			o.begin(s)
			c := sendAtOnce(t, s.envoy.URL, calls, one("a"), nil)
			s.assistant.WaitInFlight(t, calls)
			o.end(s)
			waitConnected(t, s)
			close(gate)
			for _, r := range c.waitFor(t, calls, http.StatusOK) {
				if r.asked() {
					t.Errorf("a request that passed unheld has numbers: %v", r.header)
				}
			}
			waitSpent(t, s.daemon, "a", cost)
		})
	}
}

// outage is a time without a store, or without a daemon.
type outage struct {
	env        harness.Env
	begin, end func(s *costStack)
}

// waitConnected waits until requests are decided by the store again, those of another user at a path that answers at once.
func waitConnected(t *testing.T, s *costStack) {
	t.Helper()
	harness.WaitFor(t, "requests are decided again", func(ctx context.Context) error {
		r, err := fetch(ctx, s.envoy.URL+probePath, "probe")
		if err == nil && !r.asked() {
			err = errors.New("an answer has no numbers")
		}
		return err
	})
}

// probePath is answered at once.
const probePath = "/probe"

// gated answers everything but probePath when the gate is open.
func gated(gate <-chan struct{}) func(r *http.Request) harness.Reply {
	return func(r *http.Request) harness.Reply {
		if r.URL.Path == probePath {
			return harness.Reply{}
		}
		return dearAnswer(gate)
	}
}

// TestShippedCostTimeouts has nothing replaced in the shipped configuration but ports, a daemon with its own defaults and the
// production policy. A busy machine may make an Envoy with such a timeout pass a request unasked; then another user tries again.
func TestShippedCostTimeouts(t *testing.T) {
	t.Parallel()
	s := &costStack{
		assistant: harness.Assistant(t, func(*http.Request) harness.Reply { return dearAnswer(nil) }),
		daemon: harness.Daemon(t, with(with(onRedis(harness.Redis(t)), "RATELIMITD_DECISION_TIMEOUT", ""),
			"RATELIMITD_POLICY", "production")),
	}
	s.envoy = harness.Envoy(t, harness.EnvoyCostFile, harness.Ports(t, s.assistant.Addr, s.daemon.GRPCAddr))
	var user int
	harness.WaitFor(t, "a user is answered in time", func(ctx context.Context) error {
		user++
		r, err := fetch(ctx, s.envoy.URL, fmt.Sprintf("user-%d", user))
		if err == nil && !r.asked() {
			err = errors.New("the answer has no numbers")
		}
		return err
	})
	waitSpent(t, s.daemon, fmt.Sprintf("user-%d", user), "0.0002606")
}

// TestTheLastCent has a user with $0.01 left send 50 requests at once: as many pass as the cent can hold, and when they are
// settled, as many more as what they left can hold. Each is denied that would pass the budget.
func TestTheLastCent(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, env harness.Env) {
		const held = 10 // 0.001 USD each
		gate := make(chan struct{})
		s := newCostStack(t, env, costPolicy{user: "1000/hour, 5 USD/day", global: "1000 concurrent, 100 USD/day"},
			func(r *http.Request) harness.Reply {
				if r.URL.Path == "/dear" {
					return harness.Reply{
						Header: map[string]string{"Content-Type": jsonMedia},
						Chunks: []string{`{"usage":{"prompt_tokens":1,"completion_tokens":1,"cost":4.99}}`},
					}
				}
				return dearAnswer(gate)
			})
		get(t, s.envoy.URL+"/dear", "a")
		waitSpent(t, s.daemon, "a", "4.99")
		c := sendAtOnce(t, s.envoy.URL, 50, one("a"), nil)
		checkReason(t, c.waitFor(t, 50-held, http.StatusTooManyRequests), "user:day")
		s.assistant.WaitInFlight(t, held)
		close(gate)
		c.waitFor(t, held, http.StatusOK)
		const nano, cost, hold, limit = 1_000_000_000, 260_600, 1_000_000, 5_000_000_000
		for spent := int64(4_990_000_000 + held*cost); ; spent += cost {
			waitSpent(t, s.daemon, "a", fmt.Sprintf("%d.%09d", spent/nano, spent%nano))
			r := get(t, s.envoy.URL, "a")
			if fits := spent+hold <= limit; fits != (r.status == http.StatusOK) {
				t.Fatalf("status %d at %d nano-USD of %d, when a request holds %d", r.status, spent, int64(limit), hold)
			}
			if r.status != http.StatusOK {
				return
			}
		}
	})
}

// TestTheSumIsExact sends answers of all kinds, and compares the statistics with their prices to the last digit.
func TestTheSumIsExact(t *testing.T) {
	t.Parallel()
	jsonReply := func(body string) harness.Reply {
		return harness.Reply{Header: map[string]string{"Content-Type": jsonMedia}, Chunks: []string{body}}
	}
	const detailed = `"usage":{"prompt_tokens":868,"completion_tokens":145,"prompt_tokens_details":{"cached_tokens":800},` +
		`"completion_tokens_details":{"reasoning_tokens":45}}`
	hit := jsonReply(`{"model":"with-a-cache",` + detailed + `}`)
	hit.Header["X-Assistant-Cache"] = "hit"
	answers := []struct {
		path, sum string // what has been spent after three such answers, and those before
		reply     harness.Reply
	}{
		{path: "/json", sum: "0.0007818", reply: dearAnswer(nil)},
		{path: "/events", sum: "0.0015636", reply: harness.Reply{
			Header: map[string]string{"Content-Type": eventMedia},
			Chunks: []string{
				"data: {\"model\":\"llama-3.2-3b-inst", "ruct\",\"usage\":null}\n\nda", "ta: {" + plainUsage[:30],
				plainUsage[30:] + "}\n\ndata: [DONE]\n\n",
			},
		}},
		// 68 x 0.0000002 + 800 x 0.00000005 + 100 x 0.0000006 + 45 x 0.000001 = 0.0001586
		{path: "/cached", sum: "0.0020394", reply: jsonReply(`{"model":"with-a-cache",` + detailed + `}`)},
		{path: "/hit", sum: "0.0020394", reply: hit},
		{path: "/cost", sum: "0.0050394", reply: jsonReply(`{"usage":{"prompt_tokens":868,"completion_tokens":145,"cost":0.001}}`)},
	}
	replies := map[string]harness.Reply{}
	for _, a := range answers {
		replies[a.path] = a.reply
	}
	onEachStore(t, func(t *testing.T, env harness.Env) {
		s := newCostStack(t, env, costPolicy{user: "1000/hour, 5 USD/day", global: "100 concurrent, 100 USD/day"},
			func(r *http.Request) harness.Reply { return replies[r.URL.Path] })
		for _, a := range answers {
			sendAtOnce(t, s.envoy.URL+a.path, 3, one("a"), nil).waitFor(t, 3, http.StatusOK)
			waitSpent(t, s.daemon, "a", a.sum)
		}
		if got := statsOf(t, s.daemon, "a").Limits["hour"].Current; got != int64(3*len(answers)) {
			t.Errorf("%d requests are counted, want %d: a hit of the assistant's cache counts, too", got, 3*len(answers))
		}
		total, err := spendingOf(t.Context(), s.daemon, "a")
		if err != nil || !sameUSD(total.Global.Cost.Today.String(), "0.0050394") {
			t.Errorf("the system has spent %s (%v), want what its one user has", total.Global.Cost.Today, err)
		}
	})
}
