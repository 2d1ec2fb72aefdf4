package main

import (
	"fmt"
	"slices"
)

// spread is a figure over several rounds.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Rounds int     `json:"rounds"`
}

// spreadOf returns the spread of one value per round; the zero spread for none.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}

	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2

	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}

	return spread{Median: median, Min: sorted[0], Max: sorted[len(sorted)-1], Rounds: len(sorted)}
}

// String writes the spread with two decimals.
func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f..%.2f)", s.Median, s.Min, s.Max) }
