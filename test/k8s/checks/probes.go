package checks

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Probes finds containers of which nobody asks whether they can take requests, and sidecars that the next container does not wait
// for. What the probes of a daemon ask for is Addresses' matter.
func Probes(b Build) []string {
	var problems []string
	for _, p := range b.Pods() {
		for _, c := range p.Spec.InitContainers {
			if !isSidecar(c) {
				continue // it ends, and has no probes
			}
			problems = append(problems, p.unprobed(c, "startup", "readiness")...)
		}
		for _, c := range p.Spec.Containers {
			problems = append(problems, p.unprobed(c, "readiness")...)
		}
	}
	return problems
}

// isSidecar tells whether an init container runs on.
func isSidecar(c corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// unprobed says which of the probes a container lacks.
func (p Pod) unprobed(c corev1.Container, probes ...string) []string {
	var problems []string
	for _, name := range probes {
		if probesOf(c)[name] == nil {
			problems = append(problems, fmt.Sprintf("%s: container %s has no %s probe", p, c.Name, name))
		}
	}
	return problems
}
