package storetest

import (
	"slices"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// model is the contract in its plainest form: it keeps the time of every hit in a slice, for ever, and computes every
// answer from all of them. Nothing in it is fast.
type model struct {
	now       int64
	logs      map[logName]*modelLog
	overrides map[store.Subject]store.Stale
}

// logName names one log.
type logName struct {
	subject store.Subject
	unit    store.Unit
}

// modelLog is one log.
type modelLog struct {
	hits  []modelHit // in the order of time
	asked map[int64]int64
	total int64 // taken and not given back
}

// modelHit is one hit.
type modelHit struct {
	at, amount int64
}

// newModel returns a model of an empty store.
func newModel() *model {
	return &model{logs: make(map[logName]*modelLog), overrides: make(map[store.Subject]store.Stale)}
}

// log returns the log that a check is about.
func (m *model) log(c *store.Check) *modelLog {
	key := logName{c.Subject, c.Unit}
	if m.logs[key] == nil {
		m.logs[key] = &modelLog{asked: make(map[int64]int64)}
	}
	return m.logs[key]
}

// time is the log's time when the clock says now.
func (l *modelLog) time(now int64) int64 {
	for _, h := range l.hits {
		now = max(now, h.at)
	}
	return now
}

// used is what is live in a window.
func (l *modelLog) used(period, now int64) int64 {
	sum := int64(0)
	for _, h := range l.hits {
		if h.at <= now && now < h.at+period {
			sum += h.amount
		}
	}
	return sum
}

// leaves is the moment at which the oldest live hit leaves; the clock's if there is none.
func (l *modelLog) leaves(period, now, clock int64) int64 {
	for _, h := range l.hits {
		if h.amount > 0 && h.at <= now && now < h.at+period {
			return h.at + period
		}
	}
	return clock
}

// wait is how long it takes by the clock until need fits: it tries now and every moment at which a hit leaves.
func (l *modelLog) wait(need int64, lim *store.Limit, now, clock int64) time.Duration {
	if need > lim.Max {
		return store.Never
	}
	period := us(lim.Period)
	if l.used(period, now)+need <= lim.Max {
		return 0
	}
	for _, h := range l.hits {
		then := h.at + period
		if then > now && l.used(period, then)+need <= lim.Max {
			return time.Duration(then-clock) * time.Microsecond
		}
	}
	return store.Never // never reached: an empty window has room for what is not above the limit
}

// stale lists the checks that were made from another override than the one that stands.
func (m *model) stale(checks []store.Check) []store.Stale {
	var out []store.Stale
	for i := range checks {
		if own := m.overrides[checks[i].Subject]; own.Version != checks[i].Override {
			own.Check = i
			out = append(out, own)
		}
	}
	return out
}

// look answers how everything stands, and whether all of the checks fit.
func (m *model) look(checks []store.Check) store.Answer {
	ans := store.Answer{Admitted: true, Now: m.now}
	for i := range checks {
		c := &checks[i]
		log := m.log(c)
		now := log.time(m.now)
		for j := range c.Limits {
			lim := &c.Limits[j]
			period := us(lim.Period)
			log.asked[period] = now
			st := store.State{
				Used:  log.used(period, now),
				Reset: time.Duration(log.leaves(period, now, m.now)-m.now) * time.Microsecond,
				Wait:  log.wait(max(c.Amount, 1), lim, now, m.now),
			}
			ans.Admitted = ans.Admitted && (lim.Shadow || st.Wait == 0)
			ans.States = append(ans.States, st)
		}
	}
	return ans
}

// take counts the hits of checks that have been admitted.
func (m *model) take(checks []store.Check) {
	for i := range checks {
		c := &checks[i]
		if c.Amount > 0 {
			log := m.log(c)
			log.hits = append(log.hits, modelHit{at: log.time(m.now), amount: c.Amount})
			log.total += c.Amount
		}
	}
}

// admit decides.
func (m *model) admit(checks []store.Check) store.Answer {
	if stale := m.stale(checks); stale != nil {
		return store.Answer{Now: m.now, Stale: stale}
	}
	ans := m.look(checks)
	if !ans.Admitted {
		return ans
	}
	m.take(checks)
	after := m.look(checks)
	for i := range after.States {
		after.States[i].Wait = ans.States[i].Wait // the wait is that of the amount before it was taken
	}
	after.Admitted = true
	return after
}

// retention is the longest period of which a hit can still be live.
func (l *modelLog) retention(now int64) int64 {
	longest := int64(0)
	for period, asked := range l.asked {
		if now-asked < period {
			longest = max(longest, period)
		}
	}
	return longest
}

// takeBack takes up to amount from the live hits at or before a moment, the newest first, and tells from when.
func (l *modelLog) takeBack(amount, before, now int64) []modelHit {
	var pieces []modelHit
	retention := l.retention(now)
	for i := len(l.hits) - 1; i >= 0; i-- {
		h := &l.hits[i]
		if took := min(amount, h.amount); h.at <= before && now < h.at+retention && took > 0 {
			h.amount -= took
			l.total -= took
			amount -= took
			pieces = append(pieces, modelHit{at: h.at, amount: took})
		}
	}
	return pieces
}

// refund gives back.
func (m *model) refund(checks []store.Check) (int64, store.Answer) {
	if stale := m.stale(checks); stale != nil {
		return 0, store.Answer{Now: m.now, Stale: stale}
	}
	peek := make([]store.Check, len(checks))
	copy(peek, checks)
	for i := range peek {
		peek[i].Amount = 0
	}
	m.look(peek)
	first := m.log(&checks[0])
	now := first.time(m.now)
	took := int64(0)
	pieces := first.takeBack(checks[0].Amount, now, now)
	for _, p := range pieces {
		took += p.amount
	}
	for i := 1; i < len(checks); i++ {
		log, left := m.log(&checks[i]), checks[i].Amount
		for _, p := range pieces {
			for _, back := range log.takeBack(min(left, p.amount), p.at, log.time(m.now)) {
				left -= back.amount
			}
		}
	}
	return took, m.look(peek)
}

// refundAt gives back the hits of one moment, check by check.
func (m *model) refundAt(at int64, checks []store.Check) (int64, store.Answer) {
	if stale := m.stale(checks); stale != nil {
		return 0, store.Answer{Now: m.now, Stale: stale}
	}
	peek := slices.Clone(checks)
	for i := range peek {
		peek[i].Amount = 0
	}
	m.look(peek)
	first := int64(0)
	for i := range checks {
		log := m.log(&checks[i])
		for _, p := range log.takeBack(checks[i].Amount, at, log.time(m.now)) {
			if i == 0 {
				first += p.amount
			}
		}
	}
	return first, m.look(peek)
}

// reset forgets a subject's hits.
func (m *model) reset(s store.Subject) {
	for key := range m.logs {
		if key.subject == s {
			delete(m.logs, key)
		}
	}
}
