package checks

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
)

// nameLabel says what something is, by the labels that Kubernetes recommends.
const nameLabel = "app.kubernetes.io/name"

// Labels finds workloads, pods and what stands for them without the label that names them.
func Labels(b Build) []string {
	var problems []string
	for _, o := range b {
		switch o.Kind() {
		case "Namespace", "ConfigMap", "Secret":
			continue
		}
		if m, err := meta.Accessor(o.Typed); err != nil || m.GetLabels()[nameLabel] == "" {
			problems = append(problems, fmt.Sprintf("%s has no label %s", o, nameLabel))
		}
	}
	for _, p := range b.Pods() {
		if p.Labels[nameLabel] == "" {
			problems = append(problems, fmt.Sprintf("the pods of %s have no label %s", p, nameLabel))
		}
	}
	return problems
}
