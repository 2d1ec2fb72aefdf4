package checks

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
)

// Namespaces finds namespaces that would take pods which are not restricted.
func Namespaces(b Build) []string {
	var problems []string
	for _, o := range b {
		n, ok := o.Typed.(*corev1.Namespace)
		if ok && n.Labels[api.EnforceLevelLabel] != string(api.LevelRestricted) {
			problems = append(problems, fmt.Sprintf("%s takes pods that are not restricted: write the label %s: %s",
				o, api.EnforceLevelLabel, api.LevelRestricted))
		}
	}
	return problems
}
