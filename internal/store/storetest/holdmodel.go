package storetest

import (
	"slices"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// holdModel is the contract of holds in its plainest form. It keeps every hold and every entry for ever; what an entry is
// worth is asked of its hold each time. Its clock does not run back, and it knows no overrides and no refunds.
type holdModel struct {
	now   int64
	logs  map[logName][]*holdEntry
	holds map[holdName]*modelHold
	lines map[store.Subject][]*waiter
	// resets are the moments of the last resets.
	resets map[store.Subject]int64
}

// holdName names a hold: ids are unique among the holds of one first subject.
type holdName struct {
	first store.Subject
	id    string
}

// holdEntry is what one request, hold or booking has put into a log.
type holdEntry struct {
	at     int64
	amount int64      // without a hold
	hold   *modelHold // nil for none
}

// modelHold is one hold, or what was booked without one.
type modelHold struct {
	print       uint64
	at, expires int64
	usd, tokens int64 // held
	release     bool  // on expiry
	slots       []store.Subject
	end         *store.Settled // nil until it is settled
	endPrint    uint64
	booked      bool // it was never held
	cut         bool // a subject of it was reset
}

// waiter is one place in a line.
type waiter struct {
	name holdName
	last int64 // when it was last asked for
}

// verdict is what the model says to a request.
type verdict struct {
	store.Answer
	err error
	// soonest are the least waits that the contract allows, in the order of the states.
	soonest []time.Duration
	// lines says that waiters stood in a line, so that a wait for a slot is no more than a guess.
	lines bool
}

// newHoldModel returns a model of an empty store.
func newHoldModel() *holdModel {
	return &holdModel{
		logs: make(map[logName][]*holdEntry), holds: make(map[holdName]*modelHold), lines: make(map[store.Subject][]*waiter),
		resets: make(map[store.Subject]int64),
	}
}

// status is what a hold is at a moment.
func (h *modelHold) status(now int64) store.HoldStatus {
	switch {
	case h.end != nil:
		return h.end.Status
	case now >= h.expires:
		return store.Expired
	default:
		return store.Active
	}
}

// held is what a hold holds of a unit, or did.
func (h *modelHold) held(u store.Unit) int64 {
	switch u {
	case store.USD:
		return h.usd
	case store.Tokens:
		return h.tokens
	case store.Requests, store.Concurrent:
	}
	return 0
}

// worth is what an entry counts at a moment.
func (e *holdEntry) worth(u store.Unit, now int64) int64 {
	switch h := e.hold; {
	case h == nil:
		return e.amount
	case h.end != nil && u == store.USD:
		return h.end.USD
	case h.end != nil:
		return h.end.Tokens
	case h.status(now) == store.Expired && h.release:
		return 0
	default:
		return h.held(u)
	}
}

// lives tells whether what was taken at a moment counts in a limit's window now, and when it leaves.
func lives(l *store.Limit, at, now int64) (leaves int64, live bool) {
	if l.Calendar != nil {
		start, end := l.Calendar.Window(now)
		return end, start <= at && at < end
	}
	leaves = at + us(l.Period)
	return leaves, at <= now && now < leaves
}

// used is what counts in a limit's window at a moment, entries being worth what they are at another one.
func (m *holdModel) used(log logName, l *store.Limit, now, worthAt int64) int64 {
	sum := int64(0)
	for _, e := range m.logs[log] {
		if _, live := lives(l, e.at, now); live {
			sum += e.worth(log.unit, worthAt)
		}
	}
	return sum
}

// state is one limit of requests, tokens or money, and the least wait that the contract allows.
func (m *holdModel) state(log logName, l *store.Limit, need int64) (state store.State, soonest time.Duration) {
	st := store.State{Used: m.used(log, l, m.now, m.now), Wait: store.Never}
	first, moments := int64(0), []int64{m.now}
	for _, e := range m.logs[log] {
		leaves, live := lives(l, e.at, m.now)
		if !live || e.worth(log.unit, m.now) == 0 {
			continue
		}
		moments = append(moments, leaves)
		if first == 0 || leaves < first {
			first = leaves
		}
		if e.hold != nil && e.hold.expires > m.now {
			moments = append(moments, e.hold.expires)
		}
	}
	if first > 0 {
		st.Reset = time.Duration(first-m.now) * micro
	}
	if need == 0 {
		st.Wait = 0
	}
	if need == 0 || need > l.Max {
		return st, st.Wait
	}
	slices.Sort(moments)
	fits := func(worthAt func(int64) int64) time.Duration {
		for _, then := range moments {
			if m.used(log, l, then, worthAt(then))+need <= l.Max {
				return time.Duration(then-m.now) * micro
			}
		}
		return store.Never // never reached: an empty window has room for what is not above the limit
	}
	st.Wait = fits(func(int64) int64 { return m.now })
	return st, fits(func(then int64) int64 { return then })
}

// slots is the state of a limit of slots with some waiters ahead.
func (m *holdModel) slots(s store.Subject, l *store.Limit, ahead int64) store.State {
	var ends []int64
	for _, h := range m.holds {
		if h.status(m.now) == store.Active && slices.Contains(h.slots, s) {
			ends = append(ends, h.expires)
		}
	}
	slices.Sort(ends)
	st := store.State{Used: int64(len(ends))}
	if len(ends) > 0 {
		st.Reset = time.Duration(ends[0]-m.now) * micro
	}
	switch over := st.Used + ahead + 1 - l.Max; {
	case l.Max < 1:
		st.Wait = store.Never
	case over > int64(len(ends)): // waiters alone fill it
		st.Wait = store.MaxLease
	case over > 0:
		st.Wait = time.Duration(ends[over-1]-m.now) * micro
	}
	return st
}

// ahead is how many waiters stand before a hold in a subject's line.
func (m *holdModel) ahead(s store.Subject, name holdName) int64 {
	m.lines[s] = slices.DeleteFunc(m.lines[s], func(w *waiter) bool { return m.now >= w.last+us(store.WaiterLife) })
	for i, w := range m.lines[s] {
		if w.name == name {
			return int64(i)
		}
	}
	return int64(len(m.lines[s]))
}

// known is the hold of a name; nil if none is known any more.
func (m *holdModel) known(name holdName) *modelHold {
	h := m.holds[name]
	if h == nil || m.now >= h.forgotten() {
		return nil
	}
	return h
}

// forgotten is the moment from which a hold need not be known.
func (h *modelHold) forgotten() int64 {
	if h.end != nil {
		return h.end.Now + us(store.KeepAnswers)
	}
	return h.expires + us(store.KeepAnswers)
}

// need is what a check asks for; 0 if it asks for nothing and passes.
func need(c *store.Check, h *modelHold) int64 {
	switch {
	case h == nil:
		return max(c.Amount, 1)
	case c.Unit == store.USD, c.Unit == store.Tokens:
		return max(c.Amount-h.held(c.Unit), 0)
	default:
		return 0
	}
}

// look answers how everything stands: whether the checks pass, or what is missing of a hold's.
func (m *holdModel) look(checks []store.Check, name holdName, extended *modelHold) *verdict {
	v := &verdict{Answer: store.Answer{Admitted: true, Now: m.now}}
	for i := range checks {
		c := &checks[i]
		log := logName{c.Subject, c.Unit}
		held := int64(0)
		for _, e := range m.logs[log] {
			if e.hold != nil && e.hold.status(m.now) == store.Active {
				held += e.hold.held(c.Unit)
			}
		}
		v.Held = append(v.Held, held)
		for j := range c.Limits {
			l := &c.Limits[j]
			var st store.State
			var soonest time.Duration
			if c.Unit == store.Concurrent {
				st = m.slots(c.Subject, l, m.ahead(c.Subject, name))
				soonest = st.Wait
				v.lines = v.lines || len(m.lines[c.Subject]) > 0
			} else {
				st, soonest = m.state(log, l, need(c, extended))
			}
			v.Admitted = v.Admitted && (l.Shadow || st.Wait == 0)
			v.States = append(v.States, st)
			v.soonest = append(v.soonest, soonest)
		}
	}
	return v
}

// lacksSlotsAlone tells whether slots are all that a denied request lacks, and of which subjects.
func lacksSlotsAlone(checks []store.Check, v *verdict) (lacks []store.Subject, alone bool) {
	next := 0
	for i := range checks {
		for _, l := range checks[i].Limits {
			if v.States[next].Wait != 0 && !l.Shadow {
				if checks[i].Unit != store.Concurrent || v.States[next].Wait == store.Never {
					return nil, false
				}
				lacks = append(lacks, checks[i].Subject)
			}
			next++
		}
	}
	return lacks, len(lacks) > 0
}

// stands is what a hold's answer says of it.
func (h *modelHold) stands(now int64, repeat bool) store.HoldState {
	return store.HoldState{Status: h.status(now), Repeat: repeat, At: h.at, Expires: h.expires, USD: h.usd, Tokens: h.tokens}
}

// admit decides.
func (m *holdModel) admit(req *store.Request) *verdict {
	if req.Look || req.Hold == nil {
		v := m.look(req.Checks, holdName{}, nil)
		if v.Admitted && !req.Look {
			m.take(req, nil)
			m.after(req.Checks, v)
		}
		return v
	}
	name := holdName{req.Checks[0].Subject, req.Hold.ID}
	known := m.known(name)
	switch {
	case known == nil && req.Hold.Extend:
		return &verdict{err: store.ErrNoHold}
	case known == nil:
		return m.reserve(req, name)
	case known.print != req.Hold.Fingerprint && (req.Hold.Fingerprint != 0 || !req.Hold.Extend):
		return &verdict{err: store.ErrMismatch}
	case !req.Hold.Extend || known.status(m.now) != store.Active:
		v := m.look(req.Checks, holdName{}, nil)
		v.Hold = known.stands(m.now, !req.Hold.Extend)
		return v
	default:
		return m.extend(req, known)
	}
}

// reserve decides a request with a hold that is not known.
func (m *holdModel) reserve(req *store.Request, name holdName) *verdict {
	v := m.look(req.Checks, name, nil)
	if v.Admitted {
		h := &modelHold{
			print: req.Hold.Fingerprint, at: m.now, expires: m.now + us(req.Hold.Lease),
			usd: req.Hold.USD, tokens: req.Hold.Tokens, release: req.Hold.ReleaseOnExpiry,
		}
		m.holds[name] = h
		m.leave(name)
		m.take(req, h)
		m.after(req.Checks, v)
		v.Hold = h.stands(m.now, false)
		return v
	}
	if !req.Hold.InLine {
		return v
	}
	lacks, alone := lacksSlotsAlone(req.Checks, v)
	if !alone {
		return v
	}
	v.Hold.Queued = true
	for _, s := range lacks {
		place := m.ahead(s, name)
		v.Hold.Ahead = max(v.Hold.Ahead, int(place))
		if place == int64(len(m.lines[s])) {
			m.lines[s] = append(m.lines[s], &waiter{name: name})
		}
		m.lines[s][place].last = m.now
	}
	return v
}

// extend renews a lease and takes what is missing.
func (m *holdModel) extend(req *store.Request, h *modelHold) *verdict {
	v := m.look(req.Checks, holdName{}, h)
	h.expires = m.now + us(req.Hold.Lease)
	if v.Admitted {
		h.usd, h.tokens = max(h.usd, req.Hold.USD), max(h.tokens, req.Hold.Tokens)
	}
	m.after(req.Checks, v)
	v.Hold = h.stands(m.now, false)
	return v
}

// take takes what checks ask for, by a hold if there is one.
func (m *holdModel) take(req *store.Request, h *modelHold) {
	for i := range req.Checks {
		c := &req.Checks[i]
		log := logName{c.Subject, c.Unit}
		switch {
		case c.Unit == store.Concurrent && c.Amount > 0:
			h.slots = append(h.slots, c.Subject)
		case c.Unit == store.Concurrent:
		case c.Unit == store.Requests || h == nil:
			m.logs[log] = append(m.logs[log], &holdEntry{at: m.now, amount: c.Amount})
		default:
			m.logs[log] = append(m.logs[log], &holdEntry{at: m.now, hold: h})
		}
	}
}

// after brings a verdict's uses up to date with what was taken; its waits are those before.
func (m *holdModel) after(checks []store.Check, v *verdict) {
	then := m.look(checks, holdName{}, nil)
	for i := range v.States {
		v.States[i].Used, v.States[i].Reset = then.States[i].Used, then.States[i].Reset
	}
	v.Held = then.Held
}

// leave gives up a hold's places in all lines.
func (m *holdModel) leave(name holdName) {
	for s := range m.lines {
		m.lines[s] = slices.DeleteFunc(m.lines[s], func(w *waiter) bool { return w.name == name })
	}
}

// settle settles.
func (m *holdModel) settle(st *store.Settlement) (store.Settled, error) {
	name := holdName{st.Parts[0].Subject, st.ID}
	h := m.known(name)
	switch {
	case st.Release && (h == nil || st.Waiting):
		m.leave(name)
		return store.Settled{}, store.ErrNoHold
	case h == nil && st.Book == 0:
		m.leave(name)
		return store.Settled{}, store.ErrNoHold
	case h == nil:
		return *m.book(st, name).end, nil
	case h.end != nil && h.endPrint != st.Fingerprint:
		return store.Settled{}, store.ErrMismatch
	case h.end != nil:
		again := *h.end
		again.Repeat = true
		return again, nil
	}
	end := store.Settled{
		Was: h.status(m.now), Status: store.Closed, Now: m.now, At: h.at,
		HeldUSD: h.usd, HeldTokens: h.tokens, USD: st.USD, Tokens: st.Tokens, Memo: slices.Clone(st.Memo),
	}
	switch {
	case st.Release:
		end.Status, end.USD, end.Tokens = store.Released, 0, 0
	case st.Keep:
		end.USD, end.Tokens = h.usd, h.tokens
	}
	h.end, h.endPrint = &end, st.Fingerprint
	return end, nil
}

// book books without a hold.
func (m *holdModel) book(st *store.Settlement, name holdName) *modelHold {
	at := min(st.Book, m.now)
	h := &modelHold{at: at, expires: m.now, booked: true, endPrint: st.Fingerprint, end: &store.Settled{
		Was: store.NoHold, Status: store.Closed, Now: m.now, At: at, USD: st.USD, Tokens: st.Tokens, Memo: slices.Clone(st.Memo),
	}}
	m.holds[name] = h
	for _, p := range st.Parts {
		for unit, period := range map[store.Unit]time.Duration{store.USD: p.USD, store.Tokens: p.Tokens} {
			if period > 0 {
				log := logName{p.Subject, unit}
				m.logs[log] = append(m.logs[log], &holdEntry{at: at, hold: h})
			}
		}
	}
	return h
}

// reset forgets a subject's entries; its holds live on without them.
func (m *holdModel) reset(s store.Subject) {
	m.resets[s] = m.now
	for log, entries := range m.logs {
		if log.subject != s {
			continue
		}
		for _, e := range entries {
			if e.hold != nil {
				e.hold.cut = true
			}
		}
		delete(m.logs, log)
	}
}
