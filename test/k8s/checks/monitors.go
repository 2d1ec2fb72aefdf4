package checks

import (
	"fmt"
	"slices"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Monitors finds daemons that a build with a PodMonitor does not have scraped where their metrics are.
func Monitors(b Build) []string {
	var problems []string
	for _, d := range b.Daemons() {
		monitors := 0
		scraped := slices.ContainsFunc(b.monitors(), func(m *monitoringv1.PodMonitor) bool {
			monitors++
			return m.Namespace == d.Pod.Of.Namespace() && d.Pod.isSelected(&m.Spec.Selector) &&
				slices.ContainsFunc(m.Spec.PodMetricsEndpoints, d.isScraped)
		})
		if !scraped && monitors > 0 {
			problems = append(problems, fmt.Sprintf("%s: no PodMonitor asks for /metrics at RATELIMITD_METRICS_ADDR=%q",
				d, d.Env["RATELIMITD_METRICS_ADDR"]))
		}
	}
	return problems
}

func (b Build) monitors() []*monitoringv1.PodMonitor {
	var found []*monitoringv1.PodMonitor
	for _, o := range b {
		if m, ok := o.Typed.(*monitoringv1.PodMonitor); ok {
			found = append(found, m)
		}
	}
	return found
}

// isScraped tells whether an endpoint is that of the daemon's metrics.
func (d Daemon) isScraped(at monitoringv1.PodMetricsEndpoint) bool {
	return at.Port != nil && (at.Path == "" || at.Path == "/metrics") &&
		d.Pod.number(intstr.FromString(*at.Port)) == portOf(d.Env["RATELIMITD_METRICS_ADDR"])
}
