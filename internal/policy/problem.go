package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxProblems is how many problems of one file are told.
const maxProblems = 50

// Problem is one thing that is wrong with a policy: where, and what to write instead.
type Problem struct {
	File   string // as it was given; the built-in policies have their names
	Line   int    // from 1; 0 if the problem is not at a line of the file
	Column int    // from 1; 0 likewise
	Field  string // the way to the field, as "plans.standard.limits[0]"; empty for the file as a whole
	Text   string
}

// String returns "file:line: field: text", without the parts that are unknown.
func (p Problem) String() string {
	var text strings.Builder
	text.WriteString(p.File)
	if p.Line > 0 {
		text.WriteString(":" + strconv.Itoa(p.Line))
	}
	text.WriteString(": ")
	if p.Field != "" {
		text.WriteString(p.Field + ": ")
	}
	text.WriteString(p.Text)
	return text.String()
}

// Warning is something in a policy that works, but cannot be what was meant.
type Warning Problem

// String returns "file:line: field: text".
func (w Warning) String() string { return Problem(w).String() }

// Error is everything that is wrong with one policy, at least one problem, in the order of the lines.
type Error struct {
	Problems []Problem
}

// Error returns one problem a line.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, problem := range e.Problems {
		lines = append(lines, problem.String())
	}
	return strings.Join(lines, "\n")
}

// place is where something stands in a file.
type place struct {
	line, column int
	field        string
}

// report collects what is found in one file.
type report struct {
	file     string
	problems []Problem
	warnings []Warning
}

// wrong adds a problem.
func (r *report) wrong(at place, format string, args ...any) {
	r.problems = append(r.problems, r.problem(at, format, args...))
}

// warn adds a warning.
func (r *report) warn(at place, format string, args ...any) {
	r.warnings = append(r.warnings, Warning(r.problem(at, format, args...)))
}

func (r *report) problem(at place, format string, args ...any) Problem {
	return Problem{
		File: r.file, Line: at.line, Column: at.column, Field: at.field, Text: fmt.Sprintf(format, args...),
	}
}

// err returns the problems as one error, nil if there are none.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	sorted := slices.Clone(r.problems)
	slices.SortStableFunc(sorted, func(a, b Problem) int {
		if a.File != b.File { // the policy goes before what it names
			return cmp.Compare(r.distance(a), r.distance(b))
		}
		return comparePlaces(a, b)
	})
	if more := len(sorted) - maxProblems; more > 0 {
		sorted = append(sorted[:maxProblems], Problem{
			File: r.file, Line: 0, Column: 0, Field: "", Text: strconv.Itoa(more) + " more problems are not shown",
		})
	}
	return &Error{Problems: sorted}
}

// distance is 0 for a problem of the file that is read, and 1 for one of a file that it names.
func (r *report) distance(p Problem) int {
	if p.File == r.file {
		return 0
	}
	return 1
}

// sortedWarnings returns the warnings in the order of their lines.
func (r *report) sortedWarnings() []Warning {
	sorted := slices.Clone(r.warnings)
	slices.SortStableFunc(sorted, func(a, b Warning) int { return comparePlaces(Problem(a), Problem(b)) })
	return sorted
}

func comparePlaces(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}
