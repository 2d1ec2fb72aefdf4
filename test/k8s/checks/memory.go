package checks

import (
	"fmt"
	"regexp"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// goMemory is how GOMEMLIMIT is written: bytes, or with a unit of the runtime's.
var goMemory = regexp.MustCompile(`^(\d{1,15})(B|KiB|MiB|GiB)?$`)

// Memory finds daemons whose Go does not know how much memory their container has. Between 80 % and 96 % of the limit is for Go:
// with less it collects garbage while there is room, with more the container is killed.
func Memory(b Build) []string {
	var problems []string
	for _, d := range b.Daemons() {
		limit := d.Container.Resources.Limits[corev1.ResourceMemory]
		goes, err := goLimit(d.Env["GOMEMLIMIT"])
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%s: %v", d, err))
		case goes < limit.Value()/100*80 || goes > limit.Value()/100*96:
			problems = append(problems, fmt.Sprintf("%s: GOMEMLIMIT is %d bytes, want 80 %% to 96 %% of the limit of %d",
				d, goes, limit.Value()))
		}
	}
	return problems
}

// goLimit returns the bytes that GOMEMLIMIT says.
func goLimit(text string) (int64, error) {
	m := goMemory.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("GOMEMLIMIT is %q, want a number of bytes", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("GOMEMLIMIT: %w", err)
	}
	return n << map[string]int{"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30}[m[2]], nil
}
