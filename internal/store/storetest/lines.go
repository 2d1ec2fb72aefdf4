package storetest

import (
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// lineTales are the promises of waiting for a slot in line.
func lineTales() []tale {
	return []tale{
		{"slots go to waiters in the order of their arrival", func(s *story) {
			one := slot(s.user, 1)
			s.ask("holder", one).admitted()
			for i, id := range []string{"a", "b", "c"} {
				s.at(time.Duration(i) * time.Millisecond)
				s.ask(id, one).inLine().denied().uses(1).queued(i)
			}
			s.at(sec)
			for i, id := range []string{"c", "a", "b"} { // who asks first has no advantage
				s.ask(id, one).inLine().denied().queued([]int{2, 0, 1}[i])
			}
			s.settle("holder", 0, 0).gives(ended{was: store.Active})
			s.ask("c", one).inLine().denied().uses(0).queued(2)
			s.ask("b", one).inLine().denied().uses(0).queued(1)
			s.ask("a", one).inLine().admitted().uses(1).hold(store.Active, sec, 31*sec, 0, 0)
			s.ask("b", one).inLine().denied().queued(0)
			s.settle("a", 0, 0).gives(ended{was: store.Active, at: sec})
			s.ask("c", one).inLine().denied().queued(1)
			s.ask("b", one).inLine().admitted()
			s.settle("b", 0, 0).gives(ended{was: store.Active, at: sec})
			s.ask("c", one).inLine().admitted()
		}},
		{"who has no place does not overtake", func(s *story) {
			one := slot(s.user, 1)
			s.ask("holder", one).admitted()
			s.ask("a", one).inLine().denied().queued(0)
			s.settle("holder", 0, 0).gives(ended{was: store.Active})
			s.ask("passer", one).denied().uses(0).unqueued()
			s.look(one).denied().uses(0)
			s.ask("late", one).inLine().denied().queued(1)
			s.ask("passer", slot(s.user, 2)).denied().unqueued() // two slots are for the two that wait
			s.ask("passer", slot(s.user, 3)).admitted().uses(1)
			s.ask("a", slot(s.user, 2)).inLine().admitted().uses(2)
		}},
		{"a waiter that does not ask again loses its place", func(s *story) {
			one := slot(s.user, 1)
			s.ask("holder", one).admitted()
			s.ask("dead", one).inLine().denied().queued(0)
			s.ask("a", one).inLine().denied().queued(1)
			s.at(store.WaiterLife - micro)
			s.ask("a", one).inLine().denied().queued(1)
			s.settle("holder", 0, 0).gives(ended{was: store.Active})
			s.ask("a", one).inLine().denied().uses(0).queued(1)
			s.at(store.WaiterLife)
			s.ask("passer", one).denied().unqueued() // a is alive
			s.ask("a", one).inLine().admitted().uses(1)
			s.ask("dead", one).inLine().denied().queued(0)
		}},
		{"a waiter that asks again lives on, and comes back to the end once it is dead", func(s *story) {
			one := slot(s.user, 1)
			s.ask("holder", one).lease(hour).admitted()
			s.ask("a", one).inLine().denied().queued(0)
			for n := range 5 {
				s.at(time.Duration(n) * 2 * sec)
				s.ask("a", one).inLine().denied().queued(0)
			}
			s.ask("b", one).inLine().denied().queued(1)
			s.at(10 * sec)
			s.ask("b", one).inLine().denied().queued(1)
			s.at(8*sec + store.WaiterLife)
			s.ask("b", one).inLine().denied().queued(0)
			s.ask("a", one).inLine().denied().queued(1)
		}},
		{"a line of the dead is no line", func(s *story) {
			one := slot(s.user, 1)
			s.ask("holder", one).lease(sec).admitted()
			for _, id := range []string{"a", "b", "c"} {
				s.ask(id, one).inLine().denied()
			}
			s.at(store.WaiterLife - micro)
			s.ask("passer", one).denied().uses(0).unqueued()
			s.at(store.WaiterLife)
			s.ask("passer", one).admitted().uses(1)
		}},
		{"a release of its id gives the place up", func(s *story) {
			one := slot(s.user, 1)
			s.ask("holder", one).admitted()
			s.ask("a", one).inLine().denied().queued(0)
			s.ask("b", one).inLine().denied().queued(1)
			s.release("a").fails(store.ErrNoHold)
			s.ask("b", one).inLine().denied().queued(0)
			s.release("b").fails(store.ErrNoHold)
			s.settle("holder", 0, 0).gives(ended{was: store.Active})
			s.ask("passer", one).admitted().uses(1)
		}},
		{"a waiter that goes takes nothing from a call of its id that was admitted meanwhile", func(s *story) {
			one := slot(s.user, 1)
			s.ask("holder", one).admitted()
			s.ask("a", one).inLine().denied().queued(0)
			s.ask("b", one).inLine().denied().queued(1)
			s.settle("holder", 0, 0).gives(ended{was: store.Active})
			s.ask("a", one).inLine().admitted()
			for _, id := range []string{"a", "b"} {
				goes := s.release(id)
				goes.st.Waiting = true
				goes.fails(store.ErrNoHold)
			}
			s.look(one).denied().uses(1)
			s.settle("a", 0, 0).gives(ended{was: store.Active})
			s.ask("passer", one).admitted()
		}},
		{"a place is given only if slots are all that is missing", func(s *story) {
			rich, one := money(s.user, 6, lim(10, day)), slot(s.user, 1)
			s.ask("holder", rich, one).admitted()
			s.ask("a", rich, one).inLine().denied().uses(6, 1).unqueued()
			s.ask("b", money(s.user, 4, lim(10, day)), one).inLine().denied().uses(6, 1).queued(0)
			s.settle("holder", 0, 0).gives(ended{was: store.Active, heldUSD: 6})
			s.ask("a", rich, one).inLine().denied().uses(0, 0).queued(1)
			s.ask("b", money(s.user, 4, lim(10, day)), one).inLine().admitted().uses(4, 1)
		}},
		{"who waits takes nothing meanwhile", func(s *story) {
			all := call(hit(s.user, 1, lim(9, mins)), tokens(s.user, 5, lim(9, mins)), money(s.user, 5, lim(9, day)), slot(s.user, 1))
			s.ask("holder", slot(s.user, 1)).admitted()
			for n := range 4 {
				s.at(time.Duration(n) * sec)
				s.ask("a", all...).inLine().denied().uses(0, 0, 0, 1).held(0, 0, 0, 0).queued(0)
			}
			s.settle("a", 1, 0).fails(store.ErrNoHold)
			s.settle("holder", 0, 0).gives(ended{was: store.Active})
			s.ask("a", all...).inLine().admitted().uses(1, 5, 5, 1).held(0, 5, 5, 0)
		}},
		{"the line of a subject that many share", func(s *story) {
			ask := func(user store.Subject, id string) *asking {
				return s.ask(id, slot(user, 5), slot(global, 1)).inLine()
			}
			ask(s.user, "holder").admitted().uses(1, 1)
			ask(s.other, "a").denied().uses(0, 1).queued(0)
			ask(s.user, "b").denied().uses(1, 1).queued(1)
			s.settle("holder", 0, 0).gives(ended{was: store.Active})
			ask(s.user, "b").denied().uses(0, 0).queued(1)
			ask(s.other, "a").admitted().uses(1, 1)
			s.release("b").fails(store.ErrNoHold)
			s.settle("a", 0, 0).gives(ended{was: store.Active})
			s.ask("passer", slot(global, 1)).admitted().uses(1)
		}},
		{"the same id of two users has two places", func(s *story) {
			s.ask("holder", slot(global, 1)).admitted()
			s.ask("x", slot(s.user, 5), slot(global, 1)).inLine().denied().queued(0)
			s.ask("x", slot(s.other, 5), slot(global, 1)).inLine().denied().queued(1)
			s.settle("holder", 0, 0).gives(ended{was: store.Active})
			s.ask("x", slot(s.other, 5), slot(global, 1)).inLine().denied().queued(1)
			s.ask("x", slot(s.user, 5), slot(global, 1)).inLine().admitted().uses(1, 1)
		}},
		{"a waiter is served when a lease ends", func(s *story) {
			one := slot(s.user, 1)
			s.ask("holder", one).lease(sec).admitted()
			s.ask("a", one).inLine().denied(st(1, sec, sec)).queued(0)
			s.at(sec - micro)
			s.ask("a", one).inLine().denied(st(1, micro, micro)).queued(0)
			s.at(sec)
			s.ask("a", one).inLine().admitted(st(1, 30*sec, 0))
		}},
	}
}
