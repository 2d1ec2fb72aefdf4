package window

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

const (
	second = 1_000_000
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
)

// TestLogIsBounded floods logs and watches their length.
func TestLogIsBounded(t *testing.T) {
	const most = hardLen + slack
	for _, tt := range []struct {
		name   string
		apart  int64
		limits [][]Limit // asked in turn
		length int       // never more entries than this
	}{
		{"a million a day", 100_000, [][]Limit{{{Max: 1e6, Period: day, Grain: Coarse}}}, SubWindows + 2},
		{"three coarse windows", 10_000, [][]Limit{{
			{Max: 1e5, Period: minute, Grain: Coarse}, {Max: 1e6, Period: hour, Grain: Coarse}, {Max: 1e7, Period: day, Grain: Coarse},
		}}, ExactHits + slack},
		{"an exact second beside a coarse day", 1000, [][]Limit{{
			{Max: 2000, Period: second, Grain: Exact}, {Max: 1e7, Period: day, Grain: Coarse},
		}}, ExactHits + slack},
		{"a loose window", second, [][]Limit{{{Max: 1e9, Period: day, Grain: Loose}}}, ExactHits + slack},
		{"two callers, one of whom floods what is exact to the other", second, [][]Limit{
			{{Max: 0, Period: hour, Grain: Exact}, {Max: 0, Period: day, Grain: Exact}},
			{{Max: 1e9, Period: day, Grain: Coarse}},
		}, most},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log, now := new(Log), int64(1e15)
			for n := range 60_000 {
				now += tt.apart
				log.Begin(now)
				for i, l := range tt.limits[n%len(tt.limits)] {
					log.Ask(i, l, 1)
				}
				if n%len(tt.limits) == len(tt.limits)-1 {
					log.Add(1)
				}
				if log.Len() > tt.length {
					t.Fatalf("hit %d: %d entries, want at most %d", n, log.Len(), tt.length)
				}
			}
		})
	}
}

// TestMergedHitsErrOnlyTowardsDenying compares full logs with all of their hits, also just after they were merged.
func TestMergedHitsErrOnlyTowardsDenying(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for run := range uint64(10) {
		compareMerged(t, rand.New(rand.NewPCG(seed, run)))
	}
}

// compareMerged makes one run.
func compareMerged(t *testing.T, random *rand.Rand) {
	t.Helper()
	log, now := new(Log), int64(1e15)
	windows := []Limit{
		{Max: 1000, Period: minute, Grain: Exact}, {Max: 1e6, Period: hour, Grain: Coarse}, {Max: 1e7, Period: day, Grain: Loose},
	}
	var hits []int64
	for n := range 20_000 {
		now += random.Int64N(8 * second)
		log.Begin(now)
		for i, l := range windows {
			log.Ask(i, l, 1)
		}
		merged := log.Add(1)
		hits = append(hits, now)
		if n%50 != 0 && !merged {
			continue
		}
		for i, l := range windows {
			used := log.Ask(i, l, 1).Used
			least, most := live(hits, l.Period, now), live(hits, l.Period+l.Period/SubWindows+hour/SubWindows, now)
			if l.Grain == Exact {
				most = least
			}
			if used < least || used > most {
				t.Fatalf("hit %d: window %d has %d, want %d to %d", n, i, used, least, most)
			}
		}
	}
}

// live counts the hits in a window.
func live(hits []int64, period, now int64) int64 {
	n := int64(0)
	for i := len(hits) - 1; i >= 0 && now < hits[i]+period; i-- {
		n++
	}
	return n
}

// TestMemory bounds what 500 hits of a day take, and shows that it is given back.
func TestMemory(t *testing.T) {
	log, now := new(Log), int64(1e15)
	windows := []Limit{{Max: 10, Period: minute}, {Max: 100, Period: hour}, {Max: 500, Period: day}}
	for range 500 {
		now += minute
		hit(log, now, windows)
	}
	if log.Bytes() > 9<<10 {
		t.Errorf("500 hits take %d bytes, want at most 9 KiB", log.Bytes())
	}
	for range 1000 {
		now += hour
		hit(log, now, windows)
	}
	if log.Bytes() > 2<<10 {
		t.Errorf("24 live hits take %d bytes, want at most 2 KiB", log.Bytes())
	}
}

// hit adds one hit.
func hit(log *Log, now int64, windows []Limit) {
	log.Begin(now)
	for i, l := range windows {
		log.Ask(i, l, 1)
	}
	log.Add(1)
}

// TestRoom shows that no amount can overflow a log's sums, and that room comes back.
func TestRoom(t *testing.T) {
	const huge = 1<<52 - 1
	log, now, n := new(Log), int64(1e15), 0
	for ; n < 5000; n++ {
		now++
		log.Begin(now)
		log.Ask(0, Limit{Max: huge, Period: day, Grain: Loose}, 1)
		if !log.Room(huge) {
			break
		}
		log.Add(huge)
	}
	if n < 1000 || n >= 5000 {
		t.Fatalf("%d huge amounts had room, want about 1024", n)
	}
	log.Begin(now + 2*day)
	log.Ask(0, Limit{Max: huge, Period: day, Grain: Loose}, 1)
	if !log.Room(huge) {
		t.Error("no room after all has died")
	}
}

// TestManyPeriods shows that a log follows a bounded number of windows, keeps the longest, and answers all of them.
func TestManyPeriods(t *testing.T) {
	log, now := new(Log), int64(1e15)
	for n := range int64(1000) {
		log.Begin(now + n)
		log.Ask(0, Limit{Max: 5000, Period: day}, 1)
		if st := log.Ask(1, Limit{Max: 5000, Period: 100 + n}, 1); st.Used != min(n, 99+n) {
			t.Fatalf("window %d has %d, want %d", n, st.Used, min(n, 99+n))
		}
		log.Add(1)
	}
	if len(log.follows) > maxFollows {
		t.Errorf("the log follows %d windows, want at most %d", len(log.follows), maxFollows)
	}
	log.Begin(now + 2000)
	if got := log.retention(log.now); got != day {
		t.Errorf("the log keeps hits for %d us, want a day", got)
	}
}

// BenchmarkTake takes one hit under three windows.
func BenchmarkTake(b *testing.B) {
	for _, apart := range []int64{1, second, minute} {
		b.Run(fmt.Sprintf("%dus apart", apart), func(b *testing.B) {
			log, now := new(Log), int64(1e15)
			windows := []Limit{{Max: 10, Period: minute}, {Max: 100, Period: hour}, {Max: 500, Period: day}}
			for b.Loop() {
				now += apart
				log.Begin(now)
				fits := true
				for i, l := range windows {
					fits = log.Ask(i, l, 1).Wait == 0 && fits
				}
				if fits {
					log.Add(1)
				}
			}
		})
	}
}
