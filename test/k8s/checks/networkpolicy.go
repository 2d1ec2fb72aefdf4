package checks

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// policies returns the NetworkPolicies that bound a pod in a direction; without one nothing does. What one of them allows is
// allowed.
func (b Build) policies(p Pod, direction networkingv1.PolicyType) []*networkingv1.NetworkPolicy {
	var found []*networkingv1.NetworkPolicy
	for _, o := range b {
		policy, ok := o.Typed.(*networkingv1.NetworkPolicy)
		if ok && policy.Namespace == p.Of.Namespace() && p.isSelected(&policy.Spec.PodSelector) && isAbout(policy.Spec, direction) {
			found = append(found, policy)
		}
	}
	return found
}

// isAbout tells whether a NetworkPolicy bounds a direction. One that names none bounds what comes in, and what goes out if it has
// rules for that.
func isAbout(spec networkingv1.NetworkPolicySpec, direction networkingv1.PolicyType) bool {
	if len(spec.PolicyTypes) == 0 {
		return direction == networkingv1.PolicyTypeIngress || len(spec.Egress) > 0
	}
	return slices.Contains(spec.PolicyTypes, direction)
}

// covers tells whether the ports of a rule have one of the named containers' ports, or a number; a rule without ports has all.
func covers(rule []networkingv1.NetworkPolicyPort, protocol corev1.Protocol, port int32, named []corev1.Container) bool {
	return len(rule) == 0 || slices.ContainsFunc(rule, func(r networkingv1.NetworkPolicyPort) bool {
		if r.Protocol == nil && protocol != corev1.ProtocolTCP || r.Protocol != nil && *r.Protocol != protocol {
			return false
		}
		switch {
		case r.Port == nil:
			return true
		case r.Port.Type == intstr.String:
			return isNamed(named, r.Port.StrVal, port)
		case r.EndPort != nil:
			return r.Port.IntVal <= port && port <= *r.EndPort
		}
		return r.Port.IntVal == port
	})
}

// isNamed tells whether one of the containers gives a port a name.
func isNamed(containers []corev1.Container, name string, port int32) bool {
	return slices.ContainsFunc(containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name && p.ContainerPort == port })
	})
}
