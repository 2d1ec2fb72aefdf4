package storetest

import (
	"strings"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// reserveTales are the promises of taking a hold.
func reserveTales() []tale {
	return []tale{
		{"a hold takes all of its units at once", func(s *story) {
			s.ask("a", hit(s.user, 1, lim(5, mins)), tokens(s.user, 700, lim(1000, mins)), money(s.user, 60, lim(100, day)), slot(s.user, 2)).
				admitted(st(1, mins, 0), st(700, mins, 0), st(60, day, 0), st(1, 30*sec, 0)).
				held(0, 700, 60, 0).hold(store.Active, 0, 30*sec, 60, 700)
		}},
		{"what is held counts as used", func(s *story) {
			s.ask("a", money(s.user, 60, lim(100, day))).admitted(st(60, day, 0)).held(60)
			s.at(sec)
			s.ask("b", money(s.user, 41, lim(100, day))).denied(st(60, day-sec, day-sec)).held(60).unqueued()
			s.ask("c", money(s.user, 40, lim(100, day))).admitted(st(100, day-sec, 0)).held(100)
			s.ask("d", money(s.user, 0, lim(100, day))).denied(st(100, day-sec, day-sec))
		}},
		{"an amount above the limit never fits", func(s *story) {
			s.ask("a", money(s.user, 101, lim(100, day))).denied(st(0, 0, store.Never))
			s.ask("a", slot(s.user, 0)).denied(st(0, 0, store.Never)).unqueued()
		}},
		{"tokens and money without a hold are spent at once", func(s *story) {
			s.ask("", tokens(s.user, 7, lim(10, mins)), money(s.user, 60, lim(100, day))).
				admitted(st(7, mins, 0), st(60, day, 0)).held(0, 0).unqueued()
		}},
		{"a denial by any unit of any subject takes nothing anywhere", deniedTakesNothing},
		{"a denied request leaves no hold behind", func(s *story) {
			s.ask("a", money(s.user, 11, lim(10, day))).denied()
			s.settle("a", 1, 0).fails(store.ErrNoHold)
			s.extend("a", money(s.user, 1, lim(10, day))).fails(store.ErrNoHold)
			s.release("a").fails(store.ErrNoHold)
			s.ask("a", money(s.user, 10, lim(10, day))).print(9).admitted(st(10, day, 0)).held(10)
		}},
		{"a look answers as the decision would come out and takes nothing", func(s *story) {
			all := call(hit(s.user, 1, lim(1, mins)), tokens(s.user, 5, lim(5, mins)), money(s.user, 60, lim(100, day)), slot(s.user, 1))
			s.look(all...).admitted(st(0, 0, 0), st(0, 0, 0), st(0, 0, 0), st(0, 0, 0)).held(0, 0, 0, 0).unqueued()
			s.ask("a", all...).admitted(st(1, mins, 0), st(5, mins, 0), st(60, day, 0), st(1, 30*sec, 0))
			s.at(sec)
			s.look(all...).denied(st(1, 59*sec, 59*sec), st(5, 59*sec, 59*sec), st(60, day-sec, day-sec), st(1, 29*sec, 29*sec)).
				held(0, 5, 60, 0)
			s.look(money(s.user, 40, lim(100, day))).admitted(st(60, day-sec, 0))
		}},
		{"a look ignores the hold that it names", func(s *story) {
			s.ask("a", money(s.user, 60, lim(100, day))).admitted()
			again := s.ask("a", money(s.user, 40, lim(100, day))).print(5)
			again.req.Look = true
			again.admitted(st(60, day, 0)).held(60).unqueued()
			again.req.Hold.ID, again.req.Hold.InLine = "b", true
			again.req.Checks = call(slot(s.user, 0))
			again.denied(st(0, 0, store.Never)).unqueued()
		}},
		{"a repeat takes nothing and tells what the id stands for", func(s *story) {
			all := call(hit(s.user, 1, lim(9, mins)), money(s.user, 60, lim(100, day)), slot(s.user, 2))
			s.ask("a", all...).admitted(st(1, mins, 0), st(60, day, 0), st(1, 30*sec, 0))
			s.at(sec)
			for range 3 {
				s.ask("a", all...).repeats(store.Active).uses(1, 60, 1).held(0, 60, 0).hold(store.Active, 0, 30*sec, 60, 0)
			}
			s.settle("a", 40, 0).gives(ended{was: store.Active, heldUSD: 60, usd: 40})
			s.ask("a", all...).repeats(store.Closed).uses(1, 40, 0).held(0, 0, 0)
			s.ask("b", all...).admitted().uses(2, 100, 1)
			s.release("b").gives(ended{was: store.Active, status: store.Released, at: sec, heldUSD: 60})
			s.ask("b", all...).repeats(store.Released).uses(2, 40, 0)
			s.ask("c", all...).admitted()
			s.at(31 * sec)
			s.ask("c", all...).repeats(store.Expired).uses(3, 100, 0)
		}},
		{"a repeat that would be denied is a repeat all the same", func(s *story) {
			s.ask("a", money(s.user, 60, lim(100, day)), slot(s.user, 1)).admitted()
			s.ask("a", money(s.user, 60, lim(100, day)), slot(s.user, 1)).repeats(store.Active).uses(60, 1)
			s.ask("a", money(s.user, 60, lim(50, day)), slot(s.user, 1)).inLine().repeats(store.Active).uses(60, 1)
		}},
		{"the same id with another fingerprint is an error and takes nothing", func(s *story) {
			s.ask("a", money(s.user, 60, lim(100, day))).admitted()
			s.ask("a", money(s.user, 30, lim(100, day))).print(7).fails(store.ErrMismatch)
			s.settle("a", 10, 0).gives(ended{was: store.Active, heldUSD: 60, usd: 10})
			s.ask("a", money(s.user, 30, lim(100, day))).print(7).fails(store.ErrMismatch)
			s.look(money(s.user, 0, lim(100, day))).admitted(st(10, day, 0)).held(0)
		}},
		{"ids are those of the first subject", func(s *story) {
			s.ask("a", money(s.user, 6, lim(10, day)), money(s.org, 6, lim(100, day))).admitted(st(6, day, 0), st(6, day, 0))
			s.parts = map[string][]store.Part{}
			s.ask("a", money(s.other, 5, lim(10, day)), money(s.org, 5, lim(100, day))).print(4).admitted(st(5, day, 0), st(11, day, 0))
			s.settle("a", 1, 0).gives(ended{was: store.Active, heldUSD: 5, usd: 1})
			s.look(money(s.user, 0, lim(10, day)), money(s.org, 0, lim(100, day))).admitted(st(6, day, 0), st(7, day, 0)).held(6, 6)
		}},
		{"several subjects hold what they have limits on", func(s *story) {
			s.ask("a", tokens(s.user, 50, lim(100, mins)), money(s.org, 8, lim(10, day)), slot(s.org, 1), hit(global, 1, lim(9, sec)), slot(global, 2)).
				admitted(st(50, mins, 0), st(8, day, 0), st(1, 30*sec, 0), st(1, sec, 0), st(1, 30*sec, 0)).held(50, 8, 0, 0, 0)
			s.ask("b", tokens(s.other, 50, lim(100, mins)), slot(global, 2)).admitted(st(50, mins, 0), st(2, 30*sec, 0))
			s.settle("a", 9, 60).gives(ended{was: store.Active, heldUSD: 8, heldTokens: 50, usd: 9, tokens: 60})
			s.look(tokens(s.user, 0, lim(100, mins)), money(s.org, 0, lim(10, day)), slot(s.org, 1), slot(global, 2)).
				admitted(st(60, mins, 0), st(9, day, 0), st(0, 0, 0), st(1, 30*sec, 0)).held(0, 0, 0, 0)
		}},
		{"a hold may be of slots alone, of money alone, of nothing but a request", func(s *story) {
			s.ask("slot", slot(s.user, 1)).admitted(st(1, 30*sec, 0)).hold(store.Active, 0, 30*sec, 0, 0)
			s.ask("money", money(s.other, 7, lim(9, day))).admitted(st(7, day, 0)).hold(store.Active, 0, 30*sec, 7, 0)
			s.ask("request", hit(s.org, 1, lim(9, day))).admitted(st(1, day, 0)).hold(store.Active, 0, 30*sec, 0, 0)
			s.ask("request", hit(s.org, 1, lim(9, day))).repeats(store.Active).uses(1)
			s.settle("slot", 0, 0).gives(ended{was: store.Active})
			s.settle("request", 0, 0).gives(ended{was: store.Active})
			s.look(slot(s.user, 1), hit(s.org, 0, lim(9, day))).admitted(st(0, 0, 0), st(1, day, 0))
		}},
		{"a hold of nothing yet is settled at its admission", func(s *story) {
			s.ask("a", money(s.user, 0, lim(10, mins)), slot(s.user, 1)).admitted(st(0, 0, 0), st(1, 30*sec, 0)).held(0, 0)
			s.at(20 * sec)
			s.settle("a", 8, 0).gives(ended{was: store.Active, usd: 8})
			s.look(money(s.user, 3, lim(10, mins))).denied(st(8, 40*sec, 40*sec))
			s.at(mins)
			s.look(money(s.user, 3, lim(10, mins))).admitted(st(0, 0, 0))
		}},
		{"a hold without a slot does not count among the slots", func(s *story) {
			s.ask("a", money(s.user, 1, lim(9, day))).admitted()
			s.ask("b", slot(s.user, 1), money(s.user, 1, lim(9, day))).admitted(st(1, 30*sec, 0), st(2, day, 0))
			s.ask("c", money(s.user, 1, lim(9, day))).admitted(st(3, day, 0))
			s.ask("d", slot(s.user, 1)).denied(st(1, 30*sec, 30*sec)).unqueued()
		}},
		{"a shadow limit denies nothing of a hold", func(s *story) {
			s.ask("a", money(s.user, 60, shadow(50, day), lim(100, 7*day))).admitted(st(60, day, store.Never), st(60, 7*day, 0))
			s.ask("b", money(s.user, 30, shadow(100, day)), spend(store.Concurrent, s.user, 1, store.Limit{Max: 1, Shadow: true})).
				admitted(st(90, day, 0), st(1, 30*sec, 0))
			s.ask("c", spend(store.Concurrent, s.user, 1, store.Limit{Max: 1, Shadow: true})).admitted(st(2, 30*sec, 30*sec))
		}},
		{"a stale override decides nothing of a hold", func(s *story) {
			version := s.override(s.user, "plan: gold")
			ask := s.ask("a", money(s.user, 6, lim(10, day)), slot(s.user, 1))
			if err := s.decide(ask.req); err != nil || len(s.ans.Stale) != 2 || s.ans.Hold.Status != store.NoHold {
				s.t.Fatalf("%s: %+v, %v, want both checks stale and no hold", ask, s.ans, err)
			}
			s.settle("a", 1, 0).fails(store.ErrNoHold)
			s.ask("a", under(version, money(s.user, 6, lim(10, day))), under(version, slot(s.user, 1))).
				admitted(st(6, day, 0), st(1, 30*sec, 0))
		}},
		{"the longest id, of any bytes", func(s *story) {
			ids := []string{
				strings.Repeat("\xff", store.MaxHoldID), strings.Repeat("\x00", store.MaxHoldID), strings.Repeat("\x00", store.MaxHoldID-1),
				"\x00", "\x00\x00", "{", "}", "{a}", ":", "*", "\r\n", "a", "a ", "A", "0", "00", "-1", "1e3", "\xc3\x28", "💰", "nil",
				strings.Repeat("x", store.MaxHoldID), strings.Repeat("x", store.MaxHoldID-1) + "y", strings.Repeat("x", store.MaxHoldID-1),
			}
			for i, id := range ids {
				s.ask(id, money(s.user, 1, lim(1000, day)), slot(s.user, 1000)).admitted().uses(int64(i)+1, int64(i)+1)
			}
			for i, id := range ids {
				s.settle(id, int64(i)+100, 0).gives(ended{was: store.Active, heldUSD: 1, usd: int64(i) + 100})
			}
			for i, id := range ids {
				s.settle(id, int64(i)+100, 0).gives(ended{was: store.Active, heldUSD: 1, usd: int64(i) + 100, repeat: true})
			}
		}},
	}
}

// deniedTakesNothing has each check of a request deny it in turn.
func deniedTakesNothing(s *story) {
	all := call(
		hit(s.user, 1, lim(10, mins)), tokens(s.user, 1, lim(10, mins)), money(s.user, 1, lim(10, day)), slot(s.user, 10),
		hit(s.org, 1, lim(10, mins)), money(s.org, 1, lim(10, day)),
		hit(global, 1, lim(10, mins)), tokens(global, 1, lim(10, mins)), money(global, 1, lim(10, day)), slot(global, 10),
	)
	s.ask("before", all...).admitted().uses(1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
	for i := range all {
		checks := append([]store.Check(nil), all...)
		full := checks[i].Limits[0]
		full.Max = 1
		checks[i].Limits = []store.Limit{full}
		s.at(time.Duration(i+1) * time.Millisecond)
		s.ask("denied", checks...).denied().uses(1, 1, 1, 1, 1, 1, 1, 1, 1, 1).held(0, 1, 1, 0, 0, 1, 0, 1, 1, 0).unqueued()
		s.look(all...).admitted().uses(1, 1, 1, 1, 1, 1, 1, 1, 1, 1).held(0, 1, 1, 0, 0, 1, 0, 1, 1, 0)
	}
	s.settle("denied", 1, 1).fails(store.ErrNoHold)
}

// settleTales are the promises of ending a hold.
func settleTales() []tale {
	ten := lim(100, day)
	return []tale{
		{"a settlement below the hold frees the rest", func(s *story) {
			s.ask("a", tokens(s.user, 9, lim(10, mins)), money(s.user, 60, ten), slot(s.user, 1)).admitted()
			s.at(sec)
			s.settle("a", 40, 2).gives(ended{was: store.Active, heldUSD: 60, heldTokens: 9, usd: 40, tokens: 2})
			s.look(tokens(s.user, 8, lim(10, mins)), money(s.user, 60, ten), slot(s.user, 1)).
				admitted(st(2, 59*sec, 0), st(40, day-sec, 0), st(0, 0, 0)).held(0, 0, 0)
		}},
		{"a settlement above the hold is booked, past the limit too", func(s *story) {
			s.ask("a", money(s.user, 60, ten)).admitted()
			s.at(sec)
			s.settle("a", 130, 0).gives(ended{was: store.Active, heldUSD: 60, usd: 130})
			s.look(money(s.user, 1, ten)).denied(st(130, day-sec, day-sec)).held(0)
			s.at(day - micro)
			s.look(money(s.user, 1, ten)).denied(st(130, micro, micro))
			s.at(day)
			s.look(money(s.user, 1, ten)).admitted(st(0, 0, 0))
		}},
		{"a settlement at the hold, and at nothing", func(s *story) {
			s.ask("a", money(s.user, 60, ten)).admitted()
			s.at(sec)
			s.ask("b", money(s.user, 40, ten)).admitted(st(100, day-sec, 0)).held(100)
			s.settle("b", 40, 0).gives(ended{was: store.Active, at: sec, heldUSD: 40, usd: 40})
			s.look(money(s.user, 0, ten)).denied(st(100, day-sec, day-sec)).held(60)
			s.settle("a", 0, 0).gives(ended{was: store.Active, heldUSD: 60})
			s.look(money(s.user, 0, ten)).admitted(st(40, day, 0)).held(0) // the oldest that counts is b's
		}},
		{"a settlement keeps what is held if it says so", func(s *story) {
			s.ask("a", tokens(s.user, 3, lim(10, mins)), money(s.user, 60, ten)).admitted()
			s.settle("a", 7, 7).keep().gives(ended{was: store.Active, heldUSD: 60, heldTokens: 3, usd: 60, tokens: 3})
			s.look(tokens(s.user, 0, lim(10, mins)), money(s.user, 0, ten)).admitted(st(3, mins, 0), st(60, day, 0)).held(0, 0)
		}},
		{"a release gives all back but the request", func(s *story) {
			s.ask("a", hit(s.user, 1, lim(5, mins)), tokens(s.user, 3, lim(10, mins)), money(s.user, 60, ten), slot(s.user, 1)).admitted()
			s.release("a").gives(ended{was: store.Active, status: store.Released, heldUSD: 60, heldTokens: 3})
			s.look(hit(s.user, 1, lim(5, mins)), tokens(s.user, 3, lim(10, mins)), money(s.user, 60, ten), slot(s.user, 1)).
				admitted(st(1, mins, 0), st(0, 0, 0), st(0, 0, 0), st(0, 0, 0)).held(0, 0, 0, 0)
		}},
		{"a release ignores amounts, and Keep", func(s *story) {
			s.ask("a", money(s.user, 60, ten)).admitted()
			end := s.release("a").keep()
			end.st.USD, end.st.Book = 50, s.start
			end.gives(ended{was: store.Active, status: store.Released, heldUSD: 60})
			s.look(money(s.user, 0, ten)).admitted(st(0, 0, 0))
		}},
		{"a repeat is answered as the first and changes nothing", func(s *story) {
			s.ask("a", money(s.user, 60, ten), slot(s.user, 1)).admitted()
			s.settle("a", 40, 0).gives(ended{was: store.Active, heldUSD: 60, usd: 40})
			s.ask("b", money(s.user, 60, ten), slot(s.user, 1)).admitted(st(100, day, 0), st(1, 30*sec, 0))
			s.at(sec)
			for range 3 {
				s.settle("a", 40, 0).gives(ended{was: store.Active, heldUSD: 60, usd: 40, repeat: true})
			}
			s.look(money(s.user, 0, ten), slot(s.user, 1)).denied().uses(100, 1).held(60, 0)
			s.release("b").gives(ended{was: store.Active, status: store.Released, heldUSD: 60})
			s.release("b").gives(ended{was: store.Active, status: store.Released, heldUSD: 60, repeat: true})
			s.look(money(s.user, 0, ten), slot(s.user, 1)).admitted(st(40, day-sec, 0), st(0, 0, 0))
		}},
		{"a settlement with another fingerprint is an error and changes nothing", func(s *story) {
			s.ask("a", money(s.user, 60, ten)).admitted()
			s.settle("a", 40, 0).gives(ended{was: store.Active, heldUSD: 60, usd: 40})
			s.settle("a", 50, 0).print(8).fails(store.ErrMismatch)
			s.release("a").fails(store.ErrMismatch)
			s.look(money(s.user, 0, ten)).admitted(st(40, day, 0))
			s.ask("b", money(s.user, 60, ten)).admitted()
			s.release("b").gives(ended{was: store.Active, status: store.Released, heldUSD: 60})
			s.settle("b", 40, 0).fails(store.ErrMismatch)
			s.release("b").print(9).fails(store.ErrMismatch)
			s.look(money(s.user, 0, ten)).admitted(st(40, day, 0)).held(0)
		}},
		{"the memo of the first settlement is given to repeats", func(s *story) {
			long := strings.Repeat("\x00\xff", store.MaxMemo)[:store.MaxMemo]
			for id, memo := range map[string]string{"none": "", "short": "m", "long": long} {
				s.ask(id, money(s.user, 1, ten)).admitted()
				s.settle(id, 1, 0).memo(memo).gives(ended{was: store.Active, heldUSD: 1, usd: 1})
				s.settle(id, 1, 0).memo("another").recalls(memo)
			}
			s.ask("released", money(s.user, 1, ten)).admitted()
			s.release("released").memo("r").gives(ended{was: store.Active, status: store.Released, heldUSD: 1})
			s.release("released").recalls("r")
			part := store.Part{Subject: s.user, USD: day}
			s.book("booked", 0, 5, 0, part).memo("b").gives(ended{usd: 5})
			s.book("booked", 0, 5, 0, part).recalls("b")
		}},
		{"a hold that nobody knows cannot be settled", func(s *story) {
			s.parts["a"] = []store.Part{{Subject: s.user, USD: day}}
			s.settle("a", 5, 0).fails(store.ErrNoHold)
			s.settle("a", 5, 0).keep().fails(store.ErrNoHold)
			s.release("a").fails(store.ErrNoHold)
			end := s.release("a")
			end.st.Book = s.start
			end.fails(store.ErrNoHold)
			s.look(money(s.user, 0, ten)).admitted(st(0, 0, 0))
			s.ask("a", money(s.user, 5, ten)).admitted(st(5, day, 0)).held(5)
		}},
		{"a settlement frees the slots of all subjects", func(s *story) {
			s.ask("a", slot(s.user, 1), slot(s.org, 1), slot(global, 1)).admitted(st(1, 30*sec, 0), st(1, 30*sec, 0), st(1, 30*sec, 0))
			s.ask("b", slot(s.other, 1), slot(global, 1)).denied(st(0, 0, 0), st(1, 30*sec, 30*sec))
			s.settle("a", 0, 0).gives(ended{was: store.Active})
			s.look(slot(s.user, 1), slot(s.org, 1), slot(global, 1)).admitted(st(0, 0, 0), st(0, 0, 0), st(0, 0, 0))
		}},
		{"a reset in the middle forgets the money of a hold, not its slot", func(s *story) {
			checks := call(money(s.user, 60, ten), slot(s.user, 1), money(s.org, 60, ten))
			s.ask("a", checks...).admitted()
			s.at(sec)
			s.reset(s.user)
			s.look(checks...).denied(st(0, 0, 0), st(1, 29*sec, 29*sec), st(60, day-sec, day-sec)).held(0, 0, 60)
			s.ask("b", money(s.user, 10, ten)).admitted(st(10, day, 0)).held(10)
			s.at(2 * sec)
			s.settle("a", 70, 0).gives(ended{was: store.Active, heldUSD: 60, usd: 70})
			s.look(money(s.user, 60, ten), slot(s.user, 1), money(s.org, 0, ten)).admitted(st(10, day-sec, 0), st(0, 0, 0), st(70, day-2*sec, 0)).held(10, 0, 0)
			s.settle("a", 70, 0).gives(ended{was: store.Active, heldUSD: 60, usd: 70, repeat: true})
			s.settle("b", 4, 0).gives(ended{was: store.Active, at: sec, heldUSD: 10, usd: 4})
			s.look(money(s.user, 0, ten)).admitted(st(4, day-sec, 0)).held(0)
		}},
		{"a reset of another subject than the first", func(s *story) {
			checks := call(money(s.user, 60, ten), money(s.org, 60, ten), slot(s.org, 1))
			s.ask("a", checks...).admitted()
			s.at(sec)
			s.reset(s.org)
			s.look(checks...).denied().uses(60, 0, 1).held(60, 0, 0)
			s.settle("a", 70, 0).gives(ended{was: store.Active, heldUSD: 60, usd: 70})
			s.look(money(s.user, 1, ten), money(s.org, 60, ten), slot(s.org, 1)).admitted().uses(70, 0, 0).held(0, 0, 0)
		}},
		{"the slots of a hold outlive a reset until its lease ends", func(s *story) {
			s.ask("a", money(s.user, 60, ten), slot(s.user, 1)).admitted()
			s.reset(s.user)
			s.at(30*sec - micro)
			s.look(slot(s.user, 1)).denied(st(1, micro, micro))
			s.at(30 * sec)
			s.look(slot(s.user, 1), money(s.user, 0, ten)).admitted(st(0, 0, 0), st(0, 0, 0)).held(0, 0)
		}},
	}
}
