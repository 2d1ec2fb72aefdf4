package window

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// moment returns the model's amount at a moment; nil if nothing was added then.
func (p *plain) moment(at int64) *Piece {
	for i := range p.hits {
		if p.hits[i].At == at {
			return &p.hits[i]
		}
	}
	return nil
}

// add adds at a moment, in the order of time.
func (p *plain) add(at, amount int64) {
	if h := p.moment(at); h != nil {
		h.Amount += amount
		return
	}
	i := 0
	for i < len(p.hits) && p.hits[i].At < at {
		i++
	}
	p.hits = append(p.hits, Piece{})
	copy(p.hits[i+1:], p.hits[i:])
	p.hits[i] = Piece{At: at, Amount: amount}
}

// since is what was added from a moment on.
func (p *plain) since(start int64) int64 {
	sum := int64(0)
	for _, h := range p.hits {
		if h.At >= start {
			sum += h.Amount
		}
	}
	return sum
}

// calendarAt is the window of a made-up calendar at a moment: so long, and so far from the epoch.
func calendarAt(length, offset, most, at int64) Calendar {
	start := at - (at-offset)%length
	return Calendar{Max: most, Start: start, End: start + length, Longest: length}
}

// stateOf computes a window of a calendar from all hits.
func (p *plain) stateOf(c Calendar, need, clock int64) State {
	st := State{Used: p.since(c.Start)}
	if st.Used > 0 {
		st.Reset = c.End - clock
	}
	switch {
	case need > c.Max:
		st.Wait = Never
	case st.Used+need > c.Max:
		st.Wait = c.End - clock
	}
	return st
}

// TestSumsAreTheModel compares logs whose amounts change, and windows of the calendar, also while the clock runs back.
// rapid prints its seed.
func TestSumsAreTheModel(t *testing.T) {
	const longest = 1000
	rapid.Check(t, func(rt *rapid.T) {
		log, model, clock := NewSums(), new(plain), int64(1_000_000)
		look := func() int64 {
			now := log.Begin(clock)
			compare(rt, log, model, []Limit{
				{Max: 20, Period: 30, Grain: Loose}, {Max: 30, Period: 100, Grain: Loose}, {Max: 50, Period: longest, Grain: Loose},
			}, 3, now, clock)
			for i, c := range []Calendar{calendarAt(200, 0, 20, now), calendarAt(200, 77, 20, now), calendarAt(700, 5, 40, now)} {
				if got, want := log.AskCalendar(i, c, 3), model.stateOf(c, 3, clock); got != want {
					rt.Fatalf("at %d: AskCalendar(%+v) = %+v, want %+v; hits %v", now, c, got, want, model.hits)
				}
			}
			return now
		}
		rt.Repeat(map[string]func(*rapid.T){
			"pass": func(rt *rapid.T) {
				clock += rapid.OneOf(rapid.Int64Range(0, 30), rapid.Int64Range(0, 1100), rapid.Int64Range(-500, 0)).Draw(rt, "pass")
				look()
			},
			"add": func(rt *rapid.T) {
				now, amount := look(), rapid.Int64Range(1, 9).Draw(rt, "amount")
				log.Add(amount)
				model.add(now, amount)
				look()
			},
			"insert": func(rt *rapid.T) {
				now, amount := look(), rapid.Int64Range(1, 9).Draw(rt, "amount")
				at := now - rapid.Int64Range(-10, 1200).Draw(rt, "ago")
				if got, want := log.Insert(at, amount, longest), now-at < longest; got != want {
					rt.Fatalf("at %d: Insert(%d) = %v, want %v", now, at, got, want)
				}
				if now-at < longest {
					model.add(min(at, now), amount)
				}
				look()
			},
			"change": func(rt *rapid.T) {
				now := look()
				at := now - rapid.Int64Range(0, 1200).Draw(rt, "ago")
				if len(model.hits) > 0 && rapid.Bool().Draw(rt, "known") {
					at = rapid.SampledFrom(model.hits).Draw(rt, "hit").At
				}
				h, delta := model.moment(at), rapid.Int64Range(-9, 9).Draw(rt, "delta")
				got := log.AddAt(at, delta)
				if h == nil && got || h != nil && h.Amount > 0 && !got && now-at < longest {
					rt.Fatalf("at %d: AddAt(%d, %d) = %v; hits %v", now, at, delta, got, model.hits)
				}
				if got {
					h.Amount = max(0, h.Amount+delta)
				}
				look()
			},
		})
	})
}

// TestMergedSumsKeepTheirMoments fills logs until moments are merged, and changes moments of any age: each change must
// be found where its moment has gone to, or nowhere if that is gone.
func TestMergedSumsKeepTheirMoments(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 10 {
		m := &merging{t: t, random: random, log: NewSums(), model: new(plain), now: 1e15, offset: random.Int64N(hour)}
		for m.n < 12_000 {
			m.step()
		}
		m.clear()
	}
}

// merging is one run over a log that grows full.
type merging struct {
	t         *testing.T
	random    *rand.Rand
	log       *Log
	model     *plain
	n         int
	now       int64
	offset    int64 // of the calendar
	gone, hit int   // moments changed that were gone, and that were not
}

const mergingKeep = 6 * hour // the longest window

// step adds one amount, now or at a moment of the past, and changes another.
func (m *merging) step() {
	m.n++
	m.now += 1 + m.random.Int64N(6*second)
	m.log.Begin(m.now)
	calendar := m.look()
	amount := 1 + m.random.Int64N(1000)
	if m.random.IntN(10) > 0 {
		m.log.Add(amount)
		m.model.hits = append(m.model.hits, Piece{At: m.now, Amount: amount})
	} else {
		at := m.now - m.random.Int64N(mergingKeep)
		if m.log.Insert(at, amount, mergingKeep) {
			m.model.add(at, amount)
		}
	}
	m.change(&m.model.hits[m.random.IntN(len(m.model.hits))], m.random.Int64N(1500)-900)
	if m.n%50 == 0 {
		m.compare(calendar)
	}
	if len(m.log.sums.spans) > m.log.Len() {
		m.t.Fatalf("after %d: %d entries stand for %d spans", m.n, m.log.Len(), len(m.log.sums.spans))
	}
	if m.log.Len() > hardLen+slack {
		m.t.Fatalf("after %d: %d entries, want at most %d", m.n, m.log.Len(), hardLen+slack)
	}
}

// look asks for all windows.
func (m *merging) look() Calendar {
	m.log.Ask(0, Limit{Max: 1, Period: minute, Grain: Loose}, 1)
	m.log.Ask(1, Limit{Max: 1, Period: mergingKeep, Grain: Loose}, 1)
	c := calendarAt(hour, m.offset, 1, m.now)
	m.log.AskCalendar(2, c, 1)
	return c
}

// change changes the amount of a moment, by no more than it has.
func (m *merging) change(h *Piece, delta int64) {
	delta = max(delta, -h.Amount)
	switch found := m.log.AddAt(h.At, delta); {
	case found:
		h.Amount += delta
		m.hit++
	case m.now-h.At < mergingKeep && h.Amount > 0:
		m.t.Fatalf("after %d: what was added %d us ago is gone, want it kept for %d us", m.n, m.now-h.At, mergingKeep)
	default:
		m.gone++
	}
}

// compare compares all windows: those of the calendar are exact, the others may count a sub-window more.
func (m *merging) compare(c Calendar) {
	if got, want := m.log.AskCalendar(2, c, 1).Used, m.model.since(c.Start); got != want {
		m.t.Fatalf("after %d: the calendar's hour has %d, want %d", m.n, got, want)
	}
	for i, period := range []int64{minute, mergingKeep} {
		got := m.log.Ask(i, Limit{Max: 1, Period: period, Grain: Loose}, 1).Used
		least, most := m.model.since(m.now-period+1), m.model.since(m.now-period-period/SubWindows)
		if got < least || got > most {
			m.t.Fatalf("after %d: a window of %d us has %d, want %d to %d", m.n, period, got, least, most)
		}
	}
}

// clear takes all amounts back; nothing may be left over.
func (m *merging) clear() {
	m.log.Begin(m.now)
	for i := range m.model.hits {
		m.change(&m.model.hits[i], -m.model.hits[i].Amount)
	}
	if st := m.log.Ask(1, Limit{Max: 1, Period: mergingKeep, Grain: Loose}, 1); st != (State{}) {
		m.t.Errorf("after all was taken back the window is %+v, want empty", st)
	}
	if m.log.total() != 0 && m.gone == 0 {
		m.t.Errorf("after all was taken back %d is left", m.log.total())
	}
	if m.hit < 1000 || m.gone == 0 || len(m.log.sums.spans) == 0 {
		m.t.Errorf("%d changes found, %d gone, %d merged moments: the run shows little", m.hit, m.gone, len(m.log.sums.spans))
	}
}

// TestAMomentThatIsGoneStaysGone books at a moment that was forgotten: what was there before is not found in it.
func TestAMomentThatIsGoneStaysGone(t *testing.T) {
	log, start := NewSums(), int64(1e15)
	for n := range int64(100) {
		log.Begin(start + n*second)
		log.Ask(0, Limit{Max: 100, Period: 10 * second, Grain: Loose}, 1)
		log.Add(5)
	}
	if !log.Insert(start, 7, hour) {
		t.Fatal("a booking that an hour still sees is not kept")
	}
	if log.AddAt(start, -5) {
		t.Error("what was forgotten was taken from a later booking of the same moment")
	}
	if got := log.Ask(1, Limit{Max: 100, Period: hour, Grain: Loose}, 1).Used; got < 7+10*5 {
		t.Errorf("the hour has %d, want the booking and the last 10 hits at least", got)
	}
}

// TestSumsCannotPassTheirBound inserts and raises huge amounts.
func TestSumsCannotPassTheirBound(t *testing.T) {
	const huge, now = 1<<52 - 1, int64(1e15)
	log := NewSums()
	log.Begin(now)
	for n := range int64(3000) {
		log.Insert(now-n, huge, day)
		log.AddAt(now-n, huge)
	}
	if got := log.Ask(0, Limit{Max: 1, Period: day, Grain: Loose}, 1).Used; got != maxSum {
		t.Errorf("6,000 huge amounts sum up to %d, want the bound %d", got, int64(maxSum))
	}
	log.AddAt(now, -huge)
	if got := log.Ask(0, Limit{Max: 1, Period: day, Grain: Loose}, 1).Used; got >= maxSum || got <= 0 {
		t.Errorf("after one was taken back: %d, want less than the bound", got)
	}
}

// TestCalendarsAreBounded asks one log for the windows of many calendars over many years.
func TestCalendarsAreBounded(t *testing.T) {
	log, now := NewSums(), int64(1e15)
	for n := range int64(5000) {
		now += hour
		log.Begin(now)
		for offset := range int64(5) {
			log.AskCalendar(0, calendarAt(day, offset*hour+n%40, 1, now), 1)
		}
	}
	if n := len(log.sums.calendars); n > maxFollows {
		t.Errorf("%d windows are remembered, want at most %d", n, maxFollows)
	}
}
