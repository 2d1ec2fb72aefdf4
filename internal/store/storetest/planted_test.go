package storetest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// violation is a way to break the contract of holds, planted in the model.
type violation struct {
	name  string
	plant func(*modelStore)
}

// nameOf is the name of a request's hold.
func nameOf(req *store.Request) holdName { return holdName{req.Checks[0].Subject, req.Hold.ID} }

// add puts an entry of its own into the log of a settlement's first part.
func (s *modelStore) add(st *store.Settlement) {
	log := logName{st.Parts[0].Subject, store.USD}
	s.model.logs[log] = append(s.model.logs[log], &holdEntry{at: s.model.now, amount: max(st.USD, 1)})
}

// of is the hold that a settlement is about.
func (s *modelStore) of(st *store.Settlement) *modelHold {
	return s.model.holds[holdName{st.Parts[0].Subject, st.ID}]
}

// move dates the entries of a hold anew.
func (s *modelStore) move(h *modelHold) {
	for _, entries := range s.model.logs {
		for _, e := range entries {
			if e.hold == h && h != nil {
				e.at = s.model.now
			}
		}
	}
}

// violations of requests.
func requestViolations() []violation {
	return []violation{
		{"a denied request takes its money", func(s *modelStore) {
			s.after = func(req *store.Request, ans *store.Answer) {
				if req.Hold != nil && !req.Look && ans.Hold.Status == store.NoHold && !req.Hold.InLine {
					c := req.Checks[len(req.Checks)-1]
					log := logName{c.Subject, c.Unit}
					s.model.logs[log] = append(s.model.logs[log], &holdEntry{at: s.model.now, amount: 1})
				}
			}
		}},
		{"a denied request is known", func(s *modelStore) {
			s.after = func(req *store.Request, ans *store.Answer) {
				if req.Hold != nil && !req.Look && !ans.Admitted && ans.Hold.Status == store.NoHold {
					s.model.holds[nameOf(req)] = &modelHold{print: req.Hold.Fingerprint, at: s.model.now, expires: s.model.now + us(hour)}
				}
			}
		}},
		{"a repeat takes again", func(s *modelStore) {
			s.before = func(req *store.Request) {
				if req.Hold != nil && !req.Look && !req.Hold.Extend && s.model.known(nameOf(req)) != nil {
					req.Hold.ID += " again"
				}
			}
		}},
		{"fingerprints of requests are not looked at", func(s *modelStore) {
			s.before = func(req *store.Request) {
				if req.Hold != nil && !req.Look && s.model.known(nameOf(req)) != nil {
					req.Hold.Fingerprint = s.model.known(nameOf(req)).print
				}
			}
		}},
		{"a look takes", func(s *modelStore) {
			s.before = func(req *store.Request) {
				if slices.ContainsFunc(req.Checks, func(c store.Check) bool { return c.Unit == store.Concurrent }) {
					return
				}
				req.Look, req.Hold = false, nil
			}
		}},
		{"a hold without a slot counts among the slots", func(s *modelStore) {
			s.after = func(req *store.Request, ans *store.Answer) {
				if h := ans.Hold; h.Status == store.Active && !h.Repeat && len(s.model.holds[nameOf(req)].slots) == 0 {
					s.model.holds[nameOf(req)].slots = []store.Subject{req.Checks[0].Subject}
				}
			}
		}},
		{"only the first subject's money is taken", func(s *modelStore) {
			s.after = func(req *store.Request, ans *store.Answer) {
				last := req.Checks[len(req.Checks)-1]
				log := logName{last.Subject, store.USD}
				n := len(s.model.logs[log])
				if ans.Admitted && n > 0 && req.Checks[0].Subject != last.Subject && !req.Look {
					s.model.logs[log] = s.model.logs[log][:n-1]
				}
			}
		}},
		{"calendars are sliding windows", func(s *modelStore) {
			s.before = func(req *store.Request) {
				for i := range req.Checks {
					for j := range req.Checks[i].Limits {
						req.Checks[i].Limits[j].Calendar = nil
					}
				}
			}
		}},
		{"held counts what has expired", func(s *modelStore) {
			s.after = func(req *store.Request, ans *store.Answer) {
				for i, c := range req.Checks {
					for _, e := range s.model.logs[logName{c.Subject, c.Unit}] {
						if e.hold != nil && e.hold.status(s.model.now) == store.Expired {
							ans.Held[i] += e.hold.held(c.Unit)
						}
					}
				}
			}
		}},
		{"a use is one too many", func(s *modelStore) {
			s.after = func(_ *store.Request, ans *store.Answer) {
				for i := range ans.States {
					ans.States[i].Used++
				}
			}
		}},
		{"one slot more than the limit", func(s *modelStore) {
			s.before = func(req *store.Request) {
				for i := range req.Checks {
					if c := &req.Checks[i]; c.Unit == store.Concurrent {
						c.Limits[0].Max++
					}
				}
			}
		}},
	}
}

// leaseViolations are those of leases, extensions and lines.
func leaseViolations() []violation {
	held := func(change func(*modelStore, *store.Request)) func(*modelStore) {
		return func(s *modelStore) {
			s.before = func(req *store.Request) {
				if req.Hold != nil && !req.Look {
					change(s, req)
				}
			}
		}
	}
	return []violation{
		{"what should be charged on expiry is given back", held(func(_ *modelStore, req *store.Request) { req.Hold.ReleaseOnExpiry = true })},
		{"what should be given back on expiry is charged", held(func(_ *modelStore, req *store.Request) { req.Hold.ReleaseOnExpiry = false })},
		{"leases are a microsecond too long", held(func(_ *modelStore, req *store.Request) { req.Hold.Lease += micro })},
		{"slots are kept until they are settled", func(s *modelStore) {
			s.after = func(req *store.Request, ans *store.Answer) {
				next := 0
				for _, c := range req.Checks {
					for range c.Limits {
						for _, h := range s.model.holds {
							if c.Unit == store.Concurrent && h.status(s.model.now) == store.Expired && slices.Contains(h.slots, c.Subject) {
								ans.States[next].Used++
							}
						}
						next++
					}
				}
			}
		}},
		{"an extension takes without asking", held(func(_ *modelStore, req *store.Request) {
			for i := range req.Checks {
				for j := range req.Checks[i].Limits {
					if req.Hold.Extend {
						req.Checks[i].Limits[j].Max = store.MaxAmount
					}
				}
			}
		})},
		{"a denied extension renews nothing", func(s *modelStore) {
			expires := make(map[holdName]int64)
			s.after = func(req *store.Request, ans *store.Answer) {
				if req.Hold == nil || req.Look || ans.Hold.Status != store.Active {
					return
				}
				if h := s.model.holds[nameOf(req)]; ans.Admitted {
					expires[nameOf(req)] = h.expires
				} else if req.Hold.Extend {
					h.expires = expires[nameOf(req)]
					ans.Hold.Expires = h.expires
				}
			}
		}},
		{"an extension raises nothing", held(func(s *modelStore, req *store.Request) {
			if req.Hold.Extend {
				req.Hold.USD, req.Hold.Tokens = 0, 0
			}
		})},
		{"an expired hold is extended", held(func(s *modelStore, req *store.Request) {
			if h := s.model.known(nameOf(req)); h != nil && req.Hold.Extend && h.end == nil && h.expires <= s.model.now {
				h.expires = s.model.now + 1
			}
		})},
		{"there is no line", held(func(_ *modelStore, req *store.Request) { req.Hold.InLine = false })},
		{"the dead stay in line", held(func(s *modelStore, _ *store.Request) {
			for _, line := range s.model.lines {
				for _, w := range line {
					w.last = s.model.now
				}
			}
		})},
		{"the line is served from its end", held(func(s *modelStore, req *store.Request) {
			for _, line := range s.model.lines {
				if n := len(line); n > 1 && line[n-1].name == nameOf(req) {
					line[0], line[n-1] = line[n-1], line[0]
				}
			}
		})},
		{"whoever asks again comes to the end of the line", held(func(s *modelStore, req *store.Request) { s.model.leave(nameOf(req)) })},
		{"holds are forgotten an hour early", func(s *modelStore) {
			forget := func() {
				for id, h := range s.model.holds {
					if s.model.now >= h.forgotten()-us(hour) {
						delete(s.model.holds, id)
					}
				}
			}
			s.before = func(*store.Request) { forget() }
			s.ending = func(*store.Settlement) { forget() }
		}},
		{"holds are never forgotten", func(s *modelStore) {
			recall := func() {
				for _, h := range s.model.holds {
					if h.end != nil {
						h.end.Now = s.model.now
					}
				}
			}
			s.before = func(*store.Request) { recall() }
			s.ending = func(*store.Settlement) { recall() }
		}},
	}
}

// settleViolations are those of settlements and resets.
func settleViolations() []violation {
	after := func(change func(*modelStore, *store.Settlement, *store.Settled, error) error) func(*modelStore) {
		return func(s *modelStore) {
			s.settle = func(st *store.Settlement, out *store.Settled, err error) error { return change(s, st, out, err) }
		}
	}
	first := func(change func(*modelStore, *store.Settlement, *store.Settled)) func(*modelStore) {
		return after(func(s *modelStore, st *store.Settlement, out *store.Settled, err error) error {
			if err == nil && !out.Repeat {
				change(s, st, out)
			}
			return err
		})
	}
	return []violation{
		{"settlements are booked in the windows of their own time", first(func(s *modelStore, st *store.Settlement, _ *store.Settled) { s.move(s.of(st)) })},
		{"bookings of the past are booked now", first(func(s *modelStore, st *store.Settlement, out *store.Settled) {
			if out.Was == store.NoHold {
				s.move(s.of(st))
			}
		})},
		{"what is above the hold is lost", first(func(s *modelStore, st *store.Settlement, out *store.Settled) {
			if h := s.of(st); out.Was == store.Active {
				h.end.USD = min(h.end.USD, h.usd)
			}
		})},
		{"what is below the hold is not given back", first(func(s *modelStore, st *store.Settlement, out *store.Settled) {
			if h := s.of(st); out.Was == store.Active && !st.Release {
				h.end.USD = max(h.end.USD, h.usd)
			}
		})},
		{"what was expired stays as it was", first(func(s *modelStore, st *store.Settlement, out *store.Settled) {
			if h := s.of(st); out.Was == store.Expired {
				h.end.USD = h.usd
			}
		})},
		{"a release gives only slots back", first(func(s *modelStore, st *store.Settlement, _ *store.Settled) {
			if h := s.of(st); st.Release {
				h.end.USD, h.end.Tokens = h.usd, h.tokens
			}
		})},
		{"a repeated settlement is booked again", after(func(s *modelStore, st *store.Settlement, out *store.Settled, err error) error {
			if err == nil && out.Repeat {
				s.add(st)
			}
			return err
		})},
		{"a settlement without a hold is booked though nothing says where", after(
			func(s *modelStore, st *store.Settlement, _ *store.Settled, err error) error {
				if err != nil && st.Book == 0 {
					s.add(st)
				}
				return err
			})},
		{"fingerprints of settlements are not looked at", func(s *modelStore) {
			s.ending = func(st *store.Settlement) {
				if h := s.of(st); h != nil && h.end != nil {
					st.Fingerprint = h.endPrint
				}
			}
		}},
		{"memos are not kept", after(func(_ *modelStore, _ *store.Settlement, out *store.Settled, err error) error {
			out.Memo = nil
			return err
		})},
		{"Keep is not looked at", func(s *modelStore) { s.ending = func(st *store.Settlement) { st.Keep = false } }},
		{"who leaves the line stays in it", func(s *modelStore) {
			s.ending = func(st *store.Settlement) {
				if st.Book == 0 && s.of(st) == nil {
					st.ID = "nobody's"
				}
			}
		}},
		{"a waiter that goes ends the hold of its id", func(s *modelStore) { s.ending = func(st *store.Settlement) { st.Waiting = false } }},
		{"bookings do not count", first(func(s *modelStore, st *store.Settlement, out *store.Settled) {
			if out.Was == store.NoHold {
				s.of(st).end.USD = 0
			}
		})},
		{"a reset leaves holds", func(s *modelStore) {
			s.reset = func(subject store.Subject) {
				for log, entries := range s.model.logs {
					if log.subject == subject && subject != global {
						s.model.logs[log] = slices.DeleteFunc(entries, func(e *holdEntry) bool { return e.hold == nil })
					}
				}
			}
		}},
		{"a reset frees slots", func(s *modelStore) {
			s.reset = func(subject store.Subject) {
				s.model.reset(subject)
				for _, h := range s.model.holds {
					h.slots = slices.DeleteFunc(h.slots, func(of store.Subject) bool { return of == subject })
				}
			}
		}},
	}
}

// recorder is a test that may fail without failing.
type recorder struct {
	rapid.TB

	said string
}

func (r *recorder) Helper()                           {}
func (r *recorder) Logf(string, ...any)               {}
func (r *recorder) Log(...any)                        {}
func (r *recorder) Name() string                      { return "planted" }
func (r *recorder) Failed() bool                      { return r.said != "" }
func (r *recorder) Fail()                             { r.said += "failed" }
func (r *recorder) FailNow()                          { r.Fail(); runtime.Goexit() }
func (r *recorder) Errorf(format string, args ...any) { r.said += fmt.Sprintf(format, args...) }
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }

// fails runs a test and tells what it says when it fails; nothing if it passes.
func fails(run func(*recorder)) string {
	r, done := new(recorder), make(chan struct{})
	go func() {
		defer close(done)
		run(r)
	}()
	<-done
	return r.said
}

// allTales are the tales of the suite.
func allTales() []tale {
	return slices.Concat(reserveTales(), settleTales(), leaseTales(), extendTales(), bookTales(), lineTales(), calendarTales(), sharedTales())
}

// TestTalesFindViolations plants violations and shows that a tale fails by each.
func TestTalesFindViolations(t *testing.T) {
	for _, v := range slices.Concat(requestViolations(), leaseViolations(), settleViolations()) {
		t.Run(v.name, func(t *testing.T) {
			f := modelFixture(v.plant)
			found := 0
			for i, ta := range allTales() {
				if fails(func(r *recorder) { ta.tell(newStory(newCaller(r, f), i, ta.name)) }) != "" {
					found++
				}
			}
			if found == 0 {
				t.Errorf("no tale fails")
			}
		})
	}
}

// TestRandomHoldsFindViolations shows the same of the random runs.
func TestRandomHoldsFindViolations(t *testing.T) {
	for name, value := range map[string]string{"rapid.nofailfile": "true", "rapid.shrinktime": "0s"} {
		was := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, was) }) // it was valid before
	}
	if said := fails(func(r *recorder) { walkHolds(r, newCaller(r, modelFixture(nil))) }); said != "" {
		t.Fatalf("a store that keeps the contract fails: %s", said)
	}
	for _, v := range slices.Concat(requestViolations(), leaseViolations(), settleViolations()) {
		t.Run(v.name, func(t *testing.T) {
			const runs = 10 // of a hundred walks each
			for range runs {
				if fails(func(r *recorder) { walkHolds(r, newCaller(r, modelFixture(v.plant))) }) != "" {
					return
				}
			}
			t.Errorf("no random walk fails")
		})
	}
}

// TestLedgerFindsViolations shows that the books balance for the model, and for no store that loses or invents money.
func TestLedgerFindsViolations(t *testing.T) {
	const ops = 900
	forget := 0
	for _, tt := range []struct {
		name  string
		plant func(*modelStore)
		want  string // of a finding; "" for no finding
	}{
		{"a store that keeps the contract", nil, ""},
		{"one settlement is forgotten", func(s *modelStore) {
			forget = 0
			s.settle = func(st *store.Settlement, out *store.Settled, err error) error {
				if forget++; err == nil && forget > 50 && out.Was == store.Active && !out.Repeat && out.USD != out.HeldUSD {
					s.of(st).end.USD, forget = out.HeldUSD, -ops*10
				}
				return err
			}
		}, "the ledger says"},
		{"a nano-dollar is lost", func(s *modelStore) {
			s.settle = func(st *store.Settlement, out *store.Settled, err error) error {
				if err == nil && !out.Repeat && out.USD > 0 && st.USD%50 == 0 {
					s.of(st).end.USD--
				}
				return err
			}
		}, "the ledger says"},
		{"admitted above the limit", func(s *modelStore) {
			s.before = func(req *store.Request) {
				for i := range req.Checks {
					for j := range req.Checks[i].Limits {
						req.Checks[i].Limits[j].Max += req.Checks[i].Limits[j].Max / 2
					}
				}
			}
		}, "admitted by"},
		{"a repeat is booked twice", violationOf("a repeated settlement is booked again"), "the ledger says"},
		{"a repeat is told as the first", func(s *modelStore) {
			s.settle = func(_ *store.Settlement, out *store.Settled, err error) error {
				out.Repeat = false
				return err
			}
		}, "settled 2 times"},
		{"expiry gives everything back", violationOf("what should be charged on expiry is given back"), "the ledger says"},
		{"a repeated request takes again", violationOf("a repeat takes again"), "admitted 2 times"},
		{"slots are kept until they are settled", violationOf("slots are kept until they are settled"), "concurrent"},
		{"a hold is lost", func(s *modelStore) {
			s.ending = func(st *store.Settlement) {
				if st.USD%20 == 0 {
					delete(s.model.holds, holdName{st.Parts[0].Subject, st.ID})
				}
			}
		}, "no such hold"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(2) {
				wantFinding(t, seed, "the ledger", newLedgerRun(modelFixture(tt.plant), seed, ops).run(), tt.want)
			}
		})
	}
}

// violationOf is the violation of a name.
func violationOf(name string) func(*modelStore) {
	for _, v := range slices.Concat(requestViolations(), leaseViolations(), settleViolations()) {
		if v.name == name {
			return v.plant
		}
	}
	return func(*modelStore) {}
}

// TestLinearFindsViolations shows that the check of the order of calls finds a store that forgets one settlement, one that
// admits one call too many, and one that decides on what has changed meanwhile.
func TestLinearFindsViolations(t *testing.T) {
	for _, tt := range []struct {
		name  string
		plant func(*modelStore)
		want  porcupine.CheckResult
	}{
		{"a store that keeps the contract", nil, porcupine.Ok},
		{"one settlement is forgotten", func(s *modelStore) {
			left := 1
			s.settle = func(st *store.Settlement, out *store.Settled, err error) error {
				if h := s.of(st); err == nil && left > 0 && out.USD != h.usd && !out.Repeat {
					left--
					h.end = nil
				}
				return err
			}
		}, porcupine.Illegal},
		{"one call too many is admitted", func(s *modelStore) {
			denied := 0
			s.before = func(req *store.Request) {
				if req.Look || !s.model.admitsNot(req) {
					return
				}
				if denied++; denied == 5 {
					req.Checks[0].Limits[0].Max *= 2
					req.Checks[1].Limits[0].Max *= 2
				}
			}
		}, porcupine.Illegal},
		{"a settlement is booked twice", violationOf("a repeated settlement is booked again"), porcupine.Illegal},
		{"a slot is not freed", func(s *modelStore) {
			left := 1
			s.settle = func(st *store.Settlement, out *store.Settled, err error) error {
				if err == nil && left > 0 && !out.Repeat {
					left--
					s.model.holds[holdName{st.Parts[0].Subject, "stuck"}] = &modelHold{
						at: s.model.now, expires: s.model.now + us(hour), slots: []store.Subject{st.Parts[0].Subject},
					}
				}
				return err
			}
		}, porcupine.Illegal},
		{"a use of a moment ago", func(s *modelStore) {
			var used int64
			s.after = func(_ *store.Request, ans *store.Answer) { used, ans.States[0].Used = ans.States[0].Used, used }
		}, porcupine.Illegal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(3) {
				history, err := linearRun(modelFixture(tt.plant), seed, 0)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if got := porcupine.CheckOperationsTimeout(linearModel(), history, linearLong); got != tt.want {
					t.Errorf("seed %d: the check says %s, want %s", seed, got, tt.want)
				}
			}
		})
	}
}

// admitsNot tells whether a request with a hold that is not known would be denied.
func (m *holdModel) admitsNot(req *store.Request) bool {
	return m.known(nameOf(req)) == nil && !m.look(req.Checks, nameOf(req), nil).Admitted
}

// TestMoneyFloodFindsViolations shows that the floods of money find a sum that is not exact, and windows that err by more
// than they may, or towards admitting.
func TestMoneyFloodFindsViolations(t *testing.T) {
	edit := func(change func(*store.State, int64)) func(*modelStore) {
		return func(s *modelStore) {
			calls := int64(0)
			s.after = func(_ *store.Request, ans *store.Answer) {
				calls++
				change(&ans.States[0], calls)
			}
		}
	}
	for _, tt := range []struct {
		name  string
		plant func(*modelStore)
		want  string
	}{
		{"a store that keeps the contract", nil, ""},
		{"a nano-dollar too little", edit(func(st *store.State, calls int64) {
			if calls > 100 {
				st.Used--
			}
		}), "is used"},
		{"a nano-dollar too much", edit(func(st *store.State, calls int64) {
			if calls > 100 {
				st.Used++
			}
		}), "is used"},
		{"a release that gives nothing back", violationOf("a release gives only slots back"), "is used"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(2) {
				said := fails(func(r *recorder) {
					s := newStory(newCaller(r, modelFixture(tt.plant)), 0, tt.name)
					w := &moneyFlood{story: s, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), limits: []store.Limit{lim(store.MaxAmount, hour)}}
					w.flood(200, time.Second)
				})
				if (tt.want == "") != (said == "") || !strings.Contains(said, tt.want) {
					t.Errorf("seed %d: %q, want %q", seed, said, tt.want)
				}
			}
		})
	}
}
