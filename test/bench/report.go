package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// report is everything that one benchmark found.
type report struct {
	Machine  machine       `json:"machine"`
	Rounds   int           `json:"rounds"`
	Rate     int           `json:"open_loop_rate"`
	Settings []string      `json:"settings"`
	Runs     []*run        `json:"runs"`
	Classic  []*classicRun `json:"classic"`
	Bytes    *bytesPerUser `json:"bytes_per_user,omitempty"`

	Footprint *footprint `json:"footprint,omitempty"`
	Trips     []trips    `json:"trips,omitempty"`
	Books     []*books   `json:"books,omitempty"`
	Targets   []target   `json:"targets"`
}

// bytesPerUser is what a user with 500 hits in the day takes in Redis.
type bytesPerUser struct {
	Ours    int64 `json:"ours"`
	Classic int64 `json:"classic"`
}

// ratio is our share of the classic's bytes.
func (b *bytesPerUser) ratio() float64 { return float64(b.Ours) / float64(b.Classic) }

// print writes the tables, the faults and one line per target.
func (r *report) print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s\n", r.Machine)

	for _, setting := range r.Settings {
		fmt.Fprintf(out, "%s\n", setting)
	}

	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)

	fmt.Fprintf(out, "\nMedians over %d rounds; ratio: to the ceiling in the same round, median (min..max)\n", r.Rounds)
	fmt.Fprintln(out, "ceiling: the same gRPC server with the same garbage collection, answering OK without deciding")
	fmt.Fprintln(out, "by CPU: the ceiling's CPU time per call, of all processes together, over this one's: what a closed loop's "+
		"ratio\nwould be if the machine had nothing else to do and no core ever waited")
	fmt.Fprintln(out, "us: CPU time per call; depth: decisions per pipeline; local: answered from local memory; "+
		"others: the machine's time spent elsewhere\nReserve + Settle: calls/s, times and us are of a pair; "+
		"depth and per script count its two calls apart")
	fmt.Fprintln(table, "load\tserver\tcalls/s\tp50\tp99\tp99.9\tratio\tby CPU\tserver us\tload us\tRedis us\t"+
		"depth\tper script\tlocal\tfail-open\tothers\t")

	for _, l := range r.legs() {
		for _, name := range []string{
			ceilingName, redisName, memoryName, redisDeniedName, memoryDeniedName, costRedisName, costMemoryName,
		} {
			r.row(table, name, l)
		}
	}

	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}

	r.printReference(out)
	r.printCosts(out)
	r.printFaults(out)

	if err := r.printTargets(out); err != nil {
		return err
	}

	return r.audit()
}

// row writes one line of medians.
func (r *report) row(table io.Writer, name string, l leg) {
	var runs []*run

	for _, run := range r.Runs {
		if run.Contender == name && run.Leg == l {
			runs = append(runs, run)
		}
	}

	if len(runs) == 0 {
		return
	}

	median := func(of func(*run) float64) float64 {
		values := make([]float64, len(runs))
		for i, run := range runs {
			values[i] = of(run)
		}

		return spreadOf(values).Median
	}
	length := func(of func(*run) time.Duration) time.Duration {
		return time.Duration(median(func(run *run) float64 { return float64(of(run)) })).Round(time.Microsecond)
	}

	fmt.Fprintf(table, "%s\t%s\t%.0f\t%v\t%v\t%v\t%v\t%.2f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.0f%%\t%.2f%%\t%.0f%%\t\n",
		l, name, median(func(run *run) float64 { return run.PerSecond }),
		length(func(run *run) time.Duration { return run.P50 }),
		length(func(run *run) time.Duration { return run.P99 }),
		length(func(run *run) time.Duration { return run.P999 }),
		spreadOf(r.ratios(name, l)),
		median(func(run *run) float64 { return r.byCPU(run) }),
		median(func(run *run) float64 { return run.ServerCPU }),
		median(func(run *run) float64 { return run.LoadCPU }),
		median(func(run *run) float64 { return run.RedisCPU }),
		median(func(run *run) float64 { return run.Depth }),
		median(func(run *run) float64 { return run.PerScript }),
		median(func(run *run) float64 { return 100 * run.Local / max(run.Local+run.Stored, 1) }),
		median(func(run *run) float64 { return 100 * run.FailOpens / float64(max(run.Asked, 1)) }),
		median(func(run *run) float64 { return 100 * run.Others }))
}

// byCPU is the ceiling's CPU time per call over a run's in the same round; 0 if there is no such figure.
func (r *report) byCPU(run *run) float64 {
	top := r.find(ceilingName, run.Leg, run.Round)
	if top == nil {
		return 0
	}

	return top.cpu() / run.cpu()
}

// cpu is what all processes together spent on a call, in microseconds.
func (r *run) cpu() float64 { return r.ServerCPU + r.LoadCPU + r.RedisCPU }

// legs are the loads in the order in which they were first run.
func (r *report) legs() []leg {
	var legs []leg

	for _, run := range r.Runs {
		if !slices.Contains(legs, run.Leg) {
			legs = append(legs, run.Leg)
		}
	}

	return legs
}

// printReference writes what the classic cost.
func (r *report) printReference(out io.Writer) {
	if len(r.Classic) > 0 {
		fmt.Fprintln(out, "\nReference, one sorted set per window, asked directly at the depth and connections of the redis row:")
	}

	for round, c := range r.Classic {
		fmt.Fprintf(out, "  round %d: depth %d over %d connections, %.0f decisions/s, Redis %.1f us per decision\n",
			round+1, c.Depth, c.Conns, c.PerSecond, c.RedisCPU)
	}

	if r.Bytes != nil {
		fmt.Fprintf(out, "\nRedis bytes of a user with %d hits in the day: ratelimitd %d, classic %d\n",
			hitsOfDay, r.Bytes.Ours, r.Bytes.Classic)
	}
}

// printFaults writes why runs do not count, and how late the open loop was.
func (r *report) printFaults(out io.Writer) {
	for _, run := range r.Runs {
		if run.Invalid != "" {
			fmt.Fprintf(out, "\nINVALID: round %d, %s, %v: %s\n", run.Round+1, run.Contender, run.Leg, run.Invalid)
		}
	}

	if busy := r.disturbed(); busy > 0 {
		fmt.Fprintf(out, "\nDISTURBED: in %d of %d runs others took more than %.0f%% of the machine: compare by CPU, and do not "+
			"record these figures\n", busy, len(r.Runs), 100*bearable)
	}

	var p50, p99 []float64

	for _, run := range r.Runs {
		if run.Leg.Rate > 0 {
			p50 = append(p50, micros(run.Late.P50))
			p99 = append(p99, micros(run.Late.P99))
		}
	}

	if len(p50) > 0 {
		fmt.Fprintf(out, "\nThe open loop started calls late by (contained in their latency): p50 %v us, p99 %v us\n",
			spreadOf(p50), spreadOf(p99))
	}
}

// bearable is the share of the machine that may go to others in a run whose figures are worth recording.
const bearable = 0.10

// disturbed counts the closed-loop runs that had too little of the machine. In an open loop the kernel's own work for
// waking processes shows as that of others.
func (r *report) disturbed() int {
	count := 0

	for _, run := range r.Runs {
		if run.Leg.Rate == 0 && run.Others > bearable {
			count++
		}
	}

	return count
}

// printTargets writes one line per target.
func (r *report) printTargets(out io.Writer) error {
	fmt.Fprintln(out)

	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)

	doubt := ""
	if r.disturbed() > 0 {
		doubt = " (disturbed)"
	}

	for _, t := range r.Targets {
		sign, verdict := ">=", "missed"
		if t.AtMost {
			sign = "<="
		}

		if t.Reached {
			verdict = "reached"
		}

		fmt.Fprintf(table, "%s\t%v\t%s %.2f\t%s%s\n", t.Name, t.Figure, sign, t.Bound, verdict, doubt)
	}

	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the targets: %w", err)
	}

	return nil
}

// save writes the report as JSON.
func (r *report) save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}

	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil { //nolint:gosec // figures are no secret
		return fmt.Errorf("write the report: %w", err)
	}

	return nil
}
