package checks

import appsv1 "k8s.io/api/apps/v1"

// kept is a Deployment with ratelimitd that has to answer while its pods come and go: the shared service, and an app that has
// several pods.
type kept struct {
	Daemon

	deployment *appsv1.Deployment
}

// kept returns every Deployment that has to answer all the time.
func (b Build) kept() []kept {
	var found []kept
	for _, d := range b.Daemons() {
		w, ok := d.Pod.Of.Typed.(*appsv1.Deployment)
		if ok && (d.isShared() || w.Spec.Replicas != nil && *w.Spec.Replicas > 1) {
			found = append(found, kept{d, w})
		}
	}
	return found
}
