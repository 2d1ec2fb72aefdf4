package checks

import (
	"fmt"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ratelimitd/ratelimitd/test/k8s/manifests"
)

// ObjectReferences finds what objects other than pods refer to and is not there: the pods that they select, those pods'
// ports, what is scaled, the namespace. It also finds ConfigMaps that nobody reads, and ports that not every cluster finds.
func ObjectReferences(b Build) []string {
	var problems []string
	for _, o := range b {
		s := selects(o)
		problems = append(problems, b.checkSelection(o, s)...)
		if scaler, ok := o.Typed.(*autoscalingv2.HorizontalPodAutoscaler); ok {
			problems = append(problems, b.checkScaler(o, scaler)...)
		}
		if ns := o.Namespace(); ns != "" {
			if _, ok := b.find("Namespace", "", ns); !ok {
				problems = append(problems, fmt.Sprintf("%s: namespace %s is not in the build", o, ns))
			}
		}
		if o.Kind() == "ConfigMap" && !b.isRead(o) {
			problems = append(problems, fmt.Sprintf("%s is read by no pod", o))
		}
	}
	return problems
}

// selection is which pods an object is about, and by which ports it reaches them.
type selection struct {
	pods  *metav1.LabelSelector // nil for an object that selects no pods
	ports []intstr.IntOrString
	// sidecars says that a port's name is looked for in init containers, too. Services before Kubernetes 1.33 and many plug-ins
	// that enforce NetworkPolicies look at the other containers alone: no endpoint has such a port, and nobody is let in to it.
	sidecars bool
}

func selects(o manifests.Object) selection {
	switch x := o.Typed.(type) {
	case *corev1.Service:
		s := selection{pods: &metav1.LabelSelector{MatchLabels: x.Spec.Selector}}
		for _, port := range x.Spec.Ports {
			s.ports = append(s.ports, port.TargetPort)
		}
		return s
	case *appsv1.Deployment:
		return selection{pods: x.Spec.Selector}
	case *appsv1.StatefulSet:
		return selection{pods: x.Spec.Selector}
	case *policyv1.PodDisruptionBudget:
		return selection{pods: x.Spec.Selector}
	case *networkingv1.NetworkPolicy:
		s := selection{pods: &x.Spec.PodSelector}
		for _, rule := range x.Spec.Ingress {
			for _, port := range rule.Ports {
				if port.Port != nil {
					s.ports = append(s.ports, *port.Port)
				}
			}
		}
		return s
	case *monitoringv1.PodMonitor:
		s := selection{pods: &x.Spec.Selector, sidecars: true}
		for _, endpoint := range x.Spec.PodMetricsEndpoints {
			if endpoint.Port != nil {
				s.ports = append(s.ports, intstr.FromString(*endpoint.Port))
			}
		}
		return s
	}
	return selection{}
}

// checkSelection errs when an object selects no pod, or one that lacks a port.
func (b Build) checkSelection(o manifests.Object, s selection) []string {
	if s.pods == nil {
		return nil
	}
	pods, err := b.selected(o.Namespace(), s.pods)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", o, err)}
	}
	if len(pods) == 0 {
		return []string{fmt.Sprintf("%s selects no pod", o)}
	}
	var problems []string
	for _, p := range pods {
		for _, port := range s.ports {
			switch {
			case !hasPort(p.Containers(), port):
				problems = append(problems, fmt.Sprintf("%s names port %s, which the pods of %s do not have", o, port.String(), p))
			case port.Type == intstr.String && !s.sidecars && !hasPort(p.Spec.Containers, port):
				problems = append(problems, fmt.Sprintf(
					"%s names port %s of an init container of %s: not every cluster finds it, write its number", o, port.String(), p))
			}
		}
	}
	return problems
}

// checkScaler looks for what is scaled. A number of replicas there would fight with the scaler at each apply.
func (b Build) checkScaler(o manifests.Object, scaler *autoscalingv2.HorizontalPodAutoscaler) []string {
	ref := scaler.Spec.ScaleTargetRef
	target, ok := b.find(ref.Kind, o.Namespace(), ref.Name)
	if !ok {
		return []string{fmt.Sprintf("%s scales %s %s, which is not there", o, ref.Kind, ref.Name)}
	}
	if d, ok := target.Typed.(*appsv1.Deployment); ok && d.Spec.Replicas != nil {
		return []string{fmt.Sprintf("%s: replicas is set, but %s sets it, too", target, o)}
	}
	return nil
}

// isRead tells whether a pod reads a ConfigMap.
func (b Build) isRead(configMap manifests.Object) bool {
	for _, p := range b.Pods() {
		if p.Of.Namespace() != configMap.Namespace() {
			continue
		}
		for _, v := range p.Spec.Volumes {
			if v.ConfigMap != nil && v.ConfigMap.Name == configMap.Name() {
				return true
			}
		}
		for _, c := range p.Containers() {
			for _, from := range c.EnvFrom {
				if from.ConfigMapRef != nil && from.ConfigMapRef.Name == configMap.Name() {
					return true
				}
			}
		}
	}
	return false
}
