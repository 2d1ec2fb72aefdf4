package k8s

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
	corev1 "k8s.io/api/core/v1"

	"github.com/ratelimitd/ratelimitd/test/k8s/checks"
	"github.com/ratelimitd/ratelimitd/test/k8s/manifests"
)

// pod is the example's pod, run as processes of this machine: each with the arguments, variables and files that the
// manifests give its container, but for ports and paths.
type pod struct {
	redis  *harness.RedisServer
	daemon *harness.DaemonProcess
	envoy  *harness.EnvoyProxy
	app    *harness.RunningProgram

	socket string
	probes string // the URL of what the daemon has for probes
	pages  string // the URL of what Envoy has for probes
}

// TestThePodOfTheExample runs the example's pod and its Redis, and asks what docs/kubernetes.md has the reader ask.
func TestThePodOfTheExample(t *testing.T) {
	p := startPod(t)
	t.Run("limits", func(t *testing.T) {
		for i := range 11 {
			want := http.StatusOK
			if i == 10 {
				want = http.StatusTooManyRequests
			}
			if status, _ := get(t, p.envoy.URL+"/", "x-user-id", "bob"); status != want {
				t.Errorf("request %d of a minute is answered with %d, want %d", i+1, status, want)
			}
		}
	})
	t.Run("books what the answers report", func(t *testing.T) {
		harness.WaitFor(t, "ten answers are paid for", func(context.Context) error {
			_, usage := get(t, p.daemon.URL("/v1/users/bob/usage"))
			if !strings.Contains(strings.ReplaceAll(usage, " ", ""), `"spent":"0.002606"`) {
				return fmt.Errorf("the usage is %s", usage)
			}
			return nil
		})
	})
	t.Run("has pages for probes and no other", func(t *testing.T) {
		for path, want := range map[string]int{
			"/ready": http.StatusOK, "/healthz": http.StatusOK, "/stats/prometheus": http.StatusOK,
			"/": http.StatusNotFound, "/quitquitquit": http.StatusNotFound, "/config_dump": http.StatusNotFound,
		} {
			if status, _ := get(t, p.pages+path); status != want {
				t.Errorf("%s of the pages is answered with %d, want %d", path, status, want)
			}
		}
	})
	t.Run("is well without Redis", func(t *testing.T) {
		p.redis.Kill()
		harness.WaitFor(t, "the daemon notices", func(context.Context) error {
			if _, text := get(t, p.daemon.URL("/api/v1/assistant/health")); !strings.Contains(text, "degraded") {
				return fmt.Errorf("its health is %s", text)
			}
			return nil
		})
		for _, path := range []string{"/healthz", "/readyz"} {
			if status, _ := get(t, p.probes+path); status != http.StatusOK {
				t.Errorf("%s is answered with %d while Redis is away, want 200: a probe would end the pod", path, status)
			}
		}
		if status, _ := get(t, p.envoy.URL+"/", "x-user-id", "carol"); status != http.StatusOK {
			t.Errorf("a request is answered with %d while Redis is away, want 200 by on_store_failure", status)
		}
	})
}

// startPod starts what the example's pod has, in the order of the manifest.
func startPod(t *testing.T) *pod {
	t.Helper()
	build := example(t)
	d, c := build.Daemons()[0], build.Envoys()[0]
	policy, problem := d.Policy()
	if problem != "" {
		t.Fatal(problem)
	}
	if _, problem := c.Configuration(); problem != "" {
		t.Fatal(problem)
	}
	dir := t.TempDir()
	p := &pod{socket: filepath.Join(dir, "ratelimitd.sock")}
	p.redis = harness.Redis(t, harness.WithPassword("the reader's own"), harness.WithArgs(redisArgs(t, build)...))

	files := map[string]string{"policy.yaml": policy, "password": "the reader's own"}
	for name, text := range files {
		writeFile(t, filepath.Join(dir, name), text)
	}
	host, port, err := net.SplitHostPort(p.redis.Addr)
	if err != nil {
		t.Fatal(err)
	}
	env := harness.Env(maps.Clone(d.Env))
	replace(t, env, "RATELIMITD_GRPC_ADDR", "unix:"+p.socket)
	replace(t, env, "RATELIMITD_POLICY", filepath.Join(dir, "policy.yaml"))
	replace(t, env, "REDIS_PASSWORD_FILE", filepath.Join(dir, "password"))
	replace(t, env, "REDIS_HOST", host)
	replace(t, env, "REDIS_PORT", port)
	delete(env, "RATELIMITD_HTTP_ADDR") // the harness chooses
	probes := harness.Addr(t)
	replace(t, env, "RATELIMITD_METRICS_ADDR", probes)
	p.probes = "http://" + probes
	p.daemon = harness.Daemon(t, env)

	app, pages := harness.Port(t), harness.Port(t)
	p.pages = fmt.Sprintf("http://127.0.0.1:%d", pages)
	p.envoy = harness.Envoy(t, "deploy/k8s/examples/assistant/envoy.yaml", harness.Replacements{
		"address: 0.0.0.0":                "address: 127.0.0.1",
		"port_value: 9902":                fmt.Sprintf("port_value: %d", pages),
		"port_value: 9000":                fmt.Sprintf("port_value: %d", app),
		"/run/ratelimitd/ratelimitd.sock": p.socket,
		"timeout: 0.02s":                  "timeout: 30s",
	})
	p.app = startApp(t, build, dir, app)
	return p
}

// startApp runs the app of the example at another port.
func startApp(t *testing.T, build checks.Build, dir string, port int) *harness.RunningProgram {
	t.Helper()
	var text string
	for _, o := range build {
		if c, ok := o.Typed.(*corev1.ConfigMap); ok && strings.HasPrefix(c.Name, "assistant-app") {
			text = c.Data["app.py"]
		}
	}
	const address = `("127.0.0.1", 9000)`
	if !strings.Contains(text, address) {
		t.Fatalf("the app does not listen on %s:\n%s", address, text)
	}
	path := filepath.Join(dir, "app.py")
	writeFile(t, path, strings.Replace(text, address, fmt.Sprintf(`("127.0.0.1", %d)`, port), 1))
	return harness.Start(t, harness.Program{
		Name: "app", Path: "python3", Args: []string{path},
		Ready: func(ctx context.Context) error {
			var dialer net.Dialer
			conn, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				err = conn.Close()
			}
			return err
		},
	})
}

// redisArgs returns the arguments of the example's Redis, but for the password, which the harness gives.
func redisArgs(t *testing.T, build checks.Build) []string {
	t.Helper()
	for _, p := range build.Pods() {
		for _, c := range p.Containers() {
			if c.Name != "redis" {
				continue
			}
			at := slices.Index(c.Args, "--requirepass")
			if at < 0 || at+2 != len(c.Args) {
				t.Fatalf("redis is started with %q, want a password at the end", c.Args)
			}
			return c.Args[:at]
		}
	}
	t.Fatal("the example has no Redis")
	return nil
}

func example(t *testing.T) checks.Build {
	t.Helper()
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := manifests.Build(filepath.Join(root, "examples", "assistant"))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// replace sets a variable that the manifests set, too.
func replace(t *testing.T, env harness.Env, name, value string) {
	t.Helper()
	if env[name] == "" {
		t.Fatalf("the manifests do not set %s", name)
	}
	env[name] = value
}

// get asks for a page, with headers as name and value.
func get(t *testing.T, url string, header ...string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("get %s: %v", url, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("get %s: %v", url, err)
	}
	return resp.StatusCode, string(body)
}
