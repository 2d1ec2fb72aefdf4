package window

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// plain is a log in its plainest form: every hit, for ever.
type plain struct {
	hits []Piece
}

// now is the log's time.
func (p *plain) now(clock int64) int64 {
	for _, h := range p.hits {
		clock = max(clock, h.At)
	}
	return clock
}

// state computes a window from all hits.
func (p *plain) state(l Limit, need, now, clock int64) State {
	st := State{Used: p.used(l.Period, now)}
	for _, h := range p.hits {
		if h.Amount > 0 && now < h.At+l.Period {
			st.Reset = h.At + l.Period - clock
			break
		}
	}
	if need > l.Max {
		st.Wait = Never
		return st
	}
	for i := 0; p.used(l.Period, max(now, clock+st.Wait))+need > l.Max; i++ {
		st.Wait = max(st.Wait, p.hits[i].At+l.Period-clock)
	}
	return st
}

// used is what is live.
func (p *plain) used(period, now int64) int64 {
	sum := int64(0)
	for _, h := range p.hits {
		if now < h.At+period {
			sum += h.Amount
		}
	}
	return sum
}

// back takes back up to amount from the hits at or before a moment that are live in the period.
func (p *plain) back(amount, at, period, now int64) []Piece {
	var out []Piece
	for i := len(p.hits) - 1; i >= 0; i-- {
		h := &p.hits[i]
		if took := min(amount, h.Amount); h.At <= at && now < h.At+period && took > 0 {
			h.Amount -= took
			amount -= took
			if n := len(out); n > 0 && out[n-1].At == h.At {
				out[n-1].Amount += took
			} else {
				out = append(out, Piece{At: h.At, Amount: took})
			}
		}
	}
	return out
}

// TestExactLogIsTheModel compares random decisions, also while the clock runs back. rapid prints its seed.
func TestExactLogIsTheModel(t *testing.T) {
	const longest = 1000
	rapid.Check(t, func(rt *rapid.T) {
		log, model, clock := new(Log), new(plain), int64(1_000_000)
		rt.Repeat(map[string]func(*rapid.T){
			"pass": func(rt *rapid.T) {
				clock += rapid.OneOf(rapid.Int64Range(0, 30), rapid.Int64Range(0, 1100), rapid.Int64Range(-500, 0)).Draw(rt, "pass")
			},
			"take": func(rt *rapid.T) {
				now := log.Begin(clock)
				if want := model.now(clock); now != want {
					rt.Fatalf("Begin(%d) = %d, want %d", clock, now, want)
				}
				amount := rapid.Int64Range(0, 4).Draw(rt, "amount")
				limits := drawLimits(rt, longest)
				fits := compare(rt, log, model, limits, max(amount, 1), now, clock)
				if !fits || amount == 0 {
					return
				}
				log.Add(amount)
				model.hits = append(model.hits, Piece{At: now, Amount: amount})
				compare(rt, log, model, limits, 1, now, clock)
			},
			"back": func(rt *rapid.T) {
				now := log.Begin(clock)
				log.Ask(0, Limit{Max: 1, Period: longest}, 1)
				amount := rapid.Int64Range(0, 9).Draw(rt, "amount")
				got := log.TakeBack(amount, nil)
				if want := model.back(amount, now, longest, now); !slices.Equal(got, want) {
					rt.Fatalf("at %d: TakeBack(%d) = %v, want %v", now, amount, got, want)
				}
			},
			"back at": func(rt *rapid.T) {
				now := log.Begin(clock)
				log.Ask(0, Limit{Max: 1, Period: longest}, 1)
				amount, at := rapid.Int64Range(0, 9).Draw(rt, "amount"), now-rapid.Int64Range(0, 1200).Draw(rt, "ago")
				want := int64(0)
				for _, p := range model.back(amount, at, longest, now) {
					want += p.Amount
				}
				if got := log.TakeBackAt(at, amount); got != want {
					rt.Fatalf("at %d: TakeBackAt(%d, %d) = %d, want %d", now, at, amount, got, want)
				}
			},
		})
	})
}

// drawLimits draws windows, always with the longest, so that the log keeps what the model keeps.
func drawLimits(rt *rapid.T, longest int64) []Limit {
	periods := rapid.SliceOfNDistinct(rapid.SampledFrom([]int64{1, 10, 30, 100, 500}), 0, 4, rapid.ID).Draw(rt, "periods")
	var out []Limit
	for _, p := range append(periods, longest) {
		out = append(out, Limit{
			Max: rapid.Int64Range(0, 30).Draw(rt, "max"), Period: p,
			Grain: rapid.SampledFrom([]Grain{Exact, Loose}).Draw(rt, "grain"),
		})
	}
	return out
}

// compare fails unless all windows are the model's, and tells whether need fits them.
func compare(rt *rapid.T, log *Log, model *plain, limits []Limit, need, now, clock int64) bool {
	fits := true
	for i, l := range limits {
		got, want := log.Ask(i, l, need), model.state(l, need, now, clock)
		if got != want {
			rt.Fatalf("at %d: Ask(%+v, %d) = %+v, want %+v; hits %v", now, l, need, got, want, model.hits)
		}
		fits = fits && got.Wait == 0
	}
	return fits
}
