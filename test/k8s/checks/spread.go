package checks

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Spread finds Deployments whose pods may all end with one zone or one node, where there was room elsewhere.
func Spread(b Build) []string {
	var problems []string
	for _, k := range b.kept() {
		for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
			if problem := k.spread(key); problem != "" {
				problems = append(problems, fmt.Sprintf("%s: topologySpreadConstraints over %s: %s", k.Pod, key, problem))
			}
		}
	}
	return problems
}

// spread says what is wrong with how the pods are spread over what a label of nodes tells apart.
func (k kept) spread(key string) string {
	constraints := k.Pod.Spec.TopologySpreadConstraints
	i := slices.IndexFunc(constraints, func(c corev1.TopologySpreadConstraint) bool { return c.TopologyKey == key })
	if i < 0 {
		return "there is none"
	}
	switch c := constraints[i]; {
	case !k.Pod.isSelected(c.LabelSelector):
		return "its selector does not select these pods"
	case !slices.Contains(c.MatchLabelKeys, appsv1.DefaultDeploymentUniqueLabelKey):
		return "an update would count the pods that are about to end"
	case c.WhenUnsatisfiable != corev1.ScheduleAnyway:
		return "a pod would not start where there is no such room"
	}
	return ""
}
