package storetest

import (
	"fmt"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// leaseTales are the promises of leases: what ends without anybody's help.
func leaseTales() []tale {
	ten := lim(100, day)
	return []tale{
		{"a slot is free at the end of the lease, and not a microsecond before", func(s *story) {
			s.ask("a", slot(s.user, 1), slot(global, 1)).lease(store.MinLease).admitted(st(1, sec, 0), st(1, sec, 0))
			s.at(sec - micro)
			s.ask("b", slot(s.user, 1), slot(global, 1)).denied(st(1, micro, micro), st(1, micro, micro))
			s.ask("b", slot(global, 1)).denied(st(1, micro, micro))
			s.at(sec)
			s.look(slot(s.user, 1), slot(global, 1)).admitted(st(0, 0, 0), st(0, 0, 0))
			s.ask("b", slot(s.user, 1), slot(global, 1)).lease(store.MaxLease).admitted(st(1, hour, 0), st(1, hour, 0))
			s.at(sec + hour - micro)
			s.look(slot(global, 1)).denied(st(1, micro, micro))
			s.at(sec + hour)
			s.look(slot(global, 1)).admitted(st(0, 0, 0))
		}},
		{"the wait for a slot is for as many leases as must end", func(s *story) {
			for id, lease := range map[string]time.Duration{"long": 50 * sec, "short": 10 * sec, "middle": 20 * sec} {
				s.ask(id, slot(s.user, 3)).lease(lease).admitted()
			}
			s.at(sec)
			s.look(slot(s.user, 3)).denied(st(3, 9*sec, 9*sec))
			s.look(slot(s.user, 2)).denied(st(3, 9*sec, 19*sec))
			s.look(slot(s.user, 1)).denied(st(3, 9*sec, 49*sec))
			s.settle("middle", 0, 0).gives(ended{was: store.Active})
			s.look(slot(s.user, 2)).denied(st(2, 9*sec, 9*sec))
			s.at(10 * sec)
			s.ask("next", slot(s.user, 2)).admitted(st(2, 30*sec, 0))
		}},
		{"the money of a lease that is over counts as spent", func(s *story) {
			s.ask("a", tokens(s.user, 5, lim(9, mins)), money(s.user, 60, ten), slot(s.user, 1)).admitted()
			s.at(30*sec - micro)
			s.look(tokens(s.user, 0, lim(9, mins)), money(s.user, 0, ten), slot(s.user, 2)).admitted().uses(5, 60, 1).held(5, 60, 0)
			s.at(30 * sec)
			s.look(tokens(s.user, 5, lim(9, mins)), money(s.user, 41, ten), slot(s.user, 1)).
				denied(st(5, 30*sec, 30*sec), st(60, day-30*sec, day-30*sec), st(0, 0, 0)).held(0, 0, 0)
			s.at(mins)
			s.look(tokens(s.user, 5, lim(9, mins)), money(s.user, 40, ten)).admitted(st(0, 0, 0), st(60, day-mins, 0))
		}},
		{"or is given back, if the hold says so", func(s *story) {
			checks := call(tokens(s.user, 5, lim(9, mins)), money(s.user, 60, ten), slot(s.user, 1), money(s.org, 60, ten))
			s.ask("a", checks...).givesBack().admitted()
			s.at(30*sec - micro)
			s.look(checks...).denied().uses(5, 60, 1, 60).held(5, 60, 0, 60)
			s.at(30 * sec)
			s.look(checks...).admitted(st(0, 0, 0), st(0, 0, 0), st(0, 0, 0), st(0, 0, 0)).held(0, 0, 0, 0)
		}},
		{"another subject of the hold sees it end without the first", func(s *story) {
			s.ask("a", money(s.user, 60, ten), money(s.org, 60, ten), slot(s.org, 1)).givesBack().admitted()
			s.ask("b", money(s.other, 30, ten), money(s.org, 30, ten)).admitted().uses(30, 90)
			s.at(30*sec - micro)
			s.ask("c", money(s.org, 20, ten), slot(s.org, 1)).denied().uses(90, 1).held(90, 0)
			s.at(30 * sec)
			s.ask("c", money(s.org, 70, ten), slot(s.org, 1)).admitted().uses(100, 1).held(70, 0)
		}},
		{"a hold that outlives its window is held to its end, and no longer", func(s *story) {
			short := lim(1000, 10*sec)
			s.ask("a", tokens(s.user, 500, short)).lease(mins).admitted().held(500)
			for n := range 24 { // what has left the window is dropped
				s.at(time.Duration(n) * 2 * sec)
				id := fmt.Sprint("b", n)
				s.ask(id, tokens(s.user, 10, short)).admitted()
				s.settle(id, 0, 10).gives(ended{was: store.Active, at: time.Duration(n) * 2 * sec, heldTokens: 10, tokens: 10})
			}
			s.look(tokens(s.user, 0, short)).admitted().held(500)
			s.settle("a", 0, 400).gives(ended{was: store.Active, heldTokens: 500, tokens: 400})
			s.look(tokens(s.user, 0, short)).admitted().uses(50).held(0)
		}},
		{"a lease renewed in time keeps all, one that was not, nothing", func(s *story) {
			s.ask("a", money(s.user, 60, ten), slot(s.user, 1)).givesBack().admitted()
			for n := range 5 {
				s.at(time.Duration(n) * 29 * sec)
				s.extend("a", money(s.user, 60, ten), named(s.org)).admitted().held(60, 0)
			}
			s.at(4*29*sec + 30*sec - micro)
			s.look(money(s.user, 0, ten), slot(s.user, 2)).admitted().uses(60, 1).held(60, 0)
			s.at(4*29*sec + 30*sec)
			s.look(money(s.user, 0, ten), slot(s.user, 1)).admitted(st(0, 0, 0), st(0, 0, 0)).held(0, 0)
			s.extend("a", money(s.user, 60, ten)).admitted().uses(0).hold(store.Expired, 0, 4*29*sec+30*sec, 60, 0)
			s.look(money(s.user, 0, ten), slot(s.user, 1)).admitted(st(0, 0, 0), st(0, 0, 0))
		}},
		{"a settlement after the lease is booked in the place of what was charged", func(s *story) {
			s.ask("more", money(s.user, 10, ten)).admitted()
			s.ask("less", money(s.user, 20, ten)).admitted()
			s.ask("kept", money(s.user, 5, ten)).admitted()
			s.ask("freed", money(s.user, 5, ten)).admitted()
			s.at(hour)
			s.look(money(s.user, 0, ten)).admitted().uses(40)
			s.settle("more", 15, 0).gives(ended{was: store.Expired, heldUSD: 10, usd: 15})
			s.look(money(s.user, 0, ten)).admitted().uses(45)
			s.settle("less", 1, 0).gives(ended{was: store.Expired, heldUSD: 20, usd: 1})
			s.look(money(s.user, 0, ten)).admitted().uses(26)
			s.settle("kept", 0, 0).keep().gives(ended{was: store.Expired, heldUSD: 5, usd: 5})
			s.release("freed").gives(ended{was: store.Expired, status: store.Released, heldUSD: 5})
			s.look(money(s.user, 0, ten)).admitted(st(21, day-hour, 0)).held(0)
			s.settle("more", 15, 0).gives(ended{was: store.Expired, heldUSD: 10, usd: 15, repeat: true})
			s.look(money(s.user, 0, ten)).admitted(st(21, day-hour, 0)).held(0)
		}},
		{"and in the place of what was given back", func(s *story) {
			for _, id := range []string{"settled", "kept", "freed"} {
				s.ask(id, money(s.user, 10, ten), money(s.org, 10, ten)).givesBack().admitted()
			}
			s.at(hour)
			s.look(money(s.user, 0, ten)).admitted(st(0, 0, 0))
			s.settle("settled", 15, 0).gives(ended{was: store.Expired, heldUSD: 10, usd: 15})
			s.settle("kept", 0, 0).keep().gives(ended{was: store.Expired, heldUSD: 10, usd: 10})
			s.release("freed").gives(ended{was: store.Expired, status: store.Released, heldUSD: 10})
			s.look(money(s.user, 0, ten), money(s.org, 0, ten)).admitted(st(25, day-hour, 0), st(25, day-hour, 0)).held(0, 0)
		}},
		{"a late settlement does not take a slot that another has by now", func(s *story) {
			s.ask("a", slot(s.user, 1)).admitted()
			s.at(30 * sec)
			s.ask("b", slot(s.user, 1)).admitted(st(1, 30*sec, 0))
			s.settle("a", 0, 0).gives(ended{was: store.Expired})
			s.look(slot(s.user, 1)).denied(st(1, 30*sec, 30*sec))
		}},
		{"an answer is known for a day after the settlement, and forgotten then", func(s *story) {
			checks := call(money(s.user, 10, lim(100, 7*day)))
			s.ask("a", checks...).admitted()
			s.at(20 * sec)
			s.settle("a", 4, 0).memo("m").gives(ended{was: store.Active, heldUSD: 10, usd: 4})
			s.at(20*sec + store.KeepAnswers - sec)
			s.settle("a", 4, 0).recalls("m")
			s.ask("a", checks...).repeats(store.Closed).uses(4)
			s.at(20*sec + store.KeepAnswers + hour)
			s.settle("a", 4, 0).fails(store.ErrNoHold)
			s.extend("a", checks...).fails(store.ErrNoHold)
			s.ask("a", checks...).print(5).admitted().uses(14).held(10)
			s.settle("a", 6, 0).print(6).gives(ended{was: store.Active, at: 20*sec + store.KeepAnswers + hour, heldUSD: 10, usd: 6})
			s.look(checks...).admitted().uses(10)
		}},
		{"a hold is known for a day after its lease, and forgotten then", func(s *story) {
			checks := call(money(s.user, 10, lim(100, 7*day)))
			s.ask("a", checks...).admitted()
			s.ask("b", checks...).admitted()
			s.at(30*sec + store.KeepAnswers - sec)
			s.ask("a", checks...).repeats(store.Expired).uses(20)
			s.settle("a", 4, 0).gives(ended{was: store.Expired, heldUSD: 10, usd: 4})
			s.look(checks...).admitted().uses(14)
			s.at(30*sec + store.KeepAnswers + hour)
			s.settle("a", 4, 0).gives(ended{was: store.Expired, heldUSD: 10, usd: 4, repeat: true}) // its own day
			s.settle("b", 4, 0).fails(store.ErrNoHold)
			s.release("b").fails(store.ErrNoHold)
			s.look(checks...).admitted().uses(14)
		}},
		{"a booking is known for a day after it was made, whenever it was for", func(s *story) {
			part := store.Part{Subject: s.user, USD: 7 * day}
			s.at(5 * day)
			s.book("a", 0, 7, 0, part).gives(ended{usd: 7})
			s.at(6*day - sec)
			s.book("a", 0, 7, 0, part).gives(ended{usd: 7, repeat: true})
			s.look(money(s.user, 0, lim(100, 7*day))).admitted().uses(7)
		}},
	}
}

// extendTales are the promises of extensions.
func extendTales() []tale {
	ten := lim(100, day)
	return []tale{
		{"an extension renews the lease from now on", func(s *story) {
			s.ask("a", money(s.user, 60, ten), slot(s.user, 1)).admitted()
			s.at(20 * sec)
			s.extend("a", money(s.user, 60, ten)).lease(mins).admitted().uses(60).held(60).hold(store.Active, 0, 80*sec, 60, 0)
			s.at(80*sec - micro)
			s.look(slot(s.user, 1)).denied(st(1, micro, micro))
			s.at(80 * sec)
			s.look(slot(s.user, 1)).admitted(st(0, 0, 0))
		}},
		{"it renews the slots of all subjects", func(s *story) {
			s.ask("a", money(s.user, 60, ten), slot(s.org, 1), slot(global, 1)).admitted()
			s.at(20 * sec)
			s.extend("a", money(s.user, 60, ten), named(s.org), named(global)).admitted()
			s.at(50*sec - micro)
			s.look(slot(s.org, 1), slot(global, 1)).denied(st(1, micro, micro), st(1, micro, micro))
			s.at(50 * sec)
			s.look(slot(s.org, 1), slot(global, 1)).admitted(st(0, 0, 0), st(0, 0, 0))
		}},
		{"it raises what is held, in the windows of the admission", func(s *story) {
			s.ask("a", tokens(s.user, 3, lim(10, mins)), money(s.user, 20, ten), money(s.org, 20, ten)).lease(hour).admitted()
			s.at(20 * sec)
			s.extend("a", tokens(s.user, 7, lim(10, mins)), money(s.user, 50, ten), money(s.org, 50, ten)).lease(hour).
				admitted(st(7, 40*sec, 0), st(50, day-20*sec, 0), st(50, day-20*sec, 0)).held(7, 50, 50).
				hold(store.Active, 0, hour+20*sec, 50, 7)
			s.at(mins)
			s.look(tokens(s.user, 0, lim(10, mins))).admitted(st(0, 0, 0)).held(7)
			s.settle("a", 45, 4).gives(ended{was: store.Active, heldUSD: 50, heldTokens: 7, usd: 45, tokens: 4})
			s.look(tokens(s.user, 0, lim(10, mins)), money(s.user, 0, ten), money(s.org, 0, ten)).
				admitted(st(0, 0, 0), st(45, day-mins, 0), st(45, day-mins, 0)).held(0, 0, 0)
		}},
		{"what no limit asks for any more is raised and settled all the same", func(s *story) {
			s.ask("a", tokens(s.user, 10, ten), money(s.user, 60, ten), money(s.org, 60, ten)).admitted()
			s.ask("b", money(s.user, 20, ten)).admitted()
			s.extend("a", named(s.user), money(s.org, 70, ten)).admitted().uses(70).held(0, 70).hold(store.Active, 0, 30*sec, 70, 10)
			s.look(money(s.user, 0, ten)).admitted().uses(90).held(90)
			s.settle("a", 65, 5).gives(ended{was: store.Active, heldUSD: 70, heldTokens: 10, usd: 65, tokens: 5})
			s.look(tokens(s.user, 0, ten), money(s.user, 0, ten), money(s.org, 0, ten)).admitted().uses(5, 85, 65).held(0, 20, 0)
		}},
		{"what is missing must fit, no more", func(s *story) {
			s.ask("a", money(s.user, 60, ten)).admitted()
			s.ask("b", money(s.user, 30, ten)).admitted()
			s.extend("a", money(s.user, 70, ten)).admitted(st(100, day, 0)).held(100)
			s.extend("a", money(s.user, 71, ten)).denied(st(100, day, day)).held(100)
		}},
		{"a denied extension renews the lease all the same, and takes nothing", func(s *story) {
			s.ask("a", money(s.user, 60, ten), slot(s.user, 1), money(s.org, 60, lim(60, day))).admitted()
			s.at(20 * sec)
			s.extend("a", money(s.user, 61, ten), money(s.org, 61, lim(60, day))).denied().uses(60, 60).held(60, 60).
				hold(store.Active, 0, 50*sec, 60, 0)
			s.at(50*sec - micro)
			s.look(slot(s.user, 1), money(s.user, 0, ten)).denied(st(1, micro, micro), st(60, day-50*sec+micro, 0)).held(0, 60)
			s.settle("a", 1, 0).gives(ended{was: store.Active, heldUSD: 60, usd: 1})
		}},
		{"less than is held changes nothing", func(s *story) {
			s.ask("a", tokens(s.user, 3, lim(10, mins)), money(s.user, 60, ten)).admitted()
			s.at(sec)
			s.extend("a", tokens(s.user, 4, lim(10, mins)), money(s.user, 10, ten)).
				admitted(st(4, 59*sec, 0), st(60, day-sec, 0)).held(4, 60).hold(store.Active, 0, 31*sec, 60, 4)
		}},
		{"a full limit of which nothing is missing does not deny", func(s *story) {
			s.ask("a", tokens(s.user, 3, lim(10, mins)), money(s.user, 100, ten)).admitted()
			s.extend("a", tokens(s.user, 6, lim(10, mins)), money(s.user, 100, ten)).admitted(st(6, mins, 0), st(100, day, 0))
			s.extend("a", tokens(s.user, 6, lim(10, mins)), money(s.user, 100, ten)).admitted(st(6, mins, 0), st(100, day, 0))
		}},
		{"repeated, it asks for nothing more", func(s *story) {
			s.ask("a", money(s.user, 10, ten)).admitted()
			for range 3 {
				s.extend("a", money(s.user, 90, ten)).admitted(st(90, day, 0)).held(90)
			}
		}},
		{"a hold that has ended is left as it is", func(s *story) {
			s.ask("settled", money(s.user, 10, ten), slot(s.user, 9)).admitted()
			s.settle("settled", 4, 0).gives(ended{was: store.Active, heldUSD: 10, usd: 4})
			s.ask("released", money(s.user, 10, ten), slot(s.user, 9)).admitted()
			s.release("released").gives(ended{was: store.Active, status: store.Released, heldUSD: 10})
			s.ask("expired", money(s.user, 10, ten), slot(s.user, 9)).admitted()
			s.at(30 * sec)
			for id, status := range map[string]store.HoldStatus{
				"settled": store.Closed, "released": store.Released, "expired": store.Expired,
			} {
				ask := s.extend(id, money(s.user, 50, ten))
				if err := s.decide(ask.req); err != nil || s.ans.Hold.Status != status {
					s.t.Fatalf("%s: %+v, %v, want the status %d", ask, s.ans.Hold, err, status)
				}
				s.look(money(s.user, 0, ten), slot(s.user, 9)).admitted().uses(14, 0).held(0, 0)
			}
		}},
		{"an id that is not known, and another fingerprint", func(s *story) {
			s.extend("a", money(s.user, 10, ten)).fails(store.ErrNoHold)
			s.ask("a", money(s.user, 10, ten), slot(s.user, 1)).admitted()
			s.at(sec)
			s.extend("a", money(s.user, 20, ten)).print(4).fails(store.ErrMismatch)
			s.look(money(s.user, 0, ten), slot(s.user, 1)).denied(st(10, day-sec, 0), st(1, 29*sec, 29*sec))
			s.extend("a", money(s.user, 20, ten)).print(0).admitted(st(20, day-sec, 0)).hold(store.Active, 0, 31*sec, 20, 0)
		}},
	}
}

// bookTales are the promises of booking without a hold.
func bookTales() []tale {
	return []tale{
		{"what has no hold is booked now, once", func(s *story) {
			part := store.Part{Subject: s.user, USD: day, Tokens: mins}
			s.ask("", money(s.user, 10, lim(100, day))).admitted()
			s.at(sec)
			s.book("a", sec, 130, 7, part).gives(ended{at: sec, usd: 130, tokens: 7})
			for range 2 {
				s.book("a", sec, 130, 7, part).gives(ended{at: sec, usd: 130, tokens: 7, repeat: true})
			}
			s.book("a", sec, 5, 7, part).print(9).fails(store.ErrMismatch)
			s.look(money(s.user, 0, lim(100, day)), tokens(s.user, 0, lim(10, mins))).
				denied(st(140, day-sec, day), st(7, mins, 0)).held(0, 0)
		}},
		{"in the past, in the windows of that moment", func(s *story) {
			part := store.Part{Subject: s.user, USD: hour}
			s.ask("", money(s.user, 10, lim(100, hour))).admitted()
			s.at(20 * mins)
			s.ask("", money(s.user, 10, lim(100, hour))).admitted(st(20, 40*mins, 0))
			s.at(30 * mins)
			s.book("a", 5*mins, 5, 0, part).gives(ended{at: 5 * mins, usd: 5})
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(25, 30*mins, 0))
			s.look(money(s.user, 76, lim(100, hour))).denied(st(25, 30*mins, 30*mins))
			s.look(money(s.user, 89, lim(100, hour))).denied(st(25, 30*mins, 35*mins))
			s.at(hour)
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(15, 5*mins, 0))
			s.at(65*mins - micro)
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(15, micro, 0))
			s.at(65 * mins)
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(10, 15*mins, 0))
		}},
		{"before everything else, and to a log that is not there yet", func(s *story) {
			s.at(20 * mins)
			s.book("a", 0, 5, 3, store.Part{Subject: s.user, USD: hour, Tokens: 10 * mins}).gives(ended{usd: 5, tokens: 3})
			s.look(money(s.user, 0, lim(100, hour)), tokens(s.user, 0, lim(100, 10*mins))).admitted(st(5, 40*mins, 0), st(0, 0, 0))
			s.book("b", -10*mins, 6, 0, store.Part{Subject: s.user, USD: hour}).gives(ended{at: -10 * mins, usd: 6})
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(11, 30*mins, 0))
			s.at(50 * mins)
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(5, 10*mins, 0))
		}},
		{"older than all windows, it counts nowhere and is known all the same", func(s *story) {
			part := store.Part{Subject: s.user, USD: hour}
			s.at(200 * hour)
			s.book("a", 0, 5, 0, part).gives(ended{usd: 5})
			s.book("a", 0, 5, 0, part).gives(ended{usd: 5, repeat: true})
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(0, 0, 0))
			s.ask("", money(s.user, 1, lim(100, hour))).admitted(st(1, hour, 0))
			s.book("b", -hour, 5, 0, part).gives(ended{at: -hour, usd: 5})
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(1, hour, 0))
		}},
		{"in the future, it is booked now", func(s *story) {
			part := store.Part{Subject: s.user, USD: hour}
			s.at(mins)
			s.book("a", 10*mins, 5, 0, part).gives(ended{at: mins, usd: 5})
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(5, hour, 0))
			s.book("b", 100_000*hour, 5, 0, part).gives(ended{at: mins, usd: 5})
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(10, hour, 0))
		}},
		{"only where a subject has windows, for all subjects", func(s *story) {
			s.book("a", 0, 5, 7, store.Part{Subject: s.user, Tokens: hour}, store.Part{Subject: s.org, USD: hour}, store.Part{Subject: global}).
				gives(ended{usd: 5, tokens: 7})
			for _, subject := range []store.Subject{s.user, s.org, global} {
				usd, tok := int64(0), int64(0)
				if subject == s.user {
					tok = 7
				}
				if subject == s.org {
					usd = 5
				}
				s.look(money(subject, 0, lim(100, hour)), tokens(subject, 0, lim(100, hour))).admitted().uses(usd, tok).held(0, 0)
			}
		}},
		{"a hold that is known is settled, wherever it would be booked", func(s *story) {
			s.ask("a", money(s.user, 60, lim(100, hour))).admitted()
			s.at(10 * mins)
			end := s.settle("a", 30, 0)
			end.st.Book = s.start + us(10*mins)
			end.gives(ended{was: store.Expired, heldUSD: 60, usd: 30})
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(30, 50*mins, 0))
		}},
		{"an unknown id that keeps what was held is booked by its amounts", func(s *story) {
			s.book("a", 0, 8, 0, store.Part{Subject: s.user, USD: hour}).keep().gives(ended{usd: 8})
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(8, hour, 0))
		}},
		{"nothing booked is a booking", func(s *story) {
			part := store.Part{Subject: s.user, USD: hour}
			s.book("a", 0, 0, 0, part).gives(ended{})
			s.book("a", 0, 0, 0, part).gives(ended{repeat: true})
			s.book("a", 0, 5, 0, part).print(7).fails(store.ErrMismatch)
			s.look(money(s.user, 0, lim(100, hour))).admitted(st(0, 0, 0))
		}},
		{"a request that comes after its settlement is a repeat", func(s *story) {
			s.book("a", 0, 8, 0, store.Part{Subject: s.user, USD: hour}).gives(ended{usd: 8})
			err := s.decide(s.ask("a", money(s.user, 60, lim(100, hour)), slot(s.user, 1)).req)
			if err == nil && (!s.ans.Hold.Repeat || s.ans.Hold.Status != store.Closed) {
				s.t.Fatalf("a request after its settlement came to %+v, want a repeat or an error", s.ans.Hold)
			}
			s.look(money(s.user, 0, lim(100, hour)), slot(s.user, 1)).admitted(st(8, hour, 0), st(0, 0, 0)).held(0, 0)
		}},
	}
}
