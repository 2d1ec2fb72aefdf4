// Package e2e tests ratelimitd as its users meet it: the built program, a real Envoy with the shipped configuration,
// and a real Redis where the state is to be shared or to survive.
package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// stack is one ratelimitd with an Envoy and an upstream of its own.
type stack struct {
	daemon   *harness.DaemonProcess
	envoy    *harness.EnvoyProxy
	upstream *harness.UpstreamServer
}

// newStack starts a daemon and puts an Envoy before it.
func newStack(t *testing.T, env harness.Env, flags ...string) *stack {
	t.Helper()
	s := &stack{daemon: harness.Daemon(t, env, flags...), upstream: harness.Upstream(t)}
	s.envoy = harness.Envoy(t, harness.EnvoyFile, harness.Between(t, s.upstream.Addr, s.daemon.GRPCAddr))
	return s
}

// onRedis is the environment of a daemon that keeps its state in a Redis with a port.
func onRedis(r *harness.RedisServer) harness.Env {
	return harness.Env{"REDIS_URL": "redis://" + r.Addr}
}

// with returns the environment with one more variable.
func with(env harness.Env, name, value string) harness.Env {
	more := harness.Env{name: value}
	for k, v := range env {
		if k != name {
			more[k] = v
		}
	}
	return more
}

// withPolicy returns the environment with a policy file of this text.
func withPolicy(t *testing.T, env harness.Env, text string) harness.Env {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	writeFile(t, path, text)
	return with(env, "RATELIMITD_POLICY", path)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatalf("write %s: %v", path, err)
	}
}

// limits is a policy for one kind of user.
type limits struct {
	user, global                           string // limits as policies write them; empty for none
	userOnStoreFailure, globalOnStoreFault string // "allow" (the default) or "deny"
}

// text writes the policy.
func (l limits) text() string {
	orAllow := func(s string) string {
		if s == "" {
			return "allow"
		}
		return s
	}
	return "domain: assistant\n" +
		"subjects:\n  user: {key: user_id, default_plan: standard, on_store_failure: " + orAllow(l.userOnStoreFailure) + "}\n" +
		"plans:\n  standard:\n    limits: [" + l.user + "]\n" +
		"global:\n  limits: [" + l.global + "]\n  on_store_failure: " + orAllow(l.globalOnStoreFault) + "\n"
}
