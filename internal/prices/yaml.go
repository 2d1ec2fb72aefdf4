package prices

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
)

// YAML writes the list as a price file of ours, with where and when it came from in a comment.
func (l *List) YAML(source string, at time.Time) []byte {
	var text strings.Builder
	fmt.Fprintf(&text, "# Prices of %d models, USD a token. Written by: ratelimitd prices import\n", len(l.Models))
	fmt.Fprintf(&text, "# Source: %s\n", strconv.QuoteToASCII(source))
	fmt.Fprintf(&text, "# SHA-256 of the source: %s\n", l.SHA256)
	fmt.Fprintf(&text, "# Date: %s\n", at.UTC().Format(time.DateOnly))
	fmt.Fprintf(&text, "# Rows: %d, of which %d could not be used\n", l.Rows, len(l.Rejected))
	text.WriteString("prices:\n")
	for i := range l.Models {
		m := &l.Models[i]
		// Go writes a text in quotes as YAML reads it.
		text.WriteString("  " + strconv.QuoteToASCII(m.Name) + ": {" + ratesText(m.Rates))
		for j, tier := range m.Tiers {
			if j == 0 {
				text.WriteString(", above: [")
			} else {
				text.WriteString(", ")
			}
			text.WriteString("{tokens: " + strconv.FormatInt(tier.Above, 10) + ", " + ratesText(tier.Rates) + "}")
		}
		if len(m.Tiers) > 0 {
			text.WriteString("]")
		}
		text.WriteString("}\n")
	}
	return []byte(text.String())
}

// ratesText writes the rates that are given.
func ratesText(r budget.Rates) string {
	var parts []string
	for _, rate := range []struct {
		name string
		rate int64
	}{
		{"input", r.Input}, {"output", r.Output}, {"cache_read", r.CacheRead}, {"cache_write", r.CacheWrite}, {"reasoning", r.Reasoning},
	} {
		if rate.rate != budget.Inherit {
			parts = append(parts, rate.name+": "+budget.FormatRate(rate.rate))
		}
	}
	return strings.Join(parts, ", ")
}
