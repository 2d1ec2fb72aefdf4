package checks

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Redis finds what is wrong with a Redis that a build has: it is not the one that the daemons look for, it may be two for a
// moment, it throws counts away, or it is killed before it is full.
func Redis(b Build) []string {
	var problems []string
	for _, p := range b.Pods() {
		for _, c := range p.Containers() {
			if !strings.HasPrefix(c.Image, "redis:") {
				continue
			}
			problems = append(problems, p.alone()...)
			problems = append(problems, p.eviction(c)...)
			for _, d := range b.Daemons() {
				if !b.reaches(d, p) {
					problems = append(problems, fmt.Sprintf("%s: REDIS_HOST=%q and REDIS_PORT=%q are no Service of %s",
						d, d.Env["REDIS_HOST"], d.Env["REDIS_PORT"], p))
				}
				if !sharesPassword(d, c) {
					problems = append(problems, fmt.Sprintf("%s: its password is another than that of %s", d, p))
				}
			}
		}
	}
	return problems
}

// alone errs when there may be two pods, of which each would know a half.
func (p Pod) alone() []string {
	d, ok := p.Of.Typed.(*appsv1.Deployment)
	if ok && (d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType || d.Spec.Replicas == nil || *d.Spec.Replicas != 1) {
		return []string{fmt.Sprintf("%s: there may be two of it, want replicas: 1 and the strategy Recreate", p)}
	}
	return nil
}

// eviction says what is wrong with how a Redis is bounded. Beside what maxmemory counts it needs a fifth of its memory for itself.
func (p Pod) eviction(c corev1.Container) []string {
	var problems []string
	if policy := argOf(c, "--maxmemory-policy"); policy != "noeviction" {
		problems = append(problems, fmt.Sprintf("%s: its maxmemory-policy is %q, want noeviction", p, policy))
	}
	text := strings.Replace(argOf(c, "--maxmemory"), "mb", "Mi", 1)
	bound, err := resource.ParseQuantity(text)
	if limit := c.Resources.Limits.Memory(); err != nil || bound.IsZero() || bound.Value() > limit.Value()/5*4 {
		problems = append(problems, fmt.Sprintf("%s: its maxmemory is %q, want at most four fifths of the limit of %s", p, text, limit))
	}
	return problems
}

// argOf returns what follows a name among a container's arguments; empty if nothing does.
func argOf(c corev1.Container, name string) string {
	if at := slices.Index(c.Args, name) + 1; at > 0 && at < len(c.Args) {
		return c.Args[at]
	}
	return ""
}

// reaches tells whether the daemon's settings name a Service of a pod.
func (b Build) reaches(d Daemon, p Pod) bool {
	return slices.ContainsFunc(b.servicesOf(p), func(s *corev1.Service) bool {
		return s.Name == d.Env["REDIS_HOST"] && s.Namespace == d.Pod.Of.Namespace() &&
			slices.ContainsFunc(s.Spec.Ports, func(port corev1.ServicePort) bool { return slices.Contains(d.redisPorts(), port.Port) })
	})
}

// sharesPassword tells whether a Redis asks for the password that a daemon shows.
func sharesPassword(d Daemon, c corev1.Container) bool {
	mount, rest := mountOf(d.Container, d.Env["REDIS_PASSWORD_FILE"])
	if mount == nil {
		return false
	}
	shown := d.Pod.volume(mount.Name)
	name, ok := strings.CutPrefix(argOf(c, "--requirepass"), "$(")
	at := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name+")" == name && e.ValueFrom != nil })
	if shown == nil || shown.Secret == nil || !ok || at < 0 {
		return false
	}
	asked := c.Env[at].ValueFrom.SecretKeyRef
	return asked != nil && asked.Name == shown.Secret.SecretName && asked.Key == keyOf(shown.Secret.Items, rest)
}
