package policy

import (
	"strconv"
	"strings"
)

// shownText bounds how much of a text an error repeats.
const shownText = 60

// quoted quotes a text for an error, and cuts a long one.
func quoted(text string) string {
	if len(text) > shownText {
		return strconv.Quote(text[:shownText]) + "..."
	}
	return strconv.Quote(text)
}

// didYouMean returns `; did you mean "x"?` for the known word nearest to a wrong one, or nothing if none is near.
func didYouMean(word string, known []string) string {
	if word == "" || len(word) > shownText {
		return ""
	}
	best, bestDistance := "", max(len(word)/3, 1)+1
	for _, candidate := range known {
		if distance := editDistance(strings.ToLower(word), candidate); distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + strconv.Quote(best) + "?"
}

// editDistance counts the letters to insert, delete, replace or swap with their neighbour to make b of a.
func editDistance(a, b string) int {
	older, old, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		older, old, row = old, row, older
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(old[j]+1, row[j-1]+1, old[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
