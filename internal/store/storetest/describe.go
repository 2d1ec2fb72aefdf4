package storetest

import (
	"fmt"
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// describe writes checks for a failure's message.
func describe(checks []store.Check) string {
	var b strings.Builder
	for i := range checks {
		c := &checks[i]
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d %s of %s under", c.Amount, c.Unit, name(c.Subject))
		for _, l := range c.Limits {
			b.WriteString(" " + describeLimit(l))
		}
		if c.Override != 0 {
			fmt.Fprintf(&b, " (override %d)", c.Override)
		}
	}
	return b.String()
}

// describeLimit writes a limit for a failure's message.
func describeLimit(l store.Limit) string {
	shadow := ""
	if l.Shadow {
		shadow = "~"
	}
	return fmt.Sprintf("%s%d/%s", shadow, l.Max, l.Period)
}

// name writes a subject for a failure's message, a long one shortened.
func name(s store.Subject) string {
	const most = 40
	if len(s.ID) <= most {
		return fmt.Sprintf("%q/%q", s.Kind, s.ID)
	}
	return fmt.Sprintf("%q/%q... (%d bytes)", s.Kind, s.ID[:most], len(s.ID))
}
