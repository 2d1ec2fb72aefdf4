package checks

import (
	"fmt"

	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Disruptions finds Deployments whose nodes may be drained all at once, or never: each has one PodDisruptionBudget, for the
// server evicts no pod that has two, and that lets one pod go at a time.
func Disruptions(b Build) []string {
	var problems []string
	for _, k := range b.kept() {
		budgets := 0
		for _, o := range b {
			budget, ok := o.Typed.(*policyv1.PodDisruptionBudget)
			if !ok || o.Namespace() != k.Pod.Of.Namespace() || !k.Pod.isSelected(budget.Spec.Selector) {
				continue
			}
			budgets++
			if n := budget.Spec.MaxUnavailable; n == nil || *n != intstr.FromInt32(1) {
				problems = append(problems, fmt.Sprintf("%s: write maxUnavailable: 1, with which a drain always goes on", o))
			}
		}
		if budgets != 1 {
			problems = append(problems, fmt.Sprintf("%s has %d PodDisruptionBudgets, want one", k.Pod, budgets))
		}
	}
	return problems
}
