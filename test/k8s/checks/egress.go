package checks

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Egress finds daemons whose NetworkPolicies keep them from what they need: names, their Redis, and a collector of traces, which
// whoever deploys may set. Nothing else would tell: without Redis each call is answered by on_store_failure.
func Egress(b Build) []string {
	var problems []string
	for _, d := range b.Daemons() {
		policies := b.policies(d.Pod, networkingv1.PolicyTypeEgress)
		if len(policies) == 0 {
			continue
		}
		wrong := func(what string, protocol corev1.Protocol, port int32) {
			if !letsOut(policies, protocol, port) {
				problems = append(problems, fmt.Sprintf("%s: no NetworkPolicy lets it reach %s, port %d of %s", d, what, port, protocol))
			}
		}
		wrong("names", corev1.ProtocolUDP, 53)
		wrong("names", corev1.ProtocolTCP, 53)
		for _, port := range d.redisPorts() {
			wrong("Redis", corev1.ProtocolTCP, port)
		}
		for _, port := range d.collectorPorts() {
			wrong("a collector of traces", corev1.ProtocolTCP, port)
		}
	}
	return problems
}

// letsOut tells whether a pod may reach a port of everybody. A rule for some peers does not count: whether they are the right
// ones a build does not say.
func letsOut(policies []*networkingv1.NetworkPolicy, protocol corev1.Protocol, port int32) bool {
	return slices.ContainsFunc(policies, func(p *networkingv1.NetworkPolicy) bool {
		return slices.ContainsFunc(p.Spec.Egress, func(rule networkingv1.NetworkPolicyEgressRule) bool {
			return len(rule.To) == 0 && covers(rule.Ports, protocol, port, nil)
		})
	})
}

// redisPorts returns the ports of Redis that the daemon's settings name. The master that Sentinels name has the usual one.
func (d Daemon) redisPorts() []int32 {
	ports := map[int32]bool{}
	add := func(port string) {
		if port == "" {
			port = "6379"
		}
		if n, err := strconv.ParseInt(port, 10, 32); err == nil { // what is none the daemon itself refuses
			ports[int32(n)] = true
		}
	}
	if d.Env["REDIS_HOST"] != "" {
		add(d.Env["REDIS_PORT"])
	}
	if u, err := url.Parse(d.Env["REDIS_URL"]); err == nil && u.Host != "" {
		add(u.Port())
	}
	for addr := range strings.SplitSeq(d.Env["REDIS_ADDRS"], ",") {
		if _, port, err := net.SplitHostPort(addr); err == nil {
			add(port)
		}
	}
	if d.Env["REDIS_SENTINEL_MASTER"] != "" {
		add("")
	}
	return slices.Sorted(maps.Keys(ports))
}

// collectorPorts returns the usual ports of OTLP, by gRPC and by HTTP, and the one that the daemon's settings name.
func (d Daemon) collectorPorts() []int32 {
	ports := []int32{4317, 4318}
	for _, setting := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		if u, err := url.Parse(d.Env[setting]); err == nil && u.Port() != "" {
			if n, err := strconv.ParseInt(u.Port(), 10, 32); err == nil && !slices.Contains(ports, int32(n)) {
				ports = append(ports, int32(n))
			}
		}
	}
	return ports
}
