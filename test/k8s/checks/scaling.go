package checks

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/ratelimitd/ratelimitd/test/k8s/manifests"
)

// Scaling finds shared Deployments that nothing scales, and scalers that cannot.
func Scaling(b Build) []string {
	var problems []string
	for _, k := range b.kept() {
		if !k.isShared() {
			continue // how many pods an app has is the app's
		}
		scalers := 0
		for _, o := range b {
			scaler, ok := o.Typed.(*autoscalingv2.HorizontalPodAutoscaler)
			if ok && scaler.Namespace == k.Pod.Of.Namespace() && scaler.Spec.ScaleTargetRef.Name == k.Pod.Of.Name() {
				scalers++
				problems = append(problems, k.scaling(o, scaler.Spec)...)
			}
		}
		if scalers != 1 {
			problems = append(problems, fmt.Sprintf("%s has %d HorizontalPodAutoscalers, want one", k.Pod, scalers))
		}
	}
	return problems
}

// scaling says what is wrong with a scaler of the Deployment.
func (k kept) scaling(o manifests.Object, spec autoscalingv2.HorizontalPodAutoscalerSpec) []string {
	var problems []string
	wrong := func(what string) { problems = append(problems, o.String()+": "+what) }
	if want := appsv1.SchemeGroupVersion.String(); spec.ScaleTargetRef.APIVersion != want {
		wrong("it scales something of " + spec.ScaleTargetRef.APIVersion + ", want " + want)
	}
	if spec.MinReplicas == nil || *spec.MinReplicas < 1 || *spec.MinReplicas >= spec.MaxReplicas {
		wrong("minReplicas is not below maxReplicas: it cannot scale")
	}
	if !scalesByCPU(spec.Metrics) {
		wrong("it does not go by a share of the requested CPU time, 1 % to 100 %")
	}
	for _, c := range k.Pod.Containers() {
		if c.Resources.Requests.Cpu().IsZero() {
			wrong("container " + c.Name + " requests no CPU time, of which it would be a share")
		}
	}
	return problems
}

// scalesByCPU tells whether one of the metrics is a share of the requested CPU time. Above all of it there is no room until a new
// pod is ready.
func scalesByCPU(metrics []autoscalingv2.MetricSpec) bool {
	for _, m := range metrics {
		if m.Type != autoscalingv2.ResourceMetricSourceType || m.Resource == nil || m.Resource.Name != corev1.ResourceCPU {
			continue
		}
		if share := m.Resource.Target.AverageUtilization; share != nil && *share >= 1 && *share <= 100 {
			return true
		}
	}
	return false
}
