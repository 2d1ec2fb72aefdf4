package k8s

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/k8s/checks"
	"github.com/ratelimitd/ratelimitd/test/k8s/manifests"
)

// TestWhatEachFolderBrings counts the kinds of each build, as docs/kubernetes.md says what the folders are for: the other checks
// look at what is there. Components stand on the base, but for the sidecar, which stands on an app.
func TestWhatEachFolderBrings(t *testing.T) {
	app := map[string]int{"Deployment": 1, "ConfigMap": 2}
	base := with(app, "Service", "ServiceAccount", "PodDisruptionBudget", "HorizontalPodAutoscaler")
	want := map[string]map[string]int{
		"base":                     base,
		"components/sidecar":       app,
		"components/networkpolicy": with(base, "NetworkPolicy"),
		"components/monitoring":    with(base, "PodMonitor", "PrometheusRule"),
		"components/podmonitor":    with(base, "PodMonitor"),
		"components/redis-dev":     with(base, "Deployment", "Service"),
		"overlays/dev":             with(base, "Namespace", "Deployment", "Service", "Secret"),
		"overlays/prod":            with(base, "Namespace", "NetworkPolicy", "PodMonitor", "PrometheusRule"),
		"examples/assistant": with(app, "Namespace", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy",
			"Deployment", "Service", "ConfigMap", "ConfigMap"),
	}
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := manifests.Dirs(root)
	if err != nil {
		t.Fatal(err)
	}
	for i, dir := range dirs {
		if dirs[i], err = filepath.Rel(root, dir); err != nil {
			t.Fatal(err)
		}
	}
	if folders := slices.Sorted(maps.Keys(want)); !slices.Equal(dirs, folders) {
		t.Errorf("the folders are %v, want %v", dirs, folders)
	}
	for folder, kinds := range want {
		got := map[string]int{}
		for _, o := range objectsOf(t, folder) {
			got[o.Kind()]++
		}
		if !maps.Equal(got, kinds) {
			t.Errorf("%s brings %v, want %v", folder, got, kinds)
		}
	}
}

// with returns kinds and more of them.
func with(kinds map[string]int, more ...string) map[string]int {
	kinds = maps.Clone(kinds)
	for _, kind := range more {
		kinds[kind]++
	}
	return kinds
}

// objectsOf builds a folder of deploy/k8s.
func objectsOf(t *testing.T, folder string) checks.Build {
	t.Helper()
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := manifests.Build(filepath.Join(root, filepath.FromSlash(folder)))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}
