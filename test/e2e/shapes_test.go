package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestSingleRedis connects to a Redis in each of the ways that one can be named, and shares its state with a second
// daemon that names it so too.
func TestSingleRedis(t *testing.T) {
	t.Parallel()
	certs := harness.NewCerts(t)
	const password = "open:sesame/@?+%"
	passwordFile := t.TempDir() + "/password"
	writeFile(t, passwordFile, password+"\n")
	host := func(r *harness.RedisServer) harness.Env {
		return harness.Env{"REDIS_HOST": "127.0.0.1", "REDIS_PORT": fmt.Sprint(r.Port())}
	}
	for _, c := range []struct {
		name string
		opts []harness.RedisOption
		env  func(r *harness.RedisServer) harness.Env
	}{
		{name: "host and port", env: host},
		{name: "database and connections", env: func(r *harness.RedisServer) harness.Env {
			return with(with(host(r), "REDIS_DB", "3"), "REDIS_MAX_connections", "7")
		}},
		{name: "address", env: func(r *harness.RedisServer) harness.Env { return harness.Env{"REDIS_ADDRS": r.Addr} }},
		{name: "url", env: onRedis},
		{
			name: "password", opts: []harness.RedisOption{harness.WithPassword(password)},
			env: func(r *harness.RedisServer) harness.Env { return with(host(r), "REDIS_PASSWORD", password) },
		},
		{
			name: "password file", opts: []harness.RedisOption{harness.WithPassword(password)},
			env: func(r *harness.RedisServer) harness.Env { return with(host(r), "REDIS_PASSWORD_FILE", passwordFile) },
		},
		{
			name: "user and password",
			opts: []harness.RedisOption{harness.WithArgs("--user", "limiter", "on", ">"+password, "~*", "&*", "+@all")},
			env: func(r *harness.RedisServer) harness.Env {
				return with(with(host(r), "REDIS_USERNAME", "limiter"), "REDIS_PASSWORD", password)
			},
		},
		{
			name: "url with password and database", opts: []harness.RedisOption{harness.WithPassword(password)},
			env: func(r *harness.RedisServer) harness.Env {
				return harness.Env{"REDIS_URL": "redis://:" + url.QueryEscape(password) + "@" + r.Addr + "/3"}
			},
		},
		{
			name: "tls url", opts: []harness.RedisOption{harness.WithTLS(certs)},
			env: func(r *harness.RedisServer) harness.Env {
				return harness.Env{
					"REDIS_URL": "rediss://" + r.Addr, "REDIS_TLS_CA_FILE": certs.CA,
					"REDIS_TLS_CERT_FILE": certs.Cert, "REDIS_TLS_KEY_FILE": certs.Key,
				}
			},
		},
		{
			name: "tls", opts: []harness.RedisOption{harness.WithTLS(certs)},
			env: func(r *harness.RedisServer) harness.Env {
				return harness.Env{
					"REDIS_ADDRS": r.Addr, "REDIS_TLS_ENABLED": "true", "REDIS_TLS_CA_FILE": certs.CA,
					"REDIS_TLS_CERT_FILE": certs.Cert, "REDIS_TLS_KEY_FILE": certs.Key,
				}
			},
		},
		{
			name: "unix socket", opts: []harness.RedisOption{harness.WithSocket()},
			env: func(r *harness.RedisServer) harness.Env { return harness.Env{"REDIS_URL": "unix://" + r.Addr} },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := harness.Redis(t, c.opts...)
			env := with(c.env(r), "RATELIMITD_POLICY", "production")
			one, two := harness.Daemon(t, env), harness.Daemon(t, env)
			if got := dial(t, one.GRPCAddr).admitted(t, "123", 6); got != 6 {
				t.Errorf("the first daemon admits %d of 6, want all", got)
			}
			if got := dial(t, two.GRPCAddr).admitted(t, "123", 6); got != 4 {
				t.Errorf("the second daemon admits %d of 6, want the 4 that remain", got)
			}
			if err := healthIs(t.Context(), one, "healthy"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSentinel has the master die: the daemon finds the new one by itself, and what the replicas had is counted still.
func TestSentinel(t *testing.T) {
	t.Parallel()
	set := harness.Sentinel(t)
	d := harness.Daemon(t, harness.Env{
		"REDIS_SENTINEL_MASTER": set.Master, "REDIS_ADDRS": strings.Join(set.Addrs, ","),
		"RATELIMITD_POLICY": "production",
	})
	c := dial(t, d.GRPCAddr)
	if got := c.admitted(t, "before", 11); got != 10 {
		t.Errorf("%d of 11 are admitted, want 10", got)
	}
	set.Replicated()
	set.Failover()
	harness.WaitFor(t, "the daemon finds the new master", func(ctx context.Context) error {
		res, err := c.ask(ctx, "probe")
		if err == nil && failedOpen(res) {
			err = errors.New("it fails open")
		}
		return err
	})
	if got := c.admitted(t, "before", 1); got != 0 {
		t.Error("a user whose requests were spent on the old master passes on the new one")
	}
	if got := c.admitted(t, "after", 11); got != 10 {
		t.Errorf("%d of 11 are admitted after the failover, want 10", got)
	}
}

// TestCluster has limits hold over users whose state lies on different masters, and over two daemons.
func TestCluster(t *testing.T) {
	t.Parallel()
	const users = 9
	set := harness.Cluster(t)
	env := withPolicy(t, harness.Env{"REDIS_ADDRS": strings.Join(set.Addrs, ","), "REDIS_CLUSTER": "true"},
		limits{user: "10/hour, 1000/day", global: "85/hour"}.text())
	callers := [2]caller{dial(t, harness.Daemon(t, env).GRPCAddr), dial(t, harness.Daemon(t, env).GRPCAddr)}
	for u := range users {
		user, want := fmt.Sprintf("user-%d", u), 10
		if u == users-1 {
			want = 5 // the system's limit leaves no more
		}
		if got := callers[0].admitted(t, user, 6) + callers[1].admitted(t, user, 6); got != want {
			t.Errorf("%s: %d of 12 are admitted, want %d", user, got, want)
		}
	}
}
