package k8s

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"

	"github.com/ratelimitd/ratelimitd/test/k8s/checks"
	"github.com/ratelimitd/ratelimitd/test/k8s/manifests"
)

// guide returns docs/kubernetes.md.
func guide(t *testing.T) string {
	t.Helper()
	return readFile(t, filepath.Join(repository(t), "docs", "kubernetes.md"))
}

// block returns the code that stands below a mark of the guide.
func block(t *testing.T, mark string) string {
	t.Helper()
	_, rest, found := strings.Cut(guide(t), "<!-- test:"+mark+" -->\n```")
	_, rest, begun := strings.Cut(rest, "\n")
	text, _, ended := strings.Cut(rest, "```\n")
	if !found || !begun || !ended {
		t.Fatalf("docs/kubernetes.md has no code below the mark test:%s", mark)
	}
	return text
}

// TestTheGuideSaysHowToMakeEachSecret looks for the Secrets that the checks take as given.
func TestTheGuideSaysHowToMakeEachSecret(t *testing.T) {
	for name, keys := range brought {
		for _, key := range keys {
			pattern := regexp.MustCompile(`create secret generic ` + name + ` --from-(literal|file)=` + key + `=`)
			if !pattern.MatchString(guide(t)) {
				t.Errorf("docs/kubernetes.md does not say how to make Secret %s with the key %s", name, key)
			}
		}
	}
}

// ownFolder is the folder that the guide has its reader make beside the repository, from the block of the mark "shared".
const ownFolder = "../ratelimits"

// own are the paths that the guide has its reader bring along.
var own = []string{ownFolder, "namespace.yaml"}

// TestTheSharedServiceIsApplied finds that whoever pastes the commands from top to bottom starts no pods that look for another Redis
// than the reader's: the kustomization and the Secret come first, and the overlay is applied by the kustomization alone.
func TestTheSharedServiceIsApplied(t *testing.T) {
	text := guide(t)
	last := -1
	for _, step := range []string{
		"<!-- test:shared -->", "apply -f deploy/k8s/overlays/prod/namespace.yaml",
		"kubectl -n ratelimitd create secret generic ratelimitd-redis --from-literal=password='YOUR PASSWORD'",
		"apply -k " + ownFolder + "\n",
	} {
		at := strings.Index(text, step)
		if at <= last {
			t.Errorf("docs/kubernetes.md has %q at %d, want it after the step before it at %d", step, at, last)
		}
		last = at
	}
	if strings.Contains(text, "apply -k deploy/k8s/overlays/prod") {
		t.Error("docs/kubernetes.md applies overlays/prod, which does not know the reader's Redis")
	}
}

// TestNoBlockOfTheGuideWaitsForEver finds that a command that runs until it is stopped stands alone: what is below it would not run.
func TestNoBlockOfTheGuideWaitsForEver(t *testing.T) {
	found := 0
	for block := range strings.SplitSeq(guide(t), "\n\n") {
		if strings.HasPrefix(block, "    ") && strings.Contains(block, "port-forward") {
			found++
			if strings.Count(block, "\n    ") > 0 {
				t.Errorf("docs/kubernetes.md has commands beside one that does not end:\n%s", block)
			}
		}
	}
	if found < 2 {
		t.Errorf("%d commands are found: this test looks in the wrong place", found)
	}
}

// TestTheGuideNamesFilesThatExist looks for each path that a command of the guide is given.
func TestTheGuideNamesFilesThatExist(t *testing.T) {
	paths := regexp.MustCompile(`(?m)^    kubectl .*apply -[kf] (\S+)`).FindAllStringSubmatch(guide(t), -1)
	if len(paths) < 4 {
		t.Errorf("%d commands are found: this test looks in the wrong place", len(paths))
	}
	for _, m := range paths {
		if slices.Contains(own, m[1]) {
			continue
		}
		if _, err := os.Stat(filepath.Join(repository(t), m[1])); err != nil {
			t.Errorf("docs/kubernetes.md applies %s: %v", m[1], err)
		}
	}
}

// TestTheKustomizationsOfTheGuide puts each beside a Deployment and a policy, as its reader does, and builds it.
func TestTheKustomizationsOfTheGuide(t *testing.T) {
	settings := settingsOf(t)
	for _, c := range []struct{ mark, setting, value, image string }{
		{"kustomization", "REDIS_HOST", "redis.example.internal", "registry.example.internal/ratelimitd:v0.1.0"},
		{"shared", "REDIS_SENTINEL_MASTER", "mymaster", "ghcr.io/ratelimitd/ratelimitd:v0.1.0"},
	} {
		t.Run(c.mark, func(t *testing.T) {
			b := asReader(t, block(t, c.mark), host(t))
			checkAll(t, b, settings)
			for _, d := range b.Daemons() {
				if text, problem := d.Policy(); text != readersPolicy(t) {
					t.Errorf("its policy is %q, want the reader's own: %s", text, problem)
				}
				if got := d.Env[c.setting]; got != c.value || c.mark == "shared" && d.Env["REDIS_HOST"] != "" {
					t.Errorf("its environment is %v, want what the kustomization says of Redis", d.Env)
				}
				if got := d.Container.Image; got != c.image {
					t.Errorf("its image is %s, want %s", got, c.image)
				}
			}
		})
	}
}

// TestTheGroupOfAPodStays has a pod with a group of its own, and its reader say it again as the guide does.
func TestTheGroupOfAPodStays(t *testing.T) {
	const before = "      securityContext:\n        runAsNonRoot: true\n"
	deployment := host(t)
	if !strings.Contains(deployment, before) {
		t.Fatalf("the host does not say %q:\n%s", before, deployment)
	}
	deployment = strings.Replace(deployment, before, before+"        fsGroup: 2000\n", 1)
	for patch, want := range map[string]int64{"": 65532, block(t, "group"): 2000} {
		for _, d := range asReader(t, block(t, "kustomization")+patch, deployment).Daemons() {
			if s := d.Pod.Spec.SecurityContext; s == nil || s.FSGroup == nil || *s.FSGroup != want {
				t.Errorf("the security of the pod is %v, want the group %d by the patch %q", s, want, patch)
			}
		}
	}
}

// host returns the Deployment of a reader.
func host(t *testing.T) string {
	t.Helper()
	return readFile(t, filepath.Join("testdata", "hosts", "sidecar", "deployment.yaml"))
}

func readersPolicy(t *testing.T) string {
	t.Helper()
	return readFile(t, filepath.Join(repository(t), "deploy", "k8s", "overlays", "dev", "policy.yaml"))
}

// asReader builds a kustomization in a folder beside the repository, with a Deployment, a namespace and a policy.
func asReader(t *testing.T, kustomization, deployment string) checks.Build {
	t.Helper()
	root, dir := repository(t), t.TempDir()
	if err := os.Symlink(root, filepath.Join(dir, "ratelimitd")); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(dir, "mine")
	if err := os.Mkdir(mine, 0o700); err != nil {
		t.Fatal(err)
	}
	namespace := readFile(t, filepath.Join(root, "deploy", "k8s", "examples", "assistant", "namespace.yaml"))
	for name, text := range map[string]string{
		"kustomization.yaml": kustomization,
		"policy.yaml":        readersPolicy(t),
		"namespace.yaml":     strings.Replace(namespace, "name: assistant", "name: shop", 1),
		"deployment.yaml":    deployment,
	} {
		writeFile(t, filepath.Join(mine, name), text)
	}
	objects, err := manifests.Build(mine)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// TestTheClusterOfTheGuide puts it in the place that the guide says, and has a real Envoy ask a real daemon by it.
func TestTheClusterOfTheGuide(t *testing.T) {
	const (
		begin, end = "  # The sidecar, in the same pod. gRPC needs HTTP/2.\n", "\n# Envoy's own pages"
		name       = "address: ratelimitd.ratelimitd.svc.cluster.local"
	)
	for _, file := range []string{"envoy.yaml", "envoy-cost.yaml"} {
		t.Run(file, func(t *testing.T) {
			before, rest, found := strings.Cut(readFile(t, filepath.Join(repository(t), "deploy", "envoy", file)), begin)
			_, after, ended := strings.Cut(rest, end)
			if !found || !ended {
				t.Fatalf("%s has no such cluster", file)
			}
			path := filepath.Join(t.TempDir(), file)
			writeFile(t, path, before+block(t, "cluster")+end+after)
			relative, err := filepath.Rel(repository(t), path)
			if err != nil {
				t.Fatal(err)
			}
			d := harness.Daemon(t, harness.Env{"RATELIMITD_POLICY": "production"})
			envoy := harness.Envoy(t, relative,
				harness.Between(t, harness.Upstream(t).Addr, d.GRPCAddr).With(name, "address: "+hostOf(t, d.GRPCAddr)))
			for i := range 11 {
				want := http.StatusOK
				if i == 10 {
					want = http.StatusTooManyRequests
				}
				if status, _ := get(t, envoy.URL+"/", "x-user-id", "bob"); status != want {
					t.Errorf("request %d of a minute is answered with %d, want %d", i+1, status, want)
				}
			}
			if _, text := get(t, envoy.AdminURL+"/clusters"); !strings.Contains(text, fmt.Sprintf("ratelimitd::%s::health_flags::healthy", d.GRPCAddr)) {
				t.Errorf("Envoy does not find the daemon at %s well:\n%s", d.GRPCAddr, text)
			}
		})
	}
}

func hostOf(t *testing.T, addr string) string {
	t.Helper()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return host
}
