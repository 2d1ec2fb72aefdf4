package k8s

import (
	"fmt"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/ratelimitd/ratelimitd/test/k8s/checks"
)

// TestTheGuideSaysTheNumbers looks for each number of the manifests that docs/kubernetes.md explains, in the sentence that does.
func TestTheGuideSaysTheNumbers(t *testing.T) {
	shared, sidecar := daemonOf(t, "overlays/prod"), daemonOf(t, "examples/assistant")
	want := []string{
		fmt.Sprintf("The limit is %d MiB in a sidecar and %d MiB in the shared service.", mebibytes(sidecar), mebibytes(shared)),
		scaling(t, "overlays/prod"),
		fmt.Sprintf("`preStop` sleeps for %d s", sleepOf(t, shared.Container)),
		fmt.Sprintf("It answers for %d s more (`RATELIMITD_DRAIN_DELAY`)", seconds(t, shared.Env["RATELIMITD_DRAIN_DELAY"])),
		fmt.Sprintf("have up to %d s (`RATELIMITD_SHUTDOWN_TIMEOUT`)", seconds(t, shared.Env["RATELIMITD_SHUTDOWN_TIMEOUT"])),
		killed(t, shared),
		fmt.Sprintf("`preStop` of the app sleeps for %d s", sleepOf(t, sidecar.Pod.Spec.Containers[0])),
		killed(t, sidecar),
	}
	for _, d := range []checks.Daemon{shared, sidecar} {
		start, ready, live := d.Container.StartupProbe, d.Container.ReadinessProbe, d.Container.LivenessProbe
		for _, probe := range []*corev1.Probe{start, ready, live} {
			if probe == nil || probe.HTTPGet == nil {
				t.Fatalf("%s has not three probes by HTTP", d)
			}
		}
		want = append(want,
			fmt.Sprintf("| startup | %#q, %s, for %d s |", start.HTTPGet.Path, each(start), start.PeriodSeconds*start.FailureThreshold),
			fmt.Sprintf("| readiness | %#q, %s, %s |", ready.HTTPGet.Path, each(ready), times(ready)),
			fmt.Sprintf("| liveness | %#q, %s, %s |", live.HTTPGet.Path, each(live), times(live)))
	}
	text := strings.Join(strings.Fields(guide(t)), " ")
	for _, sentence := range want {
		if !strings.Contains(text, sentence) {
			t.Errorf("docs/kubernetes.md does not say %q", sentence)
		}
	}
}

// daemonOf returns the one daemon of a folder.
func daemonOf(t *testing.T, folder string) checks.Daemon {
	t.Helper()
	daemons := objectsOf(t, folder).Daemons()
	if len(daemons) != 1 {
		t.Fatalf("%s has %d daemons, want one", folder, len(daemons))
	}
	return daemons[0]
}

// scaling says how many pods of a folder there are, by what its autoscaler goes by first.
func scaling(t *testing.T, folder string) string {
	t.Helper()
	for _, o := range objectsOf(t, folder) {
		s, ok := o.Typed.(*autoscalingv2.HorizontalPodAutoscaler)
		if !ok || s.Spec.MinReplicas == nil || len(s.Spec.Metrics) == 0 || s.Spec.Metrics[0].Resource == nil {
			continue
		}
		if share := s.Spec.Metrics[0].Resource.Target.AverageUtilization; share != nil {
			return fmt.Sprintf("%d to %d pods, for %d %% of the requested CPU time", *s.Spec.MinReplicas, s.Spec.MaxReplicas, *share)
		}
	}
	t.Fatalf("%s has no autoscaler that goes by a share", folder)
	return ""
}

func mebibytes(d checks.Daemon) int64 { return d.Container.Resources.Limits.Memory().Value() >> 20 }

func sleepOf(t *testing.T, c corev1.Container) int64 {
	t.Helper()
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
		t.Fatalf("container %s has no preStop that sleeps", c.Name)
	}
	return c.Lifecycle.PreStop.Sleep.Seconds
}

func killed(t *testing.T, d checks.Daemon) string {
	t.Helper()
	grace := d.Pod.Spec.TerminationGracePeriodSeconds
	if grace == nil {
		t.Fatalf("%s names no terminationGracePeriodSeconds", d.Pod)
	}
	return fmt.Sprintf("| %d s | what is left is killed", *grace)
}

func seconds(t *testing.T, text string) int64 {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return int64(d / time.Second)
}

// each says how often a probe asks.
func each(p *corev1.Probe) string {
	if p.PeriodSeconds == 1 {
		return "each second"
	}
	return fmt.Sprintf("each %d s", p.PeriodSeconds)
}

// times says how often a probe has to fail.
func times(p *corev1.Probe) string {
	switch p.FailureThreshold {
	case 1:
		return "once"
	case 2:
		return "twice"
	case 3:
		return "three times"
	}
	return fmt.Sprintf("%d times", p.FailureThreshold)
}
