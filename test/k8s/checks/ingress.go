package checks

import (
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Ingress finds NetworkPolicies that keep a Service's callers or Prometheus out, and those that let in to a daemon who should not
// come there: whoever reaches the shared service may spend anyone's limits.
func Ingress(b Build) []string {
	var problems []string
	for _, d := range b.Daemons() {
		policies := b.policies(d.Pod, networkingv1.PolicyTypeIngress)
		if len(policies) == 0 {
			continue
		}
		guarded := map[string]guard{"RATELIMITD_METRICS_ADDR": {"namespace monitoring", isMonitoring}}
		if d.isShared() {
			clients := guard{"pods with the label ratelimitd/client", isClient}
			guarded["RATELIMITD_GRPC_ADDR"], guarded["RATELIMITD_HTTP_ADDR"] = clients, clients
		}
		for setting, g := range guarded {
			if problem := g.check(policies, d.Pod, portOf(d.Env[setting])); problem != "" {
				problems = append(problems, fmt.Sprintf("%s: %s=%q: %s", d, setting, d.Env[setting], problem))
			}
		}
		problems = append(problems, b.shutOut(d.Pod, policies)...)
	}
	return problems
}

// guard is who may come to a port.
type guard struct {
	who string
	is  func(peer networkingv1.NetworkPolicyPeer) bool
}

func isClient(peer networkingv1.NetworkPolicyPeer) bool {
	return peer.PodSelector != nil && peer.PodSelector.MatchLabels["ratelimitd/client"] == "true"
}

func isMonitoring(peer networkingv1.NetworkPolicyPeer) bool {
	return peer.NamespaceSelector != nil && peer.NamespaceSelector.MatchLabels[corev1.LabelMetadataName] == "monitoring"
}

// check says whether a port is closed to those who may come, or open to others.
func (g guard) check(policies []*networkingv1.NetworkPolicy, p Pod, port int32) string {
	rules := rulesFor(policies, p, port)
	if len(rules) == 0 {
		return "no NetworkPolicy lets " + g.who + " in"
	}
	for _, rule := range rules {
		for _, peer := range rule.From {
			if !g.is(peer) {
				return "a NetworkPolicy lets in others than " + g.who
			}
		}
		if len(rule.From) == 0 {
			return "a NetworkPolicy lets in everybody, and not only " + g.who
		}
	}
	return ""
}

// shutOut finds Services that lead to a port of a pod where nobody is let in.
func (b Build) shutOut(p Pod, policies []*networkingv1.NetworkPolicy) []string {
	var problems []string
	for _, s := range b.servicesOf(p) {
		for _, port := range s.Spec.Ports {
			if len(rulesFor(policies, p, p.number(port.TargetPort))) == 0 {
				problems = append(problems, fmt.Sprintf("%s: no NetworkPolicy lets anybody in to port %s, which Service %s leads to",
					p, port.TargetPort.String(), s.Name))
			}
		}
	}
	return problems
}

// rulesFor returns the rules that let somebody in to a port of TCP.
func rulesFor(policies []*networkingv1.NetworkPolicy, p Pod, port int32) []networkingv1.NetworkPolicyIngressRule {
	var rules []networkingv1.NetworkPolicyIngressRule
	for _, policy := range policies {
		for _, rule := range policy.Spec.Ingress {
			if covers(rule.Ports, corev1.ProtocolTCP, port, p.Containers()) {
				rules = append(rules, rule)
			}
		}
	}
	return rules
}

// portOf returns the port of an address; 0 if it has none, which is another check's matter.
func portOf(addr string) int32 {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}
