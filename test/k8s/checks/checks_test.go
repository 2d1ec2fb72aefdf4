package checks_test

import (
	"path/filepath"
	"slices"
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
	const (
		pod, network            = "Deployment assistant/assistant", "NetworkPolicy assistant/assistant"
		prod, shared, guard     = "overlays/prod", "Deployment ratelimitd/ratelimitd", "NetworkPolicy ratelimitd/ratelimitd"
		budget, scaler, monitor = "PodDisruptionBudget ratelimitd/ratelimitd", "HorizontalPodAutoscaler ratelimitd/ratelimitd", "PodMonitor ratelimitd/ratelimitd"
		redis                   = "Deployment assistant/redis"
	)
	for _, c := range []struct {
		name     string
		dir      string // of deploy/k8s
		object   string // which is broken; empty for all of them
		from, to string // the first of these is replaced, in all objects each; without them the object is left out
		check    check
		want     string
	}{
		{name: "service account", object: pod, from: "serviceAccountName: assistant", to: "serviceAccountName: nobody", check: references, want: `service account "nobody" is not there`},
		{name: "token", object: pod, from: "automountServiceAccountToken: false", to: "automountServiceAccountToken: true", check: references, want: "it gets a token"},
		{name: "ConfigMap of a volume", object: pod, from: "name: ratelimitd-policy\n        name", to: "name: other\n        name", check: references, want: `volume ratelimitd-policy refers to ConfigMap "other", which is not there`},
		{name: "ConfigMap of variables", object: pod, from: "- configMapRef:\n            name: ratelimitd-settings-", to: "- configMapRef:\n            name: other-", check: references, want: `container ratelimitd refers to ConfigMap "other-`},
		{name: "Secret of a volume", object: pod, from: "secretName: ratelimitd-redis", to: "secretName: other", check: references, want: `volume ratelimitd-redis-password refers to Secret "other", which is not there`},
		{name: "key of a Secret", object: pod, from: "- key: password", to: "- key: passwort", check: references, want: `the key "passwort", which Secret "ratelimitd-redis" does not have`},
		{name: "Secret of a variable", object: redis, from: "key: password", to: "key: passwort", check: references, want: `variable REDIS_PASSWORD of container redis refers to the key "passwort"`},
		{name: "mount without a volume", object: pod, from: "- mountPath: /run/ratelimitd\n          name: ratelimitd-socket", to: "- mountPath: /run/ratelimitd\n          name: sock", check: references, want: `mounts the volume "sock", which is not there`},
		{name: "variable in a variable", object: pod, from: "$(MEMORY_LIMIT_MIB)", to: "$(MEMORY)", check: references, want: "$(MEMORY), which is not set before"},
		{name: "variable in an argument", object: redis, from: "$(REDIS_PASSWORD)", to: "$(PASSWORD)", check: references, want: "$(PASSWORD), which is not set before"},
		{name: "variable set twice", object: pod, from: "- name: RATELIMITD_STORE", to: "- name: REDIS_HOST", check: references, want: "container ratelimitd sets REDIS_HOST twice"},
		{name: "named port of a probe", object: pod, from: "path: /healthz\n            port: rl-metrics", to: "path: /healthz\n            port: metrics", check: references, want: "the liveness probe of container ratelimitd goes to port metrics, which is not there"},
		{name: "numbered port of a probe", object: pod, from: "port: 9902", to: "port: 9903", check: references, want: "goes to port 9903, which is not there"},
		{name: "one name for two ports", object: pod, from: "name: envoy-pages", to: "name: rl-metrics", check: references, want: "containers ratelimitd and envoy have both a port rl-metrics"},

		{name: "selector of a Service", object: "Service assistant/assistant", from: "selector:\n    app.kubernetes.io/name: assistant", to: "selector:\n    app.kubernetes.io/name: other", check: checks.ObjectReferences, want: "Service assistant/assistant selects no pod"},
		{name: "port of a Service", object: "Service assistant/assistant", from: "targetPort: 10000", to: "targetPort: https", check: checks.ObjectReferences, want: "Service assistant/assistant names port https, which"},
		{name: "name of a sidecar's port in a Service", object: "Service assistant/assistant", from: "targetPort: 10000", to: "targetPort: http", check: checks.ObjectReferences, want: "Service assistant/assistant names port http of an init container"},
		{name: "port of a NetworkPolicy", object: network, from: "port: 10000", to: "port: 10001", check: checks.ObjectReferences, want: "NetworkPolicy assistant/assistant names port 10001, which"},
		{name: "name of a sidecar's port in a NetworkPolicy", object: network, from: "port: 8083", to: "port: rl-metrics", check: checks.ObjectReferences, want: "NetworkPolicy assistant/assistant names port rl-metrics of an init container"},
		{name: "selector of a budget", object: "PodDisruptionBudget assistant/assistant", from: "matchLabels:\n      app.kubernetes.io/name: assistant", to: "matchLabels:\n      app.kubernetes.io/name: other", check: checks.ObjectReferences, want: "selects no pod"},
		{name: "port of a monitor", dir: prod, object: monitor, from: "port: rl-metrics", to: "port: metrics", check: checks.ObjectReferences, want: "names port metrics"},
		{name: "what is not there to scale", dir: prod, object: scaler, from: "kind: Deployment\n    name: ratelimitd", to: "kind: Deployment\n    name: other", check: checks.ObjectReferences, want: "scales Deployment other, which is not there"},
		{name: "replicas beside a scaler", dir: prod, object: shared, from: "revisionHistoryLimit: 5", to: "replicas: 3", check: checks.ObjectReferences, want: "replicas is set, but"},
		{name: "namespace", object: "Namespace assistant", from: "name: assistant", to: "name: other", check: checks.ObjectReferences, want: "namespace assistant is not in the build"},
		{name: "ConfigMap that nobody reads", object: "ConfigMap assistant/ratelimitd-policy", from: "name: ratelimitd-policy", to: "name: other", check: checks.ObjectReferences, want: "ConfigMap assistant/other is read by no pod"},

		{name: "privileged", object: pod, from: "allowPrivilegeEscalation: false", to: "privileged: true", check: security, want: "privileged"},
		{name: "root", object: pod, from: "runAsNonRoot: true\n        runAsUser: 65532\n        seccomp", to: "runAsNonRoot: false\n        runAsUser: 0\n        seccomp", check: security, want: "runAsNonRoot"},
		{name: "capabilities", object: pod, from: "drop:\n            - ALL", to: "drop:\n            - NET_RAW", check: security, want: "unrestricted capabilities"},
		{name: "root file system", object: pod, from: "readOnlyRootFilesystem: true", to: "readOnlyRootFilesystem: false", check: security, want: "its root file system is not read-only"},
		{name: "no limit", object: pod, from: "limits:\n            cpu: 500m\n            memory: 128Mi", to: "limits:\n            cpu: 500m", check: security, want: "container assistant: it has no limit of memory"},
		{name: "volume without an end", object: pod, from: "- emptyDir:\n          sizeLimit: 1Mi\n        name: ratelimitd-socket", to: "- emptyDir: {}\n        name: ratelimitd-socket", check: security, want: "volume ratelimitd-socket has no sizeLimit"},
		{name: "limit below request", object: pod, from: "cpu: 500m", to: "cpu: 1m", check: security, want: "its limit of cpu is below its request"},

		{name: "namespace that takes all", object: "Namespace assistant", from: "enforce: restricted", to: "enforce: baseline", check: checks.Namespaces, want: "Namespace assistant takes pods that are not restricted"},
		{name: "namespace that takes none in words", object: "Namespace assistant", from: "    pod-security.kubernetes.io/enforce: restricted\n", to: "", check: checks.Namespaces, want: "Namespace assistant takes pods that are not restricted"},
		{name: "policy with a hash", from: "name: ratelimitd-policy\n", to: "name: ratelimitd-policy-kgm27cg4fm\n", check: checks.Policies, want: "its policy is in ConfigMap ratelimitd-policy-kgm27cg4fm, want ratelimitd-policy, without a hash"},
		{name: "password as a variable", dir: prod, object: shared, from: "REDIS_PASSWORD_FILE\n          value: /etc/ratelimitd/redis/password", to: "REDIS_PASSWORD\n          valueFrom:\n            secretKeyRef:\n              name: ratelimitd-redis\n              key: password", check: checks.Passwords, want: "REDIS_PASSWORD has in the environment what Secret ratelimitd-redis keeps"},
		{name: "password in words", dir: prod, object: shared, from: "REDIS_PASSWORD_FILE\n          value: /etc/ratelimitd/redis/password", to: "REDIS_PASSWORD\n          value: secret", check: checks.Passwords, want: "REDIS_PASSWORD is in its environment"},
		{name: "password in a URL", dir: prod, object: shared, from: "REDIS_PASSWORD_FILE\n          value: /etc/ratelimitd/redis/password", to: "REDIS_URL\n          value: redis://:secret@redis", check: checks.Passwords, want: "REDIS_URL has a password"},
		{name: "all Secrets as variables", object: pod, from: "- configMapRef:\n            name: ratelimitd-settings-", to: "- secretRef:\n            name: ratelimitd-settings-", check: checks.Passwords, want: "is in its environment"},
		{name: "password elsewhere", object: pod, from: "value: /etc/ratelimitd/redis/password", to: "value: /etc/ratelimitd/password", check: checks.Passwords, want: `REDIS_PASSWORD_FILE="/etc/ratelimitd/password" is in no volume`},
		{name: "password by a subPath", object: pod, from: "mountPath: /etc/ratelimitd/redis\n", to: "mountPath: /etc/ratelimitd/redis\n          subPath: a\n", check: checks.Passwords, want: "by a subPath, which never changes"},
		{name: "password in a ConfigMap", object: pod, from: "value: /etc/ratelimitd/redis/password", to: "value: /etc/ratelimitd/policy/password", check: checks.Passwords, want: "is in no Secret"},
		{name: "password by another name", object: pod, from: "path: password", to: "path: passwort", check: checks.Passwords, want: "is no item of volume ratelimitd-redis-password"},
		{name: "password for all to read", object: pod, from: "defaultMode: 288", to: "defaultMode: 420", check: checks.Passwords, want: "has not the mode 0440"},
		{name: "password that nobody may read", dir: prod, object: shared, from: "fsGroup: 65532\n", to: "\n", check: checks.Passwords, want: "the pod has no fsGroup"},
		{name: "another command", dir: prod, object: shared, from: "- args:\n        - serve", to: "- args:\n        - health", check: settings, want: "it is started by other words than `serve`"},
		{name: "another store", dir: prod, object: shared, from: "value: redis\n", to: "value: memory\n", check: settings, want: `RATELIMITD_STORE is "memory"`},
		{name: "variables of Services", object: pod, from: "enableServiceLinks: false", to: "enableServiceLinks: true", check: settings, want: "each Service adds variables to it"},

		{name: "Service with an address", dir: prod, object: "Service ratelimitd/ratelimitd", from: "clusterIP: None", to: "clusterIP: 10.96.0.7", check: checks.Services, want: "Service ratelimitd is not headless"},
		{name: "Service of pods that are not ready", dir: prod, object: "Service ratelimitd/ratelimitd", from: "clusterIP: None", to: "clusterIP: None\n  publishNotReadyAddresses: true", check: checks.Services, want: "names pods that are not ready"},
		{name: "no Service", dir: prod, object: "Service ratelimitd/ratelimitd", check: checks.Services, want: `no Service leads to RATELIMITD_GRPC_ADDR=":8081"`},
		{name: "Service without gRPC", dir: prod, object: "Service ratelimitd/ratelimitd", from: "targetPort: ratelimitd-grpc", to: "targetPort: ratelimitd-http", check: checks.Services, want: `no Service leads to RATELIMITD_GRPC_ADDR=":8081"`},
		{name: "no way out", dir: prod, object: guard, from: "port: 53", to: "port: 54", check: checks.Egress, want: "lets it reach names, port 53 of UDP"},
		{name: "no way out for long names", dir: prod, object: guard, from: "port: 53\n      protocol: TCP", to: "port: 53\n      protocol: UDP", check: checks.Egress, want: "lets it reach names, port 53 of TCP"},
		{name: "no way to Redis", dir: prod, object: guard, from: "port: 6379", to: "port: 6380", check: checks.Egress, want: "lets it reach Redis, port 6379 of TCP"},
		{name: "Redis at a port that is closed", dir: prod, object: "ConfigMap ratelimitd/ratelimitd-settings-", from: `REDIS_PORT: "6379"`, to: `REDIS_PORT: "6380"`, check: checks.Egress, want: "lets it reach Redis, port 6380 of TCP"},
		{name: "Sentinels at a port that is closed", dir: prod, object: "ConfigMap ratelimitd/ratelimitd-settings-", from: "REDIS_HOST: redis.", to: "REDIS_ADDRS: a:26379,b:26380 #", check: checks.Egress, want: "lets it reach Redis, port 26380 of TCP"},
		{name: "URL with a port that is closed", dir: prod, object: "ConfigMap ratelimitd/ratelimitd-settings-", from: "REDIS_HOST: redis.", to: "REDIS_URL: rediss://a:6390/0 #", check: checks.Egress, want: "lets it reach Redis, port 6390 of TCP"},
		{name: "no way to a collector", dir: prod, object: guard, from: "port: 4317", to: "port: 4319", check: checks.Egress, want: "a collector of traces, port 4317 of TCP"},
		{name: "collector at a port that is closed", dir: prod, object: "ConfigMap ratelimitd/ratelimitd-settings-", from: "REDIS_HOST", to: "OTEL_EXPORTER_OTLP_ENDPOINT: http://collector:14318\n  REDIS_HOST", check: checks.Egress, want: "a collector of traces, port 14318 of TCP"},
		{name: "way out to some", dir: prod, object: guard, from: "- ports:\n    - port: 6379", to: "- to: [{ podSelector: {} }]\n    ports:\n    - port: 6379", check: checks.Egress, want: "lets it reach Redis, port 6379 of TCP"},
		{name: "client without a label", dir: prod, object: guard, from: `ratelimitd/client: "true"`, to: `app: "true"`, check: checks.Ingress, want: "lets in others than pods with the label ratelimitd/client"},
		{name: "client from anywhere", dir: prod, object: guard, from: "- from:\n    - namespaceSelector: {}\n      podSelector:\n        matchLabels:\n          ratelimitd/client: \"true\"\n    ports", to: "- ports", check: checks.Ingress, want: "lets in everybody, and not only pods with the label ratelimitd/client"},
		{name: "nobody at the cost API", dir: prod, object: guard, from: "port: ratelimitd-http", to: "port: 8088", check: checks.Ingress, want: "no NetworkPolicy lets pods with the label ratelimitd/client in"},
		{name: "metrics for nobody", dir: prod, object: guard, from: "port: rl-metrics", to: "port: 8088", check: checks.Ingress, want: "no NetworkPolicy lets namespace monitoring in"},
		{name: "metrics for another namespace", object: network, from: "metadata.name: monitoring", to: "metadata.name: other", check: checks.Ingress, want: "lets in others than namespace monitoring"},
		{name: "Service that leads to a closed port", object: network, from: "- port: 10000", to: "- port: 9902", check: checks.Ingress, want: "no NetworkPolicy lets anybody in to port 10000, which Service assistant leads to"},
		{name: "another name of Redis", object: "Service assistant/redis", from: "name: redis\n  namespace", to: "name: other\n  namespace", check: checks.Redis, want: `REDIS_HOST="redis" and REDIS_PORT="6379" are no Service of Deployment assistant/redis`},
		{name: "another port of Redis", object: "Service assistant/redis", from: "port: 6379", to: "port: 6380", check: checks.Redis, want: "are no Service of Deployment assistant/redis"},
		{name: "another password of Redis", object: redis, from: "name: ratelimitd-redis", to: "name: other", check: checks.Redis, want: "its password is another than that of Deployment assistant/redis"},
		{name: "no password of Redis", object: redis, from: "        - --requirepass\n", to: "", check: checks.Redis, want: "its password is another than that of Deployment assistant/redis"},
		{name: "Redis twice", object: redis, from: "replicas: 1", to: "replicas: 2", check: checks.Redis, want: "there may be two of it"},
		{name: "Redis twice for a moment", object: redis, from: "type: Recreate", to: "type: RollingUpdate", check: checks.Redis, want: "there may be two of it"},
		{name: "Redis that forgets", object: redis, from: "noeviction", to: "allkeys-lru", check: checks.Redis, want: `its maxmemory-policy is "allkeys-lru"`},
		{name: "Redis without a bound", object: redis, from: "        - --maxmemory\n        - 192mb\n", to: "", check: checks.Redis, want: `its maxmemory is ""`},
		{name: "Redis that is killed", object: redis, from: "192mb", to: "256mb", check: checks.Redis, want: `its maxmemory is "256Mi", want at most four fifths of the limit of 256Mi`},
		{name: "metrics at another path", dir: prod, object: monitor, from: "path: /metrics", to: "path: /metric", check: checks.Monitors, want: "no PodMonitor asks for /metrics"},
		{name: "metrics at another port", dir: prod, object: monitor, from: "port: rl-metrics", to: "port: ratelimitd-http", check: checks.Monitors, want: "no PodMonitor asks for /metrics"},

		{name: "no readiness probe", object: redis, from: "readinessProbe:", to: "startupProbe:", check: checks.Probes, want: "container redis has no readiness probe"},
		{name: "sidecar without a startup probe", object: pod, from: "        startupProbe:\n          failureThreshold: 30\n          httpGet:\n            path: /ready\n            port: envoy-pages\n          periodSeconds: 1\n", to: "", check: checks.Probes, want: "container envoy has no startup probe"},
		{name: "update with fewer pods", dir: prod, object: shared, from: "maxSurge: 1\n      maxUnavailable: 0", to: "maxSurge: 0\n      maxUnavailable: 100%", check: checks.Updates, want: "an update ends old pods before new ones are ready"},
		{name: "update by default", object: pod, from: "      maxUnavailable: 0\n", to: "", check: checks.Updates, want: "an update ends old pods before new ones are ready"},
		{name: "update of all at once", dir: prod, object: shared, from: "    rollingUpdate:\n      maxSurge: 1\n      maxUnavailable: 0\n    type: RollingUpdate", to: "    type: Recreate", check: checks.Updates, want: "an update ends old pods before new ones are ready"},
		{name: "no preStop", dir: prod, object: shared, from: "        lifecycle:\n          preStop:\n            sleep:\n              seconds: 10\n", to: "", check: checks.Updates, want: "it has no preStop that sleeps"},
		{name: "no preStop of the app", object: pod, from: "        lifecycle:\n          preStop:\n            sleep:\n              seconds: 10\n", to: "", check: checks.Updates, want: "no container but sidecars has a preStop that sleeps"},
		{name: "no drain", dir: prod, object: shared, from: "- name: RATELIMITD_DRAIN_DELAY\n          value: 5s\n        ", to: "", check: checks.Updates, want: "set RATELIMITD_DRAIN_DELAY"},
		{name: "no budget", dir: prod, object: budget, check: checks.Disruptions, want: "Deployment ratelimitd/ratelimitd has 0 PodDisruptionBudgets"},
		{name: "no budget of the app", object: "PodDisruptionBudget assistant/assistant", check: checks.Disruptions, want: "Deployment assistant/assistant has 0 PodDisruptionBudgets"},
		{name: "budget of others", dir: prod, object: budget, from: "matchLabels:\n      app.kubernetes.io/name: ratelimitd", to: "matchLabels:\n      app.kubernetes.io/name: other", check: checks.Disruptions, want: "has 0 PodDisruptionBudgets"},
		{name: "budget that holds up drains", dir: prod, object: budget, from: "maxUnavailable: 1", to: "minAvailable: 3", check: checks.Disruptions, want: "PodDisruptionBudget ratelimitd/ratelimitd: write maxUnavailable: 1"},
		{name: "spread over no zones", dir: prod, object: shared, from: "topologyKey: topology.kubernetes.io/zone", to: "topologyKey: topology.kubernetes.io/region", check: checks.Spread, want: "over topology.kubernetes.io/zone: there is none"},
		{name: "spread over no nodes", object: pod, from: "topologyKey: kubernetes.io/hostname", to: "topologyKey: topology.kubernetes.io/zone", check: checks.Spread, want: "over kubernetes.io/hostname: there is none"},
		{name: "spread of others", dir: prod, object: shared, from: "- labelSelector:\n          matchLabels:\n            app.kubernetes.io/name: ratelimitd", to: "- labelSelector:\n          matchLabels:\n            app.kubernetes.io/name: other", check: checks.Spread, want: "over topology.kubernetes.io/zone: its selector does not select these pods"},
		{name: "spread of all revisions", dir: prod, object: shared, from: "        matchLabelKeys:\n        - pod-template-hash\n", to: "", check: checks.Spread, want: "an update would count the pods that are about to end"},
		{name: "spread at all costs", dir: prod, object: shared, from: "ScheduleAnyway", to: "DoNotSchedule", check: checks.Spread, want: "a pod would not start where there is no such room"},
		{name: "no scaler", dir: prod, object: scaler, check: checks.Scaling, want: "Deployment ratelimitd/ratelimitd has 0 HorizontalPodAutoscalers"},
		{name: "scaler of others", dir: prod, object: scaler, from: "kind: Deployment\n    name: ratelimitd", to: "kind: Deployment\n    name: other", check: checks.Scaling, want: "has 0 HorizontalPodAutoscalers"},
		{name: "scaler of another kind", dir: prod, object: scaler, from: "apiVersion: apps/v1", to: "apiVersion: v1", check: checks.Scaling, want: "it scales something of v1, want apps/v1"},
		{name: "scaler that cannot", dir: prod, object: scaler, from: "minReplicas: 3", to: "minReplicas: 12", check: checks.Scaling, want: "minReplicas is not below maxReplicas"},
		{name: "scaler by something else", dir: prod, object: scaler, from: "name: cpu", to: "name: memory", check: checks.Scaling, want: "it does not go by a share of the requested CPU time"},
		{name: "scaler without room", dir: prod, object: scaler, from: "averageUtilization: 60", to: "averageUtilization: 160", check: checks.Scaling, want: "it does not go by a share of the requested CPU time"},
		{name: "share of nothing", dir: prod, object: shared, from: "requests:\n            cpu: 500m", to: "requests:", check: checks.Scaling, want: "container ratelimitd requests no CPU time"},
		{name: "Go without a limit", dir: prod, object: shared, from: "        - name: GOMEMLIMIT\n          value: $(MEMORY_LIMIT_MIB)000000B\n", to: "", check: checks.Memory, want: `GOMEMLIMIT is ""`},
		{name: "Go with too much", dir: prod, object: shared, from: "$(MEMORY_LIMIT_MIB)000000B", to: "$(MEMORY_LIMIT_MIB)MiB", check: checks.Memory, want: "GOMEMLIMIT is 268435456 bytes, want 80 % to 96 % of the limit of 268435456"},
		{name: "Go with too little", object: pod, from: "$(MEMORY_LIMIT_MIB)000000B", to: "100000000B", check: checks.Memory, want: "GOMEMLIMIT is 100000000 bytes"},

		{name: "setting", object: pod, from: "RATELIMITD_STORE", to: "RATELIMITD_SHOP", check: settings, want: "RATELIMITD_SHOP is no setting of ratelimitd"},
		{name: "setting in a ConfigMap", object: "ConfigMap assistant/ratelimitd-settings-", from: "REDIS_HOST", to: "REDIS_HOTS", check: settings, want: "REDIS_HOTS is no setting"},
		{name: "health for the pod alone", object: pod, from: "value: :8083", to: "value: 127.0.0.1:8083", check: checks.Addresses, want: "nobody outside of the pod reaches it"},
		{name: "the cost API for all", object: pod, from: "value: 127.0.0.1:8080", to: "value: :8080", check: checks.Addresses, want: "others than this pod reach it"},
		{name: "the cost API for the pod alone", dir: prod, object: shared, from: "value: :8080", to: "value: 127.0.0.1:8080", check: checks.Addresses, want: "nobody outside of the pod reaches it"},
		{name: "health at another port", object: pod, from: "value: :8083", to: "value: :8082", check: checks.Addresses, want: "the container names no such port"},
		{name: "socket in no volume", object: pod, from: "unix:/run/ratelimitd/", to: "unix:/tmp/", check: checks.Addresses, want: "its folder is no volume"},
		{name: "socket of nobody else", object: pod, from: "name: envoy\n          readOnly: true\n        - mountPath: /run/ratelimitd\n", to: "name: envoy\n          readOnly: true\n        - mountPath: /run/other\n", check: checks.Addresses, want: "no other container has its folder"},
		{name: "socket without a group", object: pod, from: "fsGroup: 65532\n", to: "\n", check: checks.Addresses, want: "the pod has no fsGroup"},
		{name: "liveness that asks for more", object: pod, from: "path: /healthz\n            port: rl-metrics", to: "path: /api/v1/assistant/health\n            port: rl-metrics", check: checks.Addresses, want: "its liveness probe does not ask for /healthz"},
		{name: "too little time to end", object: pod, from: "terminationGracePeriodSeconds: 90", to: "terminationGracePeriodSeconds: 20", check: checks.Endings, want: "the grace period of 20s is no longer than"},
		{name: "too little time to drain", dir: prod, object: shared, from: "value: 5s", to: "value: 10s", check: checks.Endings, want: "the grace period of 30s is no longer than"},
		{name: "no time", object: pod, from: "value: 10s", to: "value: ten", check: checks.Endings, want: "RATELIMITD_SHUTDOWN_TIMEOUT says no time"},
		{name: "image without a tag", object: pod, from: "image: python:3.14-slim", to: "image: python", check: checks.Images, want: "has no tag that stands still"},
		{name: "image with a tag that moves", object: pod, from: "image: python:3.14-slim", to: "image: python:latest", check: checks.Images, want: "has no tag that stands still"},
		{name: "one image in two versions", object: redis, from: "image: redis:8.2-alpine", to: "image: python:3.12", check: checks.Images, want: "image python:3.12 is 3.14-slim elsewhere"},
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

// broken builds a folder, and replaces something in one object, or leaves it out; it is named by how its name begins. Without a name
// something is replaced wherever it stands.
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
	if object == "" {
		for i, o := range objects {
			objects[i] = decode(t, strings.ReplaceAll(string(o.YAML), from, to))
		}
		return objects
	}
	i := slices.IndexFunc(objects, func(o manifests.Object) bool { return strings.HasPrefix(o.String(), object) })
	if i < 0 {
		t.Fatalf("%s has no %s", dir, object)
	}
	if from == "" {
		return slices.Delete(objects, i, i+1)
	}
	text := string(objects[i].YAML)
	if !strings.Contains(text, from) {
		t.Fatalf("%s does not say %q:\n%s", objects[i], from, text)
	}
	objects[i] = decode(t, strings.Replace(text, from, to, 1))
	return objects
}

func decode(t *testing.T, text string) manifests.Object {
	t.Helper()
	object, err := manifests.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return object
}
