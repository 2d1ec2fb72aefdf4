// Package checks finds what is wrong with the objects of one build, beyond what their types say: what they refer to and is
// not there, what Pod Security refuses, settings that ratelimitd does not have, pods that cannot end in time.
//
// A check returns one sentence for each thing that is wrong.
package checks

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ratelimitd/ratelimitd/test/k8s/manifests"
)

// Build is a set of objects that are applied together.
type Build []manifests.Object

// Pod is what a workload says of its pods.
type Pod struct {
	Of     manifests.Object
	Labels map[string]string
	Spec   corev1.PodSpec
}

// Pods returns the pods of all workloads.
func (b Build) Pods() []Pod {
	var pods []Pod
	for _, o := range b {
		if template := templateOf(o); template != nil {
			pods = append(pods, Pod{o, template.Labels, template.Spec})
		}
	}
	return pods
}

// templateOf returns what a workload says of its pods; nil for what is none.
func templateOf(o manifests.Object) *corev1.PodTemplateSpec {
	switch w := o.Typed.(type) {
	case *appsv1.Deployment:
		return &w.Spec.Template
	case *appsv1.StatefulSet:
		return &w.Spec.Template
	case *appsv1.DaemonSet:
		return &w.Spec.Template
	case *batchv1.Job:
		return &w.Spec.Template
	case *batchv1.CronJob:
		return &w.Spec.JobTemplate.Spec.Template
	case *corev1.Pod:
		return &corev1.PodTemplateSpec{ObjectMeta: w.ObjectMeta, Spec: w.Spec}
	}
	return nil
}

// Containers returns all containers, in the order in which they start.
func (p Pod) Containers() []corev1.Container {
	all := append([]corev1.Container(nil), p.Spec.InitContainers...)
	return append(all, p.Spec.Containers...)
}

// String names the pod by its workload.
func (p Pod) String() string { return p.Of.String() }

// volume returns the pod's volume of a name; nil if there is none.
func (p Pod) volume(name string) *corev1.Volume {
	for i, v := range p.Spec.Volumes {
		if v.Name == name {
			return &p.Spec.Volumes[i]
		}
	}
	return nil
}

// isSelected tells whether a selector selects the pod. A nil selector selects none, as one does that is not valid.
func (p Pod) isSelected(selector *metav1.LabelSelector) bool {
	matches, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && matches.Matches(labels.Set(p.Labels))
}

// find returns the object of a kind and name in a namespace.
func (b Build) find(kind, namespace, name string) (manifests.Object, bool) {
	for _, o := range b {
		if o.Kind() == kind && o.Namespace() == namespace && o.Name() == name {
			return o, true
		}
	}
	return manifests.Object{}, false
}

// configMap returns the ConfigMap of a name in a namespace; nil if there is none.
func (b Build) configMap(namespace, name string) *corev1.ConfigMap {
	for _, o := range b {
		if c, ok := o.Typed.(*corev1.ConfigMap); ok && c.Namespace == namespace && c.Name == name {
			return c
		}
	}
	return nil
}

// secret returns the Secret of a name in a namespace; nil if there is none.
func (b Build) secret(namespace, name string) *corev1.Secret {
	for _, o := range b {
		if s, ok := o.Typed.(*corev1.Secret); ok && s.Namespace == namespace && s.Name == name {
			return s
		}
	}
	return nil
}

// selected returns the pods of a namespace that a selector selects. A nil selector selects none, an empty one all.
func (b Build) selected(namespace string, selector *metav1.LabelSelector) ([]Pod, error) {
	matches, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, fmt.Errorf("its selector: %w", err)
	}
	var found []Pod
	for _, p := range b.Pods() {
		if p.Of.Namespace() == namespace && matches.Matches(labels.Set(p.Labels)) {
			found = append(found, p)
		}
	}
	return found, nil
}

// file returns the text that a container finds at a path, if a ConfigMap of the build is mounted there.
func (b Build) file(p Pod, c corev1.Container, path string) (text string, problem string) {
	mount, rest := mountOf(c, path)
	if mount == nil {
		return "", fmt.Sprintf("%s: container %s: nothing is mounted at %s", p, c.Name, path)
	}
	if mount.SubPath != "" || mount.SubPathExpr != "" {
		return "", fmt.Sprintf("%s: container %s: %s is mounted by a subPath: it would never change", p, c.Name, path)
	}
	for _, v := range p.Spec.Volumes {
		if v.Name != mount.Name || v.ConfigMap == nil {
			continue
		}
		if c := b.configMap(p.Of.Namespace(), v.ConfigMap.Name); c != nil && len(v.ConfigMap.Items) == 0 {
			if text, ok := c.Data[rest]; ok {
				return text, ""
			}
		}
	}
	return "", fmt.Sprintf("%s: container %s: %s is in no ConfigMap of this build", p, c.Name, path)
}
