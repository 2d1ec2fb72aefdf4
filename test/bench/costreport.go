package main

import (
	"errors"
	"fmt"
	"io"
)

// printCosts writes what reservations take besides time, and how the books stand.
func (r *report) printCosts(out io.Writer) {
	if r.Footprint != nil {
		fmt.Fprintf(out, "\n%s", r.Footprint.lines())
	}

	if len(r.Trips) > 0 {
		fmt.Fprintf(out, "\nRound trips to Redis, by its counters over %d calls one after another (health checks are among the reads)\n",
			sequential)
	}

	for _, t := range r.Trips {
		fmt.Fprintf(out, "  %s: %.3f script calls of %.0f us and %.1f commands each, %.3f reads\n",
			t.Call, t.Scripts, t.Micros, t.Commands, t.Reads)
	}

	r.printAnswerSizes(out)

	if len(r.Books) > 0 {
		fmt.Fprintln(out, "\nThe books, by GetUsage of every user after the last round")
	}

	for _, k := range r.Books {
		fmt.Fprintf(out, "  %v\n", k)
	}
}

// printAnswerSizes writes how large the answers are that ratelimitd and the ceiling give.
func (r *report) printAnswerSizes(out io.Writer) {
	for _, l := range r.legs() {
		top := r.find(ceilingName, l, 0)
		mine := r.find(costRedisName, l, 0)

		if mine == nil {
			mine = r.find(costMemoryName, l, 0)
		}

		if l.Shape.ofCosts() && top != nil && mine != nil {
			fmt.Fprintf(out, "\nBytes answered to a %s: %d, by the ceiling %d\n", l.Shape, mine.AnswerBytes, top.AnswerBytes)
		}
	}
}

// audit errs when money was lost, booked twice, or is still held.
func (r *report) audit() error {
	var errs []error

	for _, k := range r.Books {
		if !k.exact() {
			errs = append(errs, fmt.Errorf("the books of %v", k))
		}
	}

	return errors.Join(errs...)
}
