package window

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestStories runs testdata/windows.txt, whose head says how to read it.
func TestStories(t *testing.T) {
	file, err := os.Open("testdata/windows.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	log, story := new(Log), ""
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if name, ok := strings.CutPrefix(line, "story: "); ok {
			log, story = new(Log), name
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		ask, want, ok := strings.Cut(line, "=>")
		if !ok {
			t.Fatalf("windows.txt:%d: no => in the line", n)
		}
		got := tell(t, log, strings.Fields(ask))
		if want := strings.Join(strings.Fields(want), " "); got != want {
			t.Errorf("windows.txt:%d: %s\n%s\n got %s\nwant %s", n, story, line, got, want)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// tell does what one line asks and writes what came of it.
func tell(t *testing.T, log *Log, f []string) string {
	t.Helper()
	log.Begin(moment(t, f[0]))
	switch f[1] {
	case "size":
		return strconv.Itoa(log.Len())
	case "take":
		return take(log, number(t, f[2]), limits(t, f[3:]))
	case "back":
		if len(f) > 3 && f[3] == "at" {
			return strconv.FormatInt(log.TakeBackAt(moment(t, f[4]), number(t, f[2])), 10)
		}
		for i, l := range limits(t, f[3:]) {
			log.Ask(i, l, 1)
		}
		var out []string
		for _, p := range log.TakeBack(number(t, f[2]), nil) {
			out = append(out, fmt.Sprintf("%d@%s", p.Amount, write(p.At)))
		}
		return strings.Join(out, " ")
	default:
		t.Fatalf("unknown command %q", f[1])
		return ""
	}
}

// take makes one decision as a store does.
func take(log *Log, amount int64, limits []Limit) string {
	fits := true
	states := make([]State, len(limits))
	for i, l := range limits {
		states[i] = log.Ask(i, l, max(amount, 1))
		fits = fits && states[i].Wait == 0
	}
	out := "no"
	if fits {
		out = "yes"
		if amount > 0 {
			log.Add(amount)
			for i, l := range limits {
				wait := states[i].Wait
				states[i] = log.Ask(i, l, 1)
				states[i].Wait = wait
			}
		}
	}
	for _, st := range states {
		wait := "never"
		if st.Wait != Never {
			wait = write(st.Wait)
		}
		out += fmt.Sprintf(" %d,%s,%s", st.Used, write(st.Reset), wait)
	}
	return out
}

// limits reads windows.
func limits(t *testing.T, fields []string) []Limit {
	t.Helper()
	var out []Limit
	for _, f := range fields {
		l := Limit{Grain: Exact}
		if rest, ok := strings.CutSuffix(f, "~"); ok {
			f, l.Grain = rest, Loose
		} else if rest, ok := strings.CutSuffix(f, "*"); ok {
			f, l.Grain = rest, Coarse
		}
		most, period, _ := strings.Cut(f, "/")
		l.Max, l.Period = number(t, most), moment(t, period)
		out = append(out, l)
	}
	return out
}

// number reads an amount.
func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// moment reads a time or a period in microseconds.
func moment(t *testing.T, s string) int64 {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d.Microseconds()
}

// write writes microseconds as the stories do: in minutes if they are whole, else in seconds, else in milliseconds.
func write(us int64) string {
	d := time.Duration(us) * time.Microsecond
	switch {
	case d != 0 && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d%time.Second == 0:
		return fmt.Sprintf("%ds", d/time.Second)
	default:
		return fmt.Sprintf("%dms", d/time.Millisecond)
	}
}
