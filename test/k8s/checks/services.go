package checks

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Services finds shared daemons without a Service for their gRPC, and Services of theirs that do not name each pod which is
// ready, and no other: the few connections of an Envoy would all lead to one pod.
func Services(b Build) []string {
	var problems []string
	for _, d := range b.Daemons() {
		if !d.isShared() {
			continue
		}
		served := false
		for _, s := range b.servicesOf(d.Pod) {
			if s.Spec.ClusterIP != corev1.ClusterIPNone || s.Spec.PublishNotReadyAddresses {
				problems = append(problems, fmt.Sprintf("%s: Service %s is not headless, or names pods that are not ready", d, s.Name))
			}
			for _, port := range s.Spec.Ports {
				served = served || d.Pod.number(port.TargetPort) == portOf(d.Env["RATELIMITD_GRPC_ADDR"])
			}
		}
		if !served {
			problems = append(problems, fmt.Sprintf("%s: no Service leads to RATELIMITD_GRPC_ADDR=%q", d, d.Env["RATELIMITD_GRPC_ADDR"]))
		}
	}
	return problems
}

// servicesOf returns the Services that select a pod.
func (b Build) servicesOf(p Pod) []*corev1.Service {
	var found []*corev1.Service
	for _, o := range b {
		s, ok := o.Typed.(*corev1.Service)
		if ok && s.Namespace == p.Of.Namespace() && p.isSelected(&metav1.LabelSelector{MatchLabels: s.Spec.Selector}) {
			found = append(found, s)
		}
	}
	return found
}

// number returns the number of a port of the pod; 0 for a name that it does not have.
func (p Pod) number(port intstr.IntOrString) int32 {
	if port.Type == intstr.Int {
		return port.IntVal
	}
	for _, c := range p.Containers() {
		for _, named := range c.Ports {
			if named.Name == port.StrVal {
				return named.ContainerPort
			}
		}
	}
	return 0
}
