package checks

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Updates finds Deployments that an update leaves with fewer pods than they had, or whose pods end before their callers have
// turned to others.
func Updates(b Build) []string {
	var problems []string
	for _, k := range b.kept() {
		strategy, rolling := k.deployment.Spec.Strategy, k.deployment.Spec.Strategy.RollingUpdate
		if strategy.Type == appsv1.RecreateDeploymentStrategyType || rolling == nil || !isNone(rolling.MaxUnavailable) {
			problems = append(problems,
				fmt.Sprintf("%s: an update ends old pods before new ones are ready: write maxUnavailable: 0", k.Pod))
		}
		problems = append(problems, k.drain()...)
	}
	return problems
}

// drain says what is missing of how a pod ends: it answers while its address leaves the endpoints and the DNS. A shared daemon
// then says by its health that it goes, and answers on for those who ask for that.
func (k kept) drain() []string {
	if !k.isShared() {
		for _, c := range k.Pod.Spec.Containers {
			if sleepOf(c) > 0 {
				return nil
			}
		}
		return []string{fmt.Sprintf("%s: no container but sidecars has a preStop that sleeps", k.Pod)}
	}
	var problems []string
	if sleepOf(k.Container) == 0 {
		problems = append(problems, fmt.Sprintf("%s: it has no preStop that sleeps", k))
	}
	if delay, err := time.ParseDuration(k.Env["RATELIMITD_DRAIN_DELAY"]); err != nil || delay == 0 {
		problems = append(problems, fmt.Sprintf("%s: after SIGTERM it does not answer on: set RATELIMITD_DRAIN_DELAY", k))
	}
	return problems
}

// sleepOf is how long a container waits before the first signal.
func sleepOf(c corev1.Container) time.Duration {
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
		return 0
	}
	return time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
}

// isNone tells whether a number or share of pods is none; one that is not set is a quarter.
func isNone(v *intstr.IntOrString) bool {
	return v != nil && (*v == intstr.FromInt32(0) || *v == intstr.FromString("0%"))
}
