package storetest

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// quirk is how a simulated store breaks the contract. The zero value keeps it.
type quirk struct {
	extra  int64 // hits above each limit that it admits; below 0: that it keeps back
	charge int   // index of the log that a denied call is charged to, from 1; 0 for none
	edit   func([]record)
}

// simulate runs a store over the logs of a concurrent run and records its answers.
func simulate(seed uint64, q quirk) []record {
	random := rand.New(rand.NewPCG(seed, 0))
	m := newModel()
	m.now = epoch
	limits := runLimits()
	asks := make([][]store.Limit, len(limits)) // what the broken store takes the limits for
	for log := range limits {
		for _, l := range limits[log] {
			l.Max += q.extra
			asks[log] = append(asks[log], l)
		}
	}
	var records []record
	for range 400 {
		m.now += random.Int64N(us(2 * time.Millisecond))
		amount := random.Int64N(3)
		checks := []store.Check{hit(alice, amount, asks[0]...), hit(global, amount, asks[1]...)}
		ans := m.admit(checks)
		if !ans.Admitted && q.charge > 0 {
			m.take([]store.Check{hit(checks[q.charge-1].Subject, 1)})
		}
		rec := record{admitted: ans.Admitted, now: m.now, sent: m.now - epoch - 1, received: m.now - epoch + 1}
		next := 0
		for log := range checks {
			seq := m.log(&checks[log]).total
			if !ans.Admitted && q.charge == log+1 {
				seq-- // the answer was made before the charge
			}
			rec.asked = append(rec.asked, asked{log: log, at: m.now, amount: amount, seq: seq, states: ans.States[next : next+len(asks[log])]})
			next += len(asks[log])
		}
		records = append(records, rec)
	}
	if q.edit != nil {
		q.edit(records)
	}
	return records
}

// lastWhere returns the last record that a test finds.
func lastWhere(records []record, found func(*record) bool) *record {
	for i := len(records) - 1; i >= 0; i-- {
		if found(&records[i]) {
			return &records[i]
		}
	}
	return nil
}

func TestCheckerFindsWhatIsWrong(t *testing.T) {
	const (
		// A charge is a gap in the sequence if a later call is admitted, else a use that no admitted call explains.
		charged = "brought the sequence|by the hits before it"
		// Whether callers can tell depends on the moments.
		whatever = ".*"
	)
	isAdmitted := func(r *record) bool { return r.admitted && r.asked[0].amount > 0 }
	isDenied := func(r *record) bool { return !r.admitted }
	for _, tt := range []struct {
		name string
		q    quirk
		want string // a pattern of one of the findings; "" for no finding
		weak string // likewise with the weak promise
	}{
		{"a store that keeps the contract", quirk{}, "", ""},
		{"one hit too many", quirk{extra: 1}, "were admitted in the", "callers were admitted"},
		{"one hit too many, told so late that callers cannot tell", quirk{extra: 1, edit: func(records []record) {
			for i := range records {
				records[i].sent -= us(sec)
				records[i].received += us(sec)
			}
		}}, "were admitted in the", "were admitted in the"},
		{"a denial without need", quirk{extra: -1}, "its windows say true", ""},
		{"a denied call is charged to the user", quirk{charge: 1}, charged, ""},
		{"a denied call is charged to all", quirk{charge: 2}, charged, ""},
		{"one denial that was admitted", quirk{edit: func(records []record) {
			r := lastWhere(records, isAdmitted)
			r.admitted = false
		}}, "by the hits before it", ""},
		{"two calls that share a sequence number", quirk{edit: func(records []record) {
			twin := *lastWhere(records, isAdmitted)
			copy(records, append(records[1:], twin))
		}}, "brought the sequence", whatever},
		{"a use that was not so", quirk{edit: func(records []record) {
			r := lastWhere(records, isDenied)
			r.asked[1].states = append([]store.State(nil), r.asked[1].states...)
			r.asked[1].states[0].Used++
		}}, "by the hits before it", ""},
		{"one denial without need", quirk{edit: func(records []record) {
			r := lastWhere(records, func(r *record) bool { return r.admitted && r.asked[0].amount == 0 })
			r.admitted = false
		}}, "its windows say true", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(3) {
				records := simulate(seed, tt.q)
				wantFinding(t, seed, "all", (&checker{logs: runLimits()}).check(records), tt.want)
				wantFinding(t, seed, "weak", (&checker{logs: runLimits(), weak: true}).check(records), tt.weak)
			}
		})
	}
}

// wantFinding fails unless one of the findings matches; or, for no pattern, if there is one.
func wantFinding(t *testing.T, seed uint64, what string, findings []string, text string) {
	t.Helper()
	if text == "" {
		if len(findings) > 0 {
			t.Errorf("seed %d, %s: found %q, want nothing", seed, what, findings[0])
		}
		return
	}
	re := regexp.MustCompile(text)
	if !slices.ContainsFunc(findings, re.MatchString) && !re.MatchString("") {
		t.Errorf("seed %d, %s: found %q, want one with %q", seed, what, findings, text)
	}
}

// TestHostileSubjectsAreDifferent guards the suite's own list.
func TestHostileSubjectsAreDifferent(t *testing.T) {
	seen := make(map[store.Subject]bool)
	for _, s := range hostileSubjects() {
		if seen[s] || s == global {
			t.Errorf("%s is named twice", name(s))
		}
		seen[s] = true
	}
}
