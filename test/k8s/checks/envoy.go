package checks

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Envoy is one container with an Envoy.
type Envoy struct {
	Pod       Pod
	Container corev1.Container
	build     Build
}

// Envoys returns every container with an Envoy that has a configuration.
func (b Build) Envoys() []Envoy {
	var envoys []Envoy
	for _, p := range b.Pods() {
		for _, c := range p.Containers() {
			if strings.HasPrefix(c.Image, "envoyproxy/envoy:") && len(c.Args) > 0 {
				envoys = append(envoys, Envoy{p, c, b})
			}
		}
	}
	return envoys
}

// Configuration returns what the Envoy is started with, which is a file of a ConfigMap.
func (e Envoy) Configuration() (text, problem string) {
	at := slices.Index(e.Container.Args, "-c") + 1
	if at == 0 || at == len(e.Container.Args) {
		return "", fmt.Sprintf("%s: container %s is given no configuration by -c", e.Pod, e.Container.Name)
	}
	return e.build.file(e.Pod, e.Container, e.Container.Args[at])
}
