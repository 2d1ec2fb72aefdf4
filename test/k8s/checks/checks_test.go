package checks_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/k8s/checks"
	"github.com/ratelimitd/ratelimitd/test/k8s/manifests"
)

var brought = checks.Brought{"ratelimitd-redis": {"password"}}

// check is one of the package's.
type check func(b checks.Build) []string

func references(b checks.Build) []string { return checks.PodReferences(b, brought) }

func settings(b checks.Build) []string {
	return checks.Settings(b, []string{
		"RATELIMITD_GRPC_ADDR", "RATELIMITD_HTTP_ADDR", "RATELIMITD_METRICS_ADDR", "RATELIMITD_POLICY", "RATELIMITD_STORE", "RATELIMITD_SHUTDOWN_TIMEOUT",
		"REDIS_PASSWORD_FILE", "REDIS_HOST", "REDIS_PORT",
	})
}

func security(b checks.Build) []string {
	problems, err := checks.Security(b)
	if err != nil {
		return []string{err.Error()}
	}
	return problems
}

// files returns what is wrong with where daemons find their policies, and Envoys their configurations.
func files(b checks.Build) []string {
	var problems []string
	for _, d := range b.Daemons() {
		if _, problem := d.Policy(); problem != "" {
			problems = append(problems, problem)
		}
	}
	for _, e := range b.Envoys() {
		if _, problem := e.Configuration(); problem != "" {
			problems = append(problems, problem)
		}
	}
	return problems
}

// TestEachCheckFinds breaks one thing of a build that is right, and expects the one sentence about it.
func TestEachCheckFinds(t *testing.T) {
	const pod = "Deployment assistant/assistant"
	for _, c := range []struct {
		name     string
		dir      string // of deploy/k8s
		object   string // which is broken
		from, to string // the first of these is replaced
		check    check
		want     string
	}{
		{name: "service account", object: pod, from: "serviceAccountName: assistant", to: "serviceAccountName: nobody", check: references, want: `service account "nobody" is not there`},
		{name: "token", object: pod, from: "automountServiceAccountToken: false", to: "automountServiceAccountToken: true", check: references, want: "it gets a token"},
		{name: "ConfigMap of a volume", object: pod, from: "name: ratelimitd-policy\n        name", to: "name: other\n        name", check: references, want: `volume ratelimitd-policy refers to ConfigMap "other", which is not there`},
		{name: "ConfigMap of variables", object: pod, from: "- configMapRef:\n            name: ratelimitd-settings-", to: "- configMapRef:\n            name: other-", check: references, want: `container ratelimitd refers to ConfigMap "other-`},
		{name: "Secret of a volume", object: pod, from: "secretName: ratelimitd-redis", to: "secretName: other", check: references, want: `volume ratelimitd-redis-password refers to Secret "other", which is not there`},
		{name: "key of a Secret", object: pod, from: "- key: password", to: "- key: passwort", check: references, want: `the key "passwort", which Secret "ratelimitd-redis" does not have`},
		{name: "Secret of a variable", object: "Deployment assistant/redis", from: "key: password", to: "key: passwort", check: references, want: `variable REDIS_PASSWORD of container redis refers to the key "passwort"`},
		{name: "mount without a volume", object: pod, from: "- mountPath: /run/ratelimitd\n          name: ratelimitd-socket", to: "- mountPath: /run/ratelimitd\n          name: sock", check: references, want: `mounts the volume "sock", which is not there`},
		{name: "variable in a variable", object: pod, from: "$(MEMORY_LIMIT_MIB)", to: "$(MEMORY)", check: references, want: "$(MEMORY), which is not set before"},
		{name: "variable in an argument", object: "Deployment assistant/redis", from: "$(REDIS_PASSWORD)", to: "$(PASSWORD)", check: references, want: "$(PASSWORD), which is not set before"},
		{name: "variable set twice", object: pod, from: "- name: RATELIMITD_STORE", to: "- name: REDIS_HOST", check: references, want: "container ratelimitd sets REDIS_HOST twice"},
		{name: "named port of a probe", object: pod, from: "path: /healthz\n            port: rl-metrics", to: "path: /healthz\n            port: metrics", check: references, want: "the liveness probe of container ratelimitd goes to port metrics, which is not there"},
		{name: "numbered port of a probe", object: pod, from: "port: 9902", to: "port: 9903", check: references, want: "goes to port 9903, which is not there"},
		{name: "one name for two ports", object: pod, from: "name: envoy-pages", to: "name: rl-metrics", check: references, want: "containers ratelimitd and envoy have both a port rl-metrics"},

		{name: "selector of a Service", object: "Service assistant/assistant", from: "selector:\n    app.kubernetes.io/name: assistant", to: "selector:\n    app.kubernetes.io/name: other", check: checks.ObjectReferences, want: "Service assistant/assistant selects no pod"},
		{name: "port of a Service", object: "Service assistant/assistant", from: "targetPort: 10000", to: "targetPort: https", check: checks.ObjectReferences, want: "Service assistant/assistant names port https, which"},
		{name: "name of a sidecar's port in a Service", object: "Service assistant/assistant", from: "targetPort: 10000", to: "targetPort: http", check: checks.ObjectReferences, want: "Service assistant/assistant names port http of an init container"},
		{name: "port of a NetworkPolicy", object: "NetworkPolicy assistant/assistant", from: "port: 10000", to: "port: 10001", check: checks.ObjectReferences, want: "NetworkPolicy assistant/assistant names port 10001, which"},
		{name: "name of a sidecar's port in a NetworkPolicy", object: "NetworkPolicy assistant/assistant", from: "port: 8083", to: "port: rl-metrics", check: checks.ObjectReferences, want: "NetworkPolicy assistant/assistant names port rl-metrics of an init container"},
		{name: "selector of a budget", object: "PodDisruptionBudget assistant/assistant", from: "matchLabels:\n      app.kubernetes.io/name: assistant", to: "matchLabels:\n      app.kubernetes.io/name: other", check: checks.ObjectReferences, want: "selects no pod"},
		{name: "port of a monitor", dir: "overlays/prod", object: "PodMonitor ratelimitd/ratelimitd", from: "port: rl-metrics", to: "port: metrics", check: checks.ObjectReferences, want: "names port metrics"},
		{name: "what is not there to scale", dir: "overlays/prod", object: "HorizontalPodAutoscaler ratelimitd/ratelimitd", from: "kind: Deployment\n    name: ratelimitd", to: "kind: Deployment\n    name: other", check: checks.ObjectReferences, want: "scales Deployment other, which is not there"},
		{name: "replicas beside a scaler", dir: "overlays/prod", object: "Deployment ratelimitd/ratelimitd", from: "revisionHistoryLimit: 5", to: "replicas: 3", check: checks.ObjectReferences, want: "replicas is set, but"},
		{name: "namespace", object: "Namespace assistant", from: "name: assistant", to: "name: other", check: checks.ObjectReferences, want: "namespace assistant is not in the build"},
		{name: "ConfigMap that nobody reads", object: "ConfigMap assistant/ratelimitd-policy", from: "name: ratelimitd-policy", to: "name: other", check: checks.ObjectReferences, want: "ConfigMap assistant/other is read by no pod"},

		{name: "privileged", object: pod, from: "allowPrivilegeEscalation: false", to: "privileged: true", check: security, want: "privileged"},
		{name: "root", object: pod, from: "runAsNonRoot: true\n        runAsUser: 65532\n        seccomp", to: "runAsNonRoot: false\n        runAsUser: 0\n        seccomp", check: security, want: "runAsNonRoot"},
		{name: "capabilities", object: pod, from: "drop:\n            - ALL", to: "drop:\n            - NET_RAW", check: security, want: "unrestricted capabilities"},
		{name: "root file system", object: pod, from: "readOnlyRootFilesystem: true", to: "readOnlyRootFilesystem: false", check: security, want: "its root file system is not read-only"},
		{name: "no limit", object: pod, from: "limits:\n            cpu: 500m\n            memory: 128Mi", to: "limits:\n            cpu: 500m", check: security, want: "container assistant: it has no limit of memory"},
		{name: "limit below request", object: pod, from: "cpu: 500m", to: "cpu: 1m", check: security, want: "its limit of cpu is below its request"},

		{name: "setting", object: pod, from: "RATELIMITD_STORE", to: "RATELIMITD_SHOP", check: settings, want: "RATELIMITD_SHOP is no setting of ratelimitd"},
		{name: "setting in a ConfigMap", object: "ConfigMap assistant/ratelimitd-settings-", from: "REDIS_HOST", to: "REDIS_HOTS", check: settings, want: "REDIS_HOTS is no setting"},
		{name: "health for the pod alone", object: pod, from: "value: :8083", to: "value: 127.0.0.1:8083", check: checks.Addresses, want: "nobody outside of the pod reaches it"},
		{name: "the cost API for all", object: pod, from: "value: 127.0.0.1:8080", to: "value: :8080", check: checks.Addresses, want: "others than this pod reach it"},
		{name: "the cost API for the pod alone", dir: "overlays/prod", object: "Deployment ratelimitd/ratelimitd", from: "value: :8080", to: "value: 127.0.0.1:8080", check: checks.Addresses, want: "nobody outside of the pod reaches it"},
		{name: "health at another port", object: pod, from: "value: :8083", to: "value: :8082", check: checks.Addresses, want: "the container names no such port"},
		{name: "socket in no volume", object: pod, from: "unix:/run/ratelimitd/", to: "unix:/tmp/", check: checks.Addresses, want: "its folder is no volume"},
		{name: "socket of nobody else", object: pod, from: "name: envoy\n          readOnly: true\n        - mountPath: /run/ratelimitd\n", to: "name: envoy\n          readOnly: true\n        - mountPath: /run/other\n", check: checks.Addresses, want: "no other container has its folder"},
		{name: "socket without a group", object: pod, from: "fsGroup: 65532\n", to: "\n", check: checks.Addresses, want: "the pod has no fsGroup"},
		{name: "liveness that asks for more", object: pod, from: "path: /healthz\n            port: rl-metrics", to: "path: /api/v1/assistant/health\n            port: rl-metrics", check: checks.Addresses, want: "its liveness probe does not ask for /healthz"},
		{name: "too little time to end", object: pod, from: "terminationGracePeriodSeconds: 90", to: "terminationGracePeriodSeconds: 20", check: checks.Endings, want: "the grace period of 20s is no longer than"},
		{name: "too little time to drain", dir: "overlays/prod", object: "Deployment ratelimitd/ratelimitd", from: "value: 5s", to: "value: 10s", check: checks.Endings, want: "the grace period of 30s is no longer than"},
		{name: "no time", object: pod, from: "value: 10s", to: "value: ten", check: checks.Endings, want: "RATELIMITD_SHUTDOWN_TIMEOUT says no time"},
		{name: "image without a tag", object: pod, from: "image: python:3.14-slim", to: "image: python", check: checks.Images, want: "has no tag that stands still"},
		{name: "image with a tag that moves", object: pod, from: "image: python:3.14-slim", to: "image: python:latest", check: checks.Images, want: "has no tag that stands still"},
		{name: "one image in two versions", object: "Deployment assistant/redis", from: "image: redis:8.2-alpine", to: "image: python:3.12", check: checks.Images, want: "image python:3.12 is 3.14-slim elsewhere"},
		{name: "label", object: "Service assistant/assistant", from: "labels:\n    app.kubernetes.io/name", to: "labels:\n    app", check: checks.Labels, want: "has no label app.kubernetes.io/name"},
		{name: "policy elsewhere", object: pod, from: "/etc/ratelimitd/policy/policy.yaml", to: "/etc/ratelimitd/policy/other.yaml", check: files, want: "/etc/ratelimitd/policy/other.yaml is in no ConfigMap"},
		{name: "policy by a subPath", object: pod, from: "mountPath: /etc/ratelimitd/policy\n          name: ratelimitd-policy\n", to: "mountPath: /etc/ratelimitd/policy\n          name: ratelimitd-policy\n          subPath: a\n", check: files, want: "it would never change"},
		{name: "Envoy's configuration elsewhere", object: pod, from: "/etc/envoy/envoy.yaml", to: "/etc/other/envoy.yaml", check: files, want: "nothing is mounted at /etc/other/envoy.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.dir == "" {
				c.dir = "examples/assistant"
			}
			b := broken(t, c.dir, c.object, c.from, c.to)
			got := strings.Join(c.check(b), "\n")
			if !strings.Contains(got, c.want) {
				t.Errorf("it says %q, want %q in it", got, c.want)
			}
		})
	}
}

// broken builds a folder and replaces something in one object, which is named by how its name begins.
func broken(t *testing.T, dir, object, from, to string) checks.Build {
	t.Helper()
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := manifests.Build(filepath.Join(root, filepath.FromSlash(dir)))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for i, o := range objects {
		if !strings.HasPrefix(o.String(), object) || found {
			continue
		}
		found = true
		if !strings.Contains(string(o.YAML), from) {
			t.Fatalf("%s does not say %q:\n%s", o, from, o.YAML)
		}
		if objects[i], err = manifests.Decode([]byte(strings.Replace(string(o.YAML), from, to, 1))); err != nil {
			t.Fatal(err)
		}
	}
	if !found {
		t.Fatalf("%s has no %s", dir, object)
	}
	return objects
}
