// Package k8s tests what is in deploy/k8s.
package k8s

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/ratelimitd/ratelimitd/test/k8s/checks"
	"github.com/ratelimitd/ratelimitd/test/k8s/manifests"
)

// brought are the Secrets that docs/kubernetes.md tells the reader to make.
var brought = checks.Brought{"ratelimitd-redis": {"password"}}

// TestEveryBuild builds each kustomization that there is, and lets every check look at its objects.
func TestEveryBuild(t *testing.T) {
	settings := settingsOf(t)
	eachBuild(t, func(t *testing.T, b checks.Build) {
		checkAll(t, b, settings)
	})
}

// checkAll lets every check look at a build; settings are the variables that the daemon reads.
func checkAll(t *testing.T, b checks.Build, settings []string) {
	t.Helper()
	security, err := checks.Security(b)
	if err != nil {
		t.Fatalf("look at Pod Security: %v", err)
	}
	for _, problems := range [][]string{
		checks.PodReferences(b, brought), checks.ObjectReferences(b), checks.Settings(b, settings), checks.Policies(b),
		checks.Images(b), checks.Labels(b),
		// Who may do what, and who reaches whom.
		security, checks.Namespaces(b), checks.Passwords(b), checks.Addresses(b), checks.Services(b), checks.Ingress(b),
		checks.Egress(b), checks.Redis(b), checks.Monitors(b),
		// What stays up.
		checks.Probes(b), checks.Endings(b), checks.Updates(b), checks.Disruptions(b), checks.Spread(b), checks.Scaling(b),
		checks.Memory(b),
	} {
		for _, problem := range problems {
			t.Error(problem)
		}
	}
	if len(b.Daemons()) == 0 {
		t.Error("there is no ratelimitd in it")
	}
	for _, d := range b.Daemons() {
		checkValues(t, d)
	}
}

// checkValues has the daemon's program read the settings of a container. It does so to find out whom to ask for health.
func checkValues(t *testing.T, d checks.Daemon) {
	t.Helper()
	env := harness.Env(maps.Clone(d.Env))
	env["REDIS_PASSWORD_FILE"] = filepath.Join(t.TempDir(), "password")
	writeFile(t, env["REDIS_PASSWORD_FILE"], "a password")
	if out := harness.RunDaemon(t, env, "health", "--timeout=1ms"); strings.Contains(out.Text, "settings:") {
		t.Errorf("%s: ratelimitd does not take these settings:\n%s", d, out.Text)
	}
}

// eachBuild builds each kustomization below deploy/k8s, and configs, which they share.
func eachBuild(t *testing.T, test func(t *testing.T, b checks.Build)) {
	t.Helper()
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := manifests.Dirs(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"base", "components/sidecar", "components/podmonitor", "overlays/dev", "overlays/prod", "examples/assistant",
	} {
		if !slices.Contains(dirs, filepath.Join(root, want)) {
			t.Errorf("%s is not found: this test looks in the wrong place", want)
		}
	}
	for _, dir := range dirs {
		name, err := filepath.Rel(root, dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			objects, err := manifests.Build(dir)
			if err != nil {
				t.Fatal(err)
			}
			test(t, objects)
		})
	}
}

// settingsOf returns the names of the variables that the daemon reads, by its own help.
func settingsOf(t *testing.T) []string {
	t.Helper()
	help := harness.RunDaemon(t, nil, "serve", "--help")
	_, list, found := strings.Cut(help.Text, "Environment")
	if help.Code != 0 || !found {
		t.Fatalf("`ratelimitd serve --help` lists no environment: status %d, %s", help.Code, help.Text)
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^  ([A-Z][A-Za-z_]+) `).FindAllStringSubmatch(list, -1) {
		names = append(names, m[1])
	}
	if !slices.Contains(names, "REDIS_PASSWORD_FILE") {
		t.Fatalf("`ratelimitd serve --help` names %q: this test cannot read it", names)
	}
	return names
}

// TestEveryPolicyPassesCheckConfig looks at the policies where the daemons find them.
func TestEveryPolicyPassesCheckConfig(t *testing.T) {
	eachBuild(t, func(t *testing.T, b checks.Build) {
		for _, d := range b.Daemons() {
			text, problem := d.Policy()
			if problem != "" {
				t.Error(problem)
				continue
			}
			path := filepath.Join(t.TempDir(), "policy.yaml")
			writeFile(t, path, text)
			if out := harness.RunDaemon(t, nil, "check-config", path); out.Code != 0 {
				t.Errorf("%s: `ratelimitd check-config` ends with %d:\n%s", d, out.Code, out.Text)
			}
		}
	})
}

// TestEveryEnvoyTakesItsConfiguration has the real Envoy check each file that an Envoy of a pod starts with.
func TestEveryEnvoyTakesItsConfiguration(t *testing.T) {
	seen := 0
	eachBuild(t, func(t *testing.T, b checks.Build) {
		for _, e := range b.Envoys() {
			text, problem := e.Configuration()
			if problem != "" {
				t.Error(problem)
				continue
			}
			seen++
			path := filepath.Join(t.TempDir(), "envoy.yaml")
			writeFile(t, path, text)
			relative, err := filepath.Rel(repository(t), path)
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckEnvoy(t, relative)
		}
	})
	if seen == 0 {
		t.Error("no Envoy with a configuration is found: this test looks in the wrong place")
	}
}

// TestEnvoyIsTheOneThatIsTested compares the image with the Envoy that `make tools` installs.
func TestEnvoyIsTheOneThatIsTested(t *testing.T) {
	script := readFile(t, filepath.Join(repository(t), "scripts", "tools.sh"))
	m := regexp.MustCompile(`(?m)^readonly envoy_version=(.+)$`).FindStringSubmatch(script)
	if m == nil {
		t.Fatal("scripts/tools.sh names no version of Envoy")
	}
	eachBuild(t, func(t *testing.T, b checks.Build) {
		for _, e := range b.Envoys() {
			if !strings.HasSuffix(e.Container.Image, "-v"+m[1]) {
				t.Errorf("%s is %s, the tests run %s", e.Container.Name, e.Container.Image, m[1])
			}
		}
	})
}

// TestOneTag looks at the image of ratelimitd over all builds.
func TestOneTag(t *testing.T) {
	first := ""
	eachBuild(t, func(t *testing.T, b checks.Build) {
		for _, d := range b.Daemons() {
			if first == "" {
				first = d.Container.Image
			}
			if d.Container.Image != first {
				t.Errorf("%s is %s, elsewhere it is %s", d, d.Container.Image, first)
			}
		}
	})
}

// TestTheRulesComeOnce looks at what an installation of its own, and each further one of the same Prometheus take: both are
// scraped, and the rules are loaded once.
func TestTheRulesComeOnce(t *testing.T) {
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	for component, want := range map[string]map[string]int{
		"monitoring": {"PodMonitor": 1, "PrometheusRule": 1},
		"podmonitor": {"PodMonitor": 1},
	} {
		objects, err := manifests.Build(filepath.Join(root, "components", component))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, o := range objects {
			if kind := o.Kind(); kind == "PodMonitor" || kind == "PrometheusRule" {
				got[kind]++
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("component %s brings %v, want %v", component, got, want)
		}
	}
}

// TestNoKeyTwice reads each file as it stands: kustomize does not tell of a key that is written twice.
func TestNoKeyTwice(t *testing.T) {
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		read++
		var content any
		if err := yaml.UnmarshalStrict([]byte(readFile(t, path)), &content); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read < 15 {
		t.Errorf("%d files are found: this test looks in the wrong place", read)
	}
}

// TestTheSidecarIsFirstAndLast looks at what makes a native sidecar of it: it starts before everything and ends after.
func TestTheSidecarIsFirstAndLast(t *testing.T) {
	sidecars := 0
	eachBuild(t, func(t *testing.T, b checks.Build) {
		for _, d := range b.Daemons() {
			if d.Pod.Labels["ratelimitd/role"] != "sidecar" {
				continue
			}
			sidecars++
			first := d.Pod.Containers()[0]
			if first.Name != d.Container.Name {
				t.Errorf("%s: %s starts before it", d, first.Name)
			}
			if p := first.RestartPolicy; p == nil || *p != corev1.ContainerRestartPolicyAlways {
				t.Errorf("%s is no sidecar: its restartPolicy is not Always", d)
			}
			if first.StartupProbe == nil {
				t.Errorf("%s: without a startup probe the next container does not wait for it", d)
			}
		}
	})
	if sidecars < 2 {
		t.Errorf("%d sidecars are found, want that of the component and that of the example", sidecars)
	}
}

// TestPolicyOfProduction compares the base's policy with the one that the daemon is shipped with.
func TestPolicyOfProduction(t *testing.T) {
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := manifests.Build(filepath.Join(root, "base"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range checks.Build(objects).Daemons() {
		if text, _ := d.Policy(); text != readFile(t, filepath.Join(repository(t), "configs", "production.yaml")) {
			t.Errorf("%s: its policy is not configs/production.yaml", d)
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatalf("write a file: %v", err)
	}
}
