package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// EnvoyFile is the configuration that the documentation shows, relative to the repository's root.
const EnvoyFile = "deploy/envoy/envoy.yaml"

// EnvoyCostFile is the one that settles money, likewise. It has the ports of EnvoyFile.
const EnvoyCostFile = "deploy/envoy/envoy-cost.yaml"

// What EnvoyFile says, for replacements.
const (
	envoyListener   = "port_value: 10000"
	envoyAdmin      = "port_value: 9901"
	envoyUpstream   = "port_value: 9000"
	envoyRatelimitd = "port_value: 8081"
	envoyTimeout    = "timeout: 0.02s"
)

// EnvoyProxy is one Envoy process.
type EnvoyProxy struct {
	URL      string // of the listener, "http://127.0.0.1:port"
	AdminURL string
	proc     *process
}

// Replacements are texts of a configuration and what to write in their place. Each must occur in it.
type Replacements map[string]string

// Ports returns the replacements that put an Envoy between its clients and an upstream, asking the ratelimitd at
// grpcAddr; both are "127.0.0.1:port".
func Ports(t TB, upstream, grpcAddr string) Replacements {
	t.Helper()
	return Replacements{
		envoyUpstream:   "port_value: " + portOf(t, upstream),
		envoyRatelimitd: "port_value: " + portOf(t, grpcAddr),
	}
}

// Between is Ports with an Envoy that waits for an answer as long as tests do: a busy machine must not make it pass a
// request unasked.
func Between(t TB, upstream, grpcAddr string) Replacements {
	t.Helper()
	return Ports(t, upstream, grpcAddr).With(envoyTimeout, "timeout: 30s")
}

// With returns the replacements with one more.
func (r Replacements) With(text, by string) Replacements {
	more := Replacements{text: by}
	for k, v := range r {
		if k != text {
			more[k] = v
		}
	}
	return more
}

// Envoy starts an Envoy with a configuration file of the repository, given relative to its root, and returns when it
// is ready. Its listener and its admin pages get ports of their own; replace says what else is to be replaced.
func Envoy(t TB, file string, replace Replacements) *EnvoyProxy {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), file))
	if err != nil {
		t.Fatalf("read the configuration of Envoy: %v", err)
	}
	listener, admin := Port(t), Port(t)
	replace = replace.With(envoyListener, fmt.Sprintf("port_value: %d", listener)).
		With(envoyAdmin, fmt.Sprintf("port_value: %d", admin))
	pairs := make([]string, 0, 2*len(replace))
	for from, to := range replace {
		if !strings.Contains(string(text), from) {
			t.Fatalf("%s does not say %q, which a test wants to replace by %q", file, from, to)
		}
		pairs = append(pairs, from, to)
	}
	conf := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(conf, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o600); err != nil {
		t.Fatalf("write the configuration of Envoy: %v", err)
	}
	e := &EnvoyProxy{URL: "http://" + local(listener), AdminURL: "http://" + local(admin)}
	e.proc = &process{
		t: t, name: fmt.Sprintf("envoy %d", listener), path: envoyBinary(t),
		args:  []string{"-c", conf, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"},
		ready: func(ctx context.Context) error { return getOK(ctx, e.AdminURL+"/ready") },
	}
	e.proc.register()
	e.proc.start()
	return e
}

// Kill ends the Envoy at once, as a crash does: it tells nobody.
func (e *EnvoyProxy) Kill() { e.proc.kill() }

// Stop asks the Envoy to end, waits for it, and returns how: nil for status 0.
func (e *EnvoyProxy) Stop() error {
	e.proc.t.Helper()
	return e.proc.stop()
}

// CheckEnvoy has Envoy check a configuration file of the repository as it stands, without running it.
func CheckEnvoy(t TB, file string) {
	t.Helper()
	p := &process{
		t: t, name: "envoy validate", path: envoyBinary(t),
		args: []string{"--mode", "validate", "-c", filepath.Join(Root(t), file)},
	}
	p.register()
	if err := p.launch(); err != nil {
		t.Fatalf("check %s: %v", file, err)
	}
	if err := p.wait(); err != nil {
		t.Fatalf("Envoy does not take %s: %v; it says:\n%s", file, err, p.tail())
	}
}
