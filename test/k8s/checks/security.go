package checks

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// Security finds what Pod Security's level "restricted" refuses, and containers that it would accept but that could write to
// their own file system or use as much of a node as there is.
func Security(b Build) ([]string, error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("make the evaluator of Pod Security: %w", err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	var problems []string
	for _, p := range b.Pods() {
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &metav1.ObjectMeta{Labels: p.Labels}, &p.Spec))
		if !result.Allowed {
			problems = append(problems, fmt.Sprintf("%s: %s: %s", p, result.ForbiddenReason(), result.ForbiddenDetail()))
		}
		for _, c := range p.Containers() {
			problems = append(problems, bounds(p, c)...)
		}
		for _, v := range p.Spec.Volumes {
			if v.EmptyDir != nil && v.EmptyDir.SizeLimit == nil {
				problems = append(problems, fmt.Sprintf("%s: volume %s has no sizeLimit", p, v.Name))
			}
		}
	}
	return problems, nil
}

// bounds finds what a container lacks of a read-only file system, requests and limits.
func bounds(p Pod, c corev1.Container) []string {
	var problems []string
	wrong := func(what string) { problems = append(problems, fmt.Sprintf("%s: container %s: %s", p, c.Name, what)) }
	if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		wrong("its root file system is not read-only")
	}
	for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, limit := c.Resources.Requests[resource], c.Resources.Limits[resource]
		switch {
		case request.IsZero():
			wrong("it requests no " + string(resource))
		case limit.IsZero():
			wrong("it has no limit of " + string(resource))
		case limit.Cmp(request) < 0:
			wrong("its limit of " + string(resource) + " is below its request")
		}
	}
	return problems
}
