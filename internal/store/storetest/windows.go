package storetest

import (
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Short names for the times of the stories.
const (
	micro = time.Microsecond
	sec   = time.Second
	mins  = time.Minute
	hour  = time.Hour
	day   = 24 * time.Hour
)

// windowRules are the promises of one log's windows.
func windowRules() []rule {
	two := lim(2, mins)
	return []rule{
		{"a hit is live until one period after it, and not a microsecond longer", []step{
			{at: 0, checks: call(hit(alice, 1, lim(1, mins))), ok: true, states: states(st(1, mins, 0))},
			{at: mins - micro, checks: call(hit(alice, 1, lim(1, mins))), states: states(st(1, micro, micro))},
			{at: mins, checks: call(hit(alice, 1, lim(1, mins))), ok: true, states: states(st(1, mins, 0))},
		}},
		{"retry-after is exact on both sides, to the microsecond", []step{
			{at: 0, checks: call(hit(alice, 1, two)), ok: true, states: states(st(1, mins, 0))},
			{at: 7*sec + 3*micro, checks: call(hit(alice, 1, two)), ok: true, states: states(st(2, 53*sec-3*micro, 0))},
			{at: 20 * sec, checks: call(hit(alice, 1, two)), states: states(st(2, 40*sec, 40*sec))},
			{at: 20 * sec, checks: call(hit(alice, 2, two)), states: states(st(2, 40*sec, 47*sec+3*micro))},
			{at: 67*sec + 2*micro, checks: call(hit(alice, 2, two)), states: states(st(1, micro, micro))},
			{at: 67*sec + 3*micro, checks: call(hit(alice, 2, two)), ok: true, states: states(st(2, mins, 0))},
		}},
		{"retry-after is exact to the millisecond", []step{
			{at: 0, checks: call(hit(alice, 1, lim(1, sec))), ok: true},
			{
				at: 600 * time.Millisecond, checks: call(hit(alice, 1, lim(1, sec))),
				states: states(st(1, 400*time.Millisecond, 400*time.Millisecond)),
			},
			{
				at: 999 * time.Millisecond, checks: call(hit(alice, 1, lim(1, sec))),
				states: states(st(1, time.Millisecond, time.Millisecond)),
			},
			{at: sec, checks: call(hit(alice, 1, lim(1, sec))), ok: true},
		}},
		{"no interval of a period holds more than the limit, wherever it begins", []step{
			{at: 0, checks: call(hit(alice, 1, two)), ok: true},
			{at: 59 * sec, checks: call(hit(alice, 1, two)), ok: true},
			{at: mins, checks: call(hit(alice, 1, two)), ok: true, states: states(st(2, 59*sec, 0))},
			{at: 61 * sec, checks: call(hit(alice, 1, two)), states: states(st(2, 58*sec, 58*sec))},
			{at: 119*sec - micro, checks: call(hit(alice, 1, two)), states: states(st(2, micro, micro))},
			{at: 119 * sec, checks: call(hit(alice, 1, two)), ok: true},
		}},
		{"an amount counts as that many hits", []step{
			{at: 0, checks: call(hit(alice, 3, lim(5, mins))), ok: true, states: states(st(3, mins, 0))},
			{at: sec, checks: call(hit(alice, 3, lim(5, mins))), states: states(st(3, 59*sec, 59*sec))},
			{at: sec, checks: call(hit(alice, 2, lim(5, mins))), ok: true, states: states(st(5, 59*sec, 0))},
			{at: mins, checks: call(hit(alice, 3, lim(5, mins))), ok: true, states: states(st(5, sec, 0))},
		}},
		{"hits of one moment are all counted", []step{
			{at: 0, checks: call(hit(alice, 1, two)), ok: true, states: states(st(1, mins, 0))},
			{at: 0, checks: call(hit(alice, 1, two)), ok: true, states: states(st(2, mins, 0))},
			{at: 0, checks: call(hit(alice, 1, two)), states: states(st(2, mins, mins))},
		}},
		{"an amount of 0 asks whether one would pass and takes nothing", []step{
			{at: 0, checks: call(hit(alice, 0, lim(1, mins))), ok: true, states: states(st(0, 0, 0))},
			{at: 0, checks: call(hit(alice, 1, lim(1, mins))), ok: true, states: states(st(1, mins, 0))},
			{at: sec, checks: call(hit(alice, 0, lim(1, mins))), states: states(st(1, 59*sec, 59*sec))},
			{at: mins, checks: call(hit(alice, 0, lim(1, mins))), ok: true, states: states(st(0, 0, 0))},
		}},
		{"a limit of 0 denies everything for ever", []step{
			{at: 0, checks: call(hit(alice, 1, lim(0, mins))), states: states(st(0, 0, store.Never))},
			{at: 0, checks: call(hit(alice, 0, lim(0, mins))), states: states(st(0, 0, store.Never))},
		}},
		{"an amount above the limit never fits, full or empty", []step{
			{at: 0, checks: call(hit(alice, 3, two)), states: states(st(0, 0, store.Never))},
			{at: 0, checks: call(hit(alice, 1, two)), ok: true},
			{at: sec, checks: call(hit(alice, 3, two)), states: states(st(1, 59*sec, store.Never))},
			{at: sec, checks: call(hit(alice, 1, two)), ok: true, states: states(st(2, 59*sec, 0))},
		}},
		{"a denied call takes nothing, however often it comes", []step{
			{at: 0, checks: call(hit(alice, 2, two)), ok: true},
			{at: 10 * sec, checks: call(hit(alice, 1, two)), states: states(st(2, 50*sec, 50*sec))},
			{at: 20 * sec, checks: call(hit(alice, 1, two)), states: states(st(2, 40*sec, 40*sec))},
			{at: 59 * sec, checks: call(hit(alice, 1, two)), states: states(st(2, sec, sec))},
			{at: mins, checks: call(hit(alice, 2, two)), ok: true, states: states(st(2, mins, 0))},
		}},
		{"all windows of a check must have room; each tells how it stands", []step{
			{
				at: 0, checks: call(hit(alice, 1, lim(1, sec), two, lim(9, hour))), ok: true,
				states: states(st(1, sec, 0), st(1, mins, 0), st(1, hour, 0)),
			},
			{
				at: sec / 2, checks: call(hit(alice, 1, lim(1, sec), two, lim(9, hour))),
				states: states(st(1, sec/2, sec/2), st(1, 59500*time.Millisecond, 0), st(1, hour-sec/2, 0)),
			},
			{
				at: 2 * sec, checks: call(hit(alice, 1, lim(1, sec), two, lim(9, hour))), ok: true,
				states: states(st(1, sec, 0), st(2, 58*sec, 0), st(2, hour-2*sec, 0)),
			},
			{
				at: 4 * sec, checks: call(hit(alice, 1, lim(1, sec), two, lim(9, hour))),
				states: states(st(0, 0, 0), st(2, 56*sec, 56*sec), st(2, hour-4*sec, 0)),
			},
			{
				at: mins, checks: call(hit(alice, 1, lim(1, sec), two, lim(9, hour))), ok: true,
				states: states(st(1, sec, 0), st(2, 2*sec, 0), st(3, hour-mins, 0)),
			},
		}},
		{"a shadow limit is told and never enforced", []step{
			{at: 0, checks: call(hit(alice, 2, shadow(2, mins), lim(4, hour))), ok: true},
			{
				at: sec, checks: call(hit(alice, 1, shadow(2, mins), lim(4, hour))), ok: true,
				states: states(st(3, 59*sec, 59*sec), st(3, hour-sec, 0)),
			},
			{
				at: sec, checks: call(hit(alice, 2, shadow(2, mins), lim(4, hour))),
				states: states(st(3, 59*sec, mins), st(3, hour-sec, hour-sec)),
			},
			{
				at: 2 * sec, checks: call(hit(alice, 1, shadow(0, mins), lim(4, hour))), ok: true,
				states: states(st(4, 58*sec, store.Never), st(4, hour-2*sec, 0)),
			},
		}},
		{"a clock that runs back does not revive or lose anything", []step{
			{at: mins, checks: call(hit(alice, 1, two)), ok: true, states: states(st(1, mins, 0))},
			{at: 10 * sec, checks: call(hit(alice, 1, two)), ok: true, states: states(st(2, mins+50*sec, 0))},
			{at: 20 * sec, checks: call(hit(alice, 1, two)), states: states(st(2, mins+40*sec, mins+40*sec))},
			{at: 2*mins - micro, checks: call(hit(alice, 1, two)), states: states(st(2, micro, micro))},
			{at: 2 * mins, checks: call(hit(alice, 2, two)), ok: true, states: states(st(2, mins, 0))},
		}},
		{"after a clock that ran back a wait may be longer than the period, and is exact", []step{
			{at: mins, checks: call(hit(alice, 2, two, lim(5, hour))), ok: true},
			{
				at: 5 * sec, checks: call(hit(alice, 1, two, lim(5, hour))),
				states: states(st(2, mins+55*sec, mins+55*sec), st(2, hour+55*sec, 0)),
			},
			{
				at: 5 * sec, do: refund, checks: call(hit(alice, 1, two, lim(5, hour))), took: 1, ok: true,
				states: states(st(1, mins+55*sec, 0), st(1, hour+55*sec, 0)),
			},
			{
				at: 5 * sec, checks: call(hit(alice, 2, two, lim(5, hour))),
				states: states(st(1, mins+55*sec, mins+55*sec), st(1, hour+55*sec, 0)),
			},
			{at: 2*mins - micro, checks: call(hit(alice, 2, two, lim(5, hour)))},
			{at: 2 * mins, checks: call(hit(alice, 2, two, lim(5, hour))), ok: true},
		}},
		{"what was dead when a call looked or was denied is live again when the clock runs back before it", []step{
			{at: 0, checks: call(hit(alice, 2, two, lim(9, hour))), ok: true},
			{at: 90 * sec, checks: call(hit(alice, 0, two, lim(9, hour))), ok: true, states: states(st(0, 0, 0), st(2, hour-90*sec, 0))},
			{
				at: 90 * sec, checks: call(hit(alice, 3, two, lim(9, hour))),
				states: states(st(0, 0, store.Never), st(2, hour-90*sec, 0)),
			},
			{at: 30 * sec, checks: call(hit(alice, 1, two, lim(9, hour))), states: states(st(2, 30*sec, 30*sec), st(2, hour-30*sec, 0))},
		}},
		{"the shortest and the longest window", []step{
			{
				at: 0, checks: call(hit(alice, 1, lim(1, store.MinPeriod), lim(2, store.MaxPeriod))), ok: true,
				states: states(st(1, store.MinPeriod, 0), st(1, store.MaxPeriod, 0)),
			},
			{at: store.MinPeriod - micro, checks: call(hit(alice, 1, lim(1, store.MinPeriod), lim(2, store.MaxPeriod)))},
			{at: store.MinPeriod, checks: call(hit(alice, 1, lim(1, store.MinPeriod), lim(2, store.MaxPeriod))), ok: true},
			{
				at: 400 * hour, checks: call(hit(alice, 1, lim(1, store.MinPeriod), lim(2, store.MaxPeriod))),
				states: states(st(0, 0, 0), st(2, store.MaxPeriod-400*hour, store.MaxPeriod-400*hour)),
			},
		}},
	}
}

// historyRules are the promises of limits that change between calls.
func historyRules() []rule {
	return []rule{
		{"a raised limit counts what was there", []step{
			{at: 0, checks: call(hit(alice, 2, lim(2, mins))), ok: true},
			{at: sec, checks: call(hit(alice, 1, lim(2, mins)))},
			{at: sec, checks: call(hit(alice, 1, lim(3, mins))), ok: true, states: states(st(3, 59*sec, 0))},
			{at: sec, checks: call(hit(alice, 1, lim(3, mins))), states: states(st(3, 59*sec, 59*sec))},
		}},
		{"a lowered limit counts what was there, and waits for enough of it to leave", []step{
			{at: 0, checks: call(hit(alice, 1, lim(5, mins))), ok: true},
			{at: 10 * sec, checks: call(hit(alice, 2, lim(5, mins))), ok: true},
			{at: 20 * sec, checks: call(hit(alice, 1, lim(5, mins))), ok: true},
			{at: 20 * sec, checks: call(hit(alice, 1, lim(2, mins))), states: states(st(4, 40*sec, 50*sec))},
			{at: 70*sec - micro, checks: call(hit(alice, 1, lim(2, mins))), states: states(st(3, micro, micro))},
			{at: 70 * sec, checks: call(hit(alice, 1, lim(2, mins))), ok: true, states: states(st(2, 10*sec, 0))},
		}},
		{"a shorter window added later finds its hits in the log", []step{
			{at: 0, checks: call(hit(alice, 3, lim(9, hour))), ok: true},
			{at: 40 * sec, checks: call(hit(alice, 2, lim(9, hour))), ok: true},
			{
				at: mins, checks: call(hit(alice, 1, lim(9, hour), lim(2, mins))),
				states: states(st(5, hour-mins, 0), st(2, 40*sec, 40*sec)),
			},
			{
				at: 100 * sec, checks: call(hit(alice, 1, lim(9, hour), lim(2, mins))), ok: true,
				states: states(st(6, hour-100*sec, 0), st(1, mins, 0)),
			},
		}},
		{"a longer window added later finds what the log still keeps", []step{
			{at: 0, checks: call(hit(alice, 2, lim(9, mins))), ok: true},
			{
				at: 30 * sec, checks: call(hit(alice, 3, lim(9, mins), lim(9, hour))), ok: true,
				states: states(st(5, 30*sec, 0), st(5, hour-30*sec, 0)),
			},
			{
				at: 50 * mins, checks: call(hit(alice, 0, lim(9, mins), lim(9, hour))), ok: true,
				states: states(st(0, 0, 0), st(5, 10*mins, 0)),
			},
		}},
		{"a window left out for a while loses nothing that is younger than it", []step{
			{at: 0, checks: call(hit(alice, 2, lim(9, mins), lim(9, hour))), ok: true},
			{at: 10 * mins, checks: call(hit(alice, 1, lim(9, mins))), ok: true, states: states(st(1, mins, 0))},
			{at: 20 * mins, checks: call(hit(alice, 1, lim(9, mins))), ok: true, states: states(st(1, mins, 0))},
			{
				at: 30 * mins, checks: call(hit(alice, 1, lim(9, hour), lim(9, mins))), ok: true,
				states: states(st(5, 30*mins, 0), st(1, mins, 0)),
			},
			{at: hour, checks: call(hit(alice, 0, lim(9, hour))), ok: true, states: states(st(3, 10*mins, 0))},
		}},
		{"two policies share one log", []step{
			{at: 0, checks: call(hit(alice, 1, lim(2, mins))), ok: true, states: states(st(1, mins, 0))},
			{
				at: sec, checks: call(hit(alice, 1, lim(5, 90*sec), lim(5, 10*sec))), ok: true,
				states: states(st(2, 89*sec, 0), st(2, 9*sec, 0)),
			},
			{at: 2 * sec, checks: call(hit(alice, 1, lim(2, mins))), states: states(st(2, 58*sec, 58*sec))},
			{
				at: 3 * sec, checks: call(hit(alice, 1, lim(5, 90*sec), lim(5, 10*sec))), ok: true,
				states: states(st(3, 87*sec, 0), st(3, 7*sec, 0)),
			},
			{at: 61 * sec, checks: call(hit(alice, 1, lim(2, mins))), ok: true, states: states(st(2, 2*sec, 0))},
			{
				at: 62 * sec, checks: call(hit(alice, 0, lim(5, 90*sec), lim(5, 10*sec))), ok: true,
				states: states(st(4, 28*sec, 0), st(1, 9*sec, 0)),
			},
		}},
		{"a reset forgets the hits", []step{
			{at: 0, checks: call(hit(alice, 2, lim(2, mins))), ok: true},
			{at: 0, checks: call(spend(store.Tokens, alice, 5, lim(9, mins))), ok: true},
			{at: sec, do: reset, checks: call(hit(alice, 0))},
			{at: sec, checks: call(spend(store.Tokens, alice, 0, lim(9, mins))), ok: true, states: states(st(0, 0, 0))},
			{at: sec, checks: call(hit(alice, 2, lim(2, mins))), ok: true, states: states(st(2, mins, 0))},
		}},
	}
}

// callRules are the promises of calls over several subjects and units.
func callRules() []rule {
	return []rule{
		{"all of a call's checks pass, or none takes anything", []step{
			{at: 0, checks: call(hit(alice, 1, lim(5, mins)), hit(global, 1, lim(2, mins))), ok: true},
			{
				at: 0, checks: call(hit(bob, 1, lim(5, mins)), hit(global, 1, lim(2, mins))), ok: true,
				states: states(st(1, mins, 0), st(2, mins, 0)),
			},
			{
				at: sec, checks: call(hit(alice, 1, lim(5, mins)), hit(global, 1, lim(2, mins))),
				states: states(st(1, 59*sec, 0), st(2, 59*sec, 59*sec)),
			},
			{
				at: 2 * sec, checks: call(hit(global, 1, lim(2, mins)), hit(alice, 1, lim(5, mins))),
				states: states(st(2, 58*sec, 58*sec), st(1, 58*sec, 0)),
			},
			{at: 2 * sec, checks: call(hit(alice, 0, lim(5, mins))), ok: true, states: states(st(1, 58*sec, 0))},
		}},
		{"a call denied by its first check takes nothing of the others", []step{
			{at: 0, checks: call(hit(alice, 1, lim(1, mins)), hit(global, 1, lim(9, mins))), ok: true},
			{
				at: sec, checks: call(hit(alice, 1, lim(1, mins)), hit(bob, 1, lim(9, mins)), hit(global, 1, lim(9, mins))),
				states: states(st(1, 59*sec, 59*sec), st(0, 0, 0), st(1, 59*sec, 0)),
			},
			{
				at: sec, checks: call(hit(global, 0, lim(9, mins)), hit(bob, 0, lim(9, mins))), ok: true,
				states: states(st(1, 59*sec, 0), st(0, 0, 0)),
			},
		}},
		{"a check that only asks does not keep others from taking", []step{
			{
				at: 0, checks: call(hit(alice, 0, lim(1, mins)), hit(global, 2, lim(9, mins))), ok: true,
				states: states(st(0, 0, 0), st(2, mins, 0)),
			},
			{
				at: 0, checks: call(hit(alice, 1, lim(1, mins)), hit(global, 2, lim(9, mins))), ok: true,
				states: states(st(1, mins, 0), st(4, mins, 0)),
			},
			{
				at: sec, checks: call(hit(alice, 0, lim(1, mins)), hit(global, 2, lim(9, mins))),
				states: states(st(1, 59*sec, 59*sec), st(4, 59*sec, 0)),
			},
		}},
		{"units are counted apart", []step{
			{
				at: 0, checks: call(hit(alice, 1, lim(1, mins)), spend(store.Tokens, alice, 700, lim(1000, mins)),
					spend(store.USD, alice, 260_600, lim(5e9, day))), ok: true,
				states: states(st(1, mins, 0), st(700, mins, 0), st(260_600, day, 0)),
			},
			{
				at: sec, checks: call(spend(store.Tokens, alice, 301, lim(1000, mins))),
				states: states(st(700, 59*sec, 59*sec)),
			},
			{
				at: sec, checks: call(spend(store.Tokens, alice, 300, lim(1000, mins))), ok: true,
				states: states(st(1000, 59*sec, 0)),
			},
			{
				at: sec, checks: call(hit(alice, 1, lim(1, mins)), spend(store.USD, alice, 1, lim(5e9, day))),
				states: states(st(1, 59*sec, 59*sec), st(260_600, day-sec, 0)),
			},
		}},
		{"the largest amounts are exact", []step{
			{
				at: 0, checks: call(spend(store.USD, alice, store.MaxAmount-1, lim(store.MaxAmount, day))), ok: true,
				states: states(st(store.MaxAmount-1, day, 0)),
			},
			{
				at: sec, checks: call(spend(store.USD, alice, 2, lim(store.MaxAmount, day))),
				states: states(st(store.MaxAmount-1, day-sec, day-sec)),
			},
			{
				at: sec, checks: call(spend(store.USD, alice, 1, lim(store.MaxAmount, day))), ok: true,
				states: states(st(store.MaxAmount, day-sec, 0)),
			},
			{
				at: sec, checks: call(spend(store.USD, alice, 1, lim(store.MaxAmount, day))),
				states: states(st(store.MaxAmount, day-sec, day-sec)),
			},
			{
				at: 2 * sec, checks: call(hit(alice, store.MaxRequests, lim(store.MaxRequests, day))), ok: true,
				states: states(st(store.MaxRequests, day, 0)),
			},
		}},
	}
}

// refundRules are the promises of giving back.
func refundRules() []rule {
	five := lim(5, mins)
	return []rule{
		{"a refund takes back the newest hits first", []step{
			{at: 0, checks: call(hit(alice, 2, five)), ok: true},
			{at: 10 * sec, checks: call(hit(alice, 2, five)), ok: true},
			{
				at: 20 * sec, do: refund, checks: call(hit(alice, 1, five)), took: 1, ok: true,
				states: states(st(3, 40*sec, 0)),
			},
			{
				at: 20 * sec, do: refund, checks: call(hit(alice, 2, five)), took: 2, ok: true,
				states: states(st(1, 40*sec, 0)),
			},
			{at: mins, checks: call(hit(alice, 0, five)), ok: true, states: states(st(0, 0, 0))},
		}},
		{"a refund never gives back more than is there", []step{
			{at: 0, do: refund, checks: call(hit(alice, 3, five)), took: 0, ok: true, states: states(st(0, 0, 0))},
			{at: 0, checks: call(hit(alice, 2, five)), ok: true},
			{at: 0, do: refund, checks: call(hit(alice, 3, five)), took: 2, ok: true, states: states(st(0, 0, 0))},
			{at: 0, do: refund, checks: call(hit(alice, 3, five)), took: 0, ok: true, states: states(st(0, 0, 0))},
			{at: 0, checks: call(hit(alice, 5, five)), ok: true, states: states(st(5, mins, 0))},
			{at: 0, checks: call(hit(alice, 1, five)), states: states(st(5, mins, mins))},
		}},
		{"a hit that is dead in every window is not given back", []step{
			{at: 0, checks: call(hit(alice, 2, five)), ok: true},
			{at: 30 * sec, checks: call(hit(alice, 1, five)), ok: true},
			{at: mins, do: refund, checks: call(hit(alice, 3, five)), took: 1, ok: true, states: states(st(0, 0, 0))},
		}},
		{"a hit that a shorter window has left is given back in the longer", []step{
			{at: 0, checks: call(hit(alice, 2, lim(5, sec), five)), ok: true},
			{
				at: 2 * sec, do: refund, checks: call(hit(alice, 1, lim(5, sec), five)), took: 1, ok: true,
				states: states(st(0, 0, 0), st(1, 58*sec, 0)),
			},
		}},
		{"a refund frees room at once, and the wait is that of the hits that are left", []step{
			{at: 0, checks: call(hit(alice, 3, five)), ok: true},
			{at: 10 * sec, checks: call(hit(alice, 2, five)), ok: true},
			{at: 20 * sec, checks: call(hit(alice, 4, five)), states: states(st(5, 40*sec, 50*sec))},
			{at: 20 * sec, do: refund, checks: call(hit(alice, 2, five)), took: 2, ok: true, states: states(st(3, 40*sec, 0))},
			{at: 20 * sec, checks: call(hit(alice, 4, five)), states: states(st(3, 40*sec, 40*sec))},
			{at: 20 * sec, checks: call(hit(alice, 2, five)), ok: true, states: states(st(5, 40*sec, 0))},
		}},
		{"the first check bounds what the others get back", []step{
			{at: 0, checks: call(hit(alice, 1, five), hit(global, 1, lim(9, mins))), ok: true},
			{at: sec, checks: call(hit(bob, 3, five), hit(global, 3, lim(9, mins))), ok: true},
			{
				at: 2 * sec, do: refund, checks: call(hit(alice, 4, five), hit(global, 4, lim(9, mins))), took: 1, ok: true,
				states: states(st(0, 0, 0), st(3, 59*sec, 0)),
			},
			{
				at: 2 * sec, do: refund, checks: call(hit(alice, 4, five), hit(global, 4, lim(9, mins))), took: 0, ok: true,
				states: states(st(0, 0, 0), st(3, 59*sec, 0)),
			},
		}},
		{"the others get back the hits of the same moments", []step{
			{at: 0, checks: call(hit(alice, 2, five), hit(global, 2, lim(9, mins))), ok: true},
			{at: 10 * sec, checks: call(hit(bob, 1, five), hit(global, 1, lim(9, mins))), ok: true},
			{at: 20 * sec, checks: call(hit(alice, 1, five), hit(global, 1, lim(9, mins))), ok: true},
			{at: 30 * sec, checks: call(hit(bob, 1, five), hit(global, 1, lim(9, mins))), ok: true},
			{
				at: 40 * sec, do: refund, checks: call(hit(alice, 2, five), hit(global, 2, lim(9, mins))), took: 2, ok: true,
				states: states(st(1, 20*sec, 0), st(3, 20*sec, 0)),
			},
			{at: mins, checks: call(hit(global, 0, lim(9, mins))), ok: true, states: states(st(2, 10*sec, 0))},
			{at: 70 * sec, checks: call(hit(global, 0, lim(9, mins))), ok: true, states: states(st(1, 20*sec, 0))},
		}},
		{"a moment that another log has not, or has no more, is made up by the newest before it", []step{
			{at: 0, checks: call(hit(global, 2, lim(9, mins))), ok: true},
			{at: 10 * sec, checks: call(hit(alice, 2, five)), ok: true},
			{at: 20 * sec, checks: call(hit(global, 3, lim(9, mins))), ok: true},
			{
				at: 30 * sec, do: refund, checks: call(hit(alice, 1, five), hit(global, 1, lim(9, mins))), took: 1, ok: true,
				states: states(st(1, 40*sec, 0), st(4, 30*sec, 0)),
			},
			{at: mins, checks: call(hit(global, 0, lim(9, mins))), ok: true, states: states(st(3, 20*sec, 0))},
		}},
		{"the hits of a moment are given back, not newer ones", []step{
			{at: 0, checks: call(hit(alice, 1, five), hit(global, 1, lim(9, mins))), ok: true},
			{at: 30 * sec, checks: call(hit(alice, 4, five), hit(global, 4, lim(9, mins))), ok: true},
			{
				at: 40 * sec, do: refundOfMoment, of: 0, checks: call(hit(alice, 1, five), hit(global, 1, lim(9, mins))), took: 1, ok: true,
				states: states(st(4, 50*sec, 0), st(4, 50*sec, 0)),
			},
			{
				at: 40 * sec, do: refundOfMoment, of: 0, checks: call(hit(alice, 1, five), hit(global, 1, lim(9, mins))), ok: true,
				states: states(st(4, 50*sec, 0), st(4, 50*sec, 0)),
			},
			{at: 40 * sec, checks: call(hit(alice, 2, five)), states: states(st(4, 50*sec, 50*sec))},
		}},
		{"nothing is given back in the place of a hit that has left the log", []step{
			{at: 0, checks: call(hit(alice, 1, five)), ok: true},
			{at: 2 * mins, checks: call(hit(alice, 5, five)), ok: true},
			{at: 2 * mins, do: refundOfMoment, of: 0, checks: call(hit(alice, 1, five)), states: states(st(5, mins, mins))},
			{at: 2 * mins, checks: call(hit(alice, 1, five)), states: states(st(5, mins, mins))},
		}},
		{"each check gives back what it has of a moment, whatever the others have", []step{
			{at: 0, checks: call(hit(alice, 1, five), hit(global, 1, lim(9, hour))), ok: true},
			{at: sec, checks: call(hit(bob, 2, five), hit(global, 2, lim(9, hour))), ok: true},
			{
				at: 2 * mins, do: refundOfMoment, of: 0, checks: call(hit(alice, 1, five), hit(global, 1, lim(9, hour))), ok: true,
				states: states(st(0, 0, 0), st(2, hour-2*mins+sec, 0)),
			},
		}},
		{"where a moment has fewer hits, the newest before it are given back", []step{
			{at: 0, checks: call(hit(alice, 2, five)), ok: true},
			{at: 10 * sec, checks: call(hit(alice, 1, five)), ok: true},
			{at: 20 * sec, checks: call(hit(alice, 1, five)), ok: true},
			{
				at: 30 * sec, do: refundOfMoment, of: 15 * sec, checks: call(hit(alice, 2, five)), took: 2, ok: true,
				states: states(st(2, 30*sec, 0)),
			},
		}},
		{"a hit that was merged with later ones is given back of those", []step{
			{at: 0, checks: call(hit(alice, 1, lim(9000, 512*sec))), ok: true},
			{at: 900 * time.Millisecond, checks: call(hit(alice, 1, lim(9000, 512*sec))), ok: true},
			{
				at: sec, do: refundOfMoment, of: 0, checks: call(hit(alice, 1, lim(9000, 512*sec))), took: 1, ok: true,
				states: states(st(1, 512*sec-100*time.Millisecond, 0)),
			},
		}},
		{"a refund of 0 only looks", []step{
			{at: 0, checks: call(hit(alice, 2, five)), ok: true},
			{at: sec, do: refund, checks: call(hit(alice, 0, five)), took: 0, ok: true, states: states(st(2, 59*sec, 0))},
		}},
		{"an entry of nothing is not the oldest", []step{
			{at: 0, checks: call(hit(alice, 1, five), hit(global, 1, lim(9, mins))), ok: true},
			{at: 10 * sec, checks: call(hit(bob, 1, five), hit(global, 1, lim(9, mins))), ok: true},
			{
				at: 20 * sec, do: refund, checks: call(hit(alice, 1, five), hit(global, 1, lim(9, mins))), took: 1, ok: true,
				states: states(st(0, 0, 0), st(1, 50*sec, 0)),
			},
		}},
	}
}
