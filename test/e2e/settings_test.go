package e2e

import (
	"bufio"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestSubcommands runs what is not the daemon.
func TestSubcommands(t *testing.T) {
	t.Parallel()
	root := harness.Root(t)
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	writeFile(t, bad, strings.Replace(limits{user: "10/minute", global: "1000/hour"}.text(), "default_plan", "default_plam", 1))
	for _, c := range []struct {
		args  []string
		code  int
		wants []string
	}{
		{args: []string{"version"}, wants: []string{"go1."}},
		{args: []string{"--help"}, wants: []string{"serve", "check-config", "health", "version"}},
		{args: []string{"serve", "--help"}, wants: settingNames()},
		{args: []string{"check-config", filepath.Join(root, "configs", "production.yaml")}},
		{args: []string{"check-config", bad}, code: 1, wants: []string{bad + ":3", "default_plam", "default_plan"}},
		{args: []string{"frobnicate"}, code: 1, wants: []string{"frobnicate"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			out := harness.RunDaemon(t, nil, c.args...)
			if (out.Code == 0) != (c.code == 0) {
				t.Errorf("it ends with %d, want %d: %s", out.Code, c.code, out.Text)
			}
			for _, want := range c.wants {
				if !strings.Contains(out.Text, want) {
					t.Errorf("it does not say %q:\n%s", want, out.Text)
				}
			}
		})
	}
}

// settingNames are all environment variables that operators rely on.
func settingNames() []string {
	var names []string
	words := bufio.NewScanner(strings.NewReader(`
		RATELIMITD_POLICY RATELIMITD_STORE RATELIMITD_GRPC_ADDR RATELIMITD_HTTP_ADDR RATELIMITD_DECISION_TIMEOUT
		RATELIMITD_LOG_LEVEL RATELIMITD_LOG_FORMAT RATE_LIMITING_ENABLED RATE_LIMIT_PER_MINUTE RATE_LIMIT_PER_HOUR
		RATE_LIMIT_PER_DAY GLOBAL_CONCURRENT_LIMIT GLOBAL_HOURLY_LIMIT USER_DAILY_COST_LIMIT GLOBAL_DAILY_COST_LIMIT
		REDIS_HOST REDIS_PORT REDIS_DB REDIS_MAX_CONNECTIONS REDIS_URL REDIS_ADDRS REDIS_USERNAME REDIS_PASSWORD
		REDIS_PASSWORD_FILE REDIS_TLS_ REDIS_SENTINEL_MASTER REDIS_CLUSTER`))
	words.Split(bufio.ScanWords)
	for words.Scan() {
		names = append(names, words.Text())
	}
	return names
}

// TestWrongSettingStopsTheStart starts a daemon with one wrong value each: it ends, and names the setting.
func TestWrongSettingStopsTheStart(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct{ name, value string }{
		{"RATELIMITD_POLICY", missing},
		{"RATELIMITD_STORE", "floppy"},
		{"RATELIMITD_GRPC_ADDR", "nonsense"},
		{"RATELIMITD_HTTP_ADDR", "127.0.0.1:99999"},
		{"RATELIMITD_DECISION_TIMEOUT", "soon"},
		{"RATELIMITD_DECISION_TIMEOUT", "-1ms"},
		{"RATELIMITD_LOG_LEVEL", "loud"},
		{"RATELIMITD_LOG_FORMAT", "xml"},
		{"RATE_LIMITING_ENABLED", "maybe"},
		{"RATE_LIMIT_PER_MINUTE", "ten"},
		{"RATE_LIMIT_PER_HOUR", "-1"},
		{"RATE_LIMIT_PER_DAY", "99999999999999999999"},
		{"GLOBAL_CONCURRENT_LIMIT", "1.5"},
		{"GLOBAL_HOURLY_LIMIT", "many"},
		{"USER_DAILY_COST_LIMIT", "five"},
		{"GLOBAL_DAILY_COST_LIMIT", "-3"},
		{"REDIS_PORT", "99999"},
		{"REDIS_DB", "x"},
		{"REDIS_MAX_CONNECTIONS", "none"},
		{"REDIS_URL", "http://127.0.0.1:6379"},
		{"REDIS_PASSWORD_FILE", missing},
		{"REDIS_CLUSTER", "perhaps"},
	} {
		t.Run(c.name+"="+filepath.Base(c.value), func(t *testing.T) {
			t.Parallel()
			env := harness.Env{
				"RATELIMITD_GRPC_ADDR": harness.Addr(t), "RATELIMITD_HTTP_ADDR": harness.Addr(t),
			}
			if strings.HasPrefix(c.name, "REDIS_") && c.name != "REDIS_URL" {
				env = with(env, "REDIS_HOST", "127.0.0.1")
			}
			out := harness.RunDaemon(t, with(env, c.name, c.value), "serve")
			if out.Code == 0 {
				t.Errorf("the daemon ends with 0, want an error")
			}
			if !strings.Contains(out.Text, c.name) && !strings.Contains(out.Text, flagOf(c.name)) {
				t.Errorf("the message does not name %s:\n%s", c.name, out.Text)
			}
		})
	}
}

// flagOf is the flag of a setting that has one.
func flagOf(name string) string {
	flag, ok := strings.CutPrefix(name, "RATELIMITD_")
	if !ok {
		return name
	}
	return "--" + strings.ToLower(strings.ReplaceAll(flag, "_", "-"))
}

// TestRedisWithoutAddressStopsTheStart asks for a Redis and does not say where: the message names what to set.
func TestRedisWithoutAddressStopsTheStart(t *testing.T) {
	t.Parallel()
	out := harness.RunDaemon(t, harness.Env{"RATELIMITD_STORE": "redis"}, "serve")
	if out.Code == 0 || !strings.Contains(out.Text, "REDIS_URL") {
		t.Errorf("it ends with %d and says %s; want an error that names REDIS_URL", out.Code, out.Text)
	}
}

// TestSecretsStayOutOfMessages starts a daemon with a broken address that holds a password.
func TestSecretsStayOutOfMessages(t *testing.T) {
	t.Parallel()
	out := harness.RunDaemon(t, harness.Env{"REDIS_URL": "redis://:topsecret@127.0.0.1:notaport/0"}, "serve")
	if out.Code == 0 || strings.Contains(out.Text, "topsecret") {
		t.Errorf("it ends with %d and says %s; want an error without the password", out.Code, out.Text)
	}
}

// TestFlagBeatsEnvironment sets one setting both ways.
func TestFlagBeatsEnvironment(t *testing.T) {
	t.Parallel()
	d := harness.Daemon(t, harness.Env{"RATELIMITD_POLICY": "production"}, "--policy", "testing")
	if got := statsOf(t, d, "123").Limits["minute"].Limit; got != 3 {
		t.Errorf("the limit is %d, want the 3 of the testing policy that the flag names", got)
	}
}

// TestOlderSettingsOverrideThePolicy sets what an existing deployment sets, and keeps it in force over a reload.
func TestOlderSettingsOverrideThePolicy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	writeFile(t, path, limits{user: "10/minute, 100/hour", global: "1000/hour"}.text())
	d := harness.Daemon(t, harness.Env{
		"RATELIMITD_POLICY": path, "RATE_LIMIT_PER_MINUTE": "4", "RATE_LIMIT_PER_DAY": "400", "GLOBAL_HOURLY_LIMIT": "900",
	})
	check := func(hour int64) error {
		s := statsOf(t, d, "123")
		got := [4]int64{s.Limits["minute"].Limit, s.Limits["hour"].Limit, s.Limits["day"].Limit, s.Global.Limits["hour"].Limit}
		if want := [4]int64{4, hour, 400, 900}; got != want {
			return fmt.Errorf("the limits of minute, hour, day and the system's hour are %d, want %d", got, want)
		}
		return nil
	}
	if err := check(100); err != nil {
		t.Error(err)
	}
	writeFile(t, path, limits{user: "20/minute, 200/hour", global: "2000/hour"}.text())
	d.Reload()
	harness.WaitFor(t, "the file's new limit is in force and the settings' limits are", func(context.Context) error { return check(200) })
	if got := dial(t, d.GRPCAddr).admitted(t, "123", 5); got != 4 {
		t.Errorf("%d of 5 are admitted, want 4", got)
	}
}
