package app

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/ratelimitd/ratelimitd/internal/policy"
)

type env map[string]string

func (e env) lookup(name string) (string, bool) {
	value, ok := e[name]
	return value, ok
}

// read reads settings as the daemon does.
func read(t *testing.T, e env, args ...string) (Options, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatalf("parse %q: %v", args, err)
	}
	return ReadSettings(flags, e.lookup)
}

func TestWithoutAnySettingTheDefaultsHold(t *testing.T) {
	got, err := read(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := DefaultOptions(); !reflect.DeepEqual(got, want) {
		t.Errorf("the options are %+v, want %+v", got, want)
	}
}

func TestEachSettingHasItsPlace(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  env
		args []string
		want func(*Options)
	}{
		{"policy", env{"RATELIMITD_POLICY": "testing"}, nil, func(o *Options) { o.Policy = "testing" }},
		{
			"a flag wins over its variable",
			env{"RATELIMITD_POLICY": "testing"},
			[]string{"--policy", "/p.yaml"},
			func(o *Options) { o.Policy = "/p.yaml" },
		},
		{"an empty variable is unset", env{"RATELIMITD_POLICY": "", "REDIS_HOST": ""}, nil, func(*Options) {}},
		{
			"gRPC at several addresses",
			env{"RATELIMITD_GRPC_ADDR": "127.0.0.1:1, unix:/run/x.sock"},
			nil,
			func(o *Options) { o.GRPCAddrs = []string{"127.0.0.1:1", "unix:/run/x.sock"} },
		},
		{"HTTP", nil, []string{"--http-addr=:9090"}, func(o *Options) { o.HTTPAddr = ":9090" }},
		{"metrics apart", env{"RATELIMITD_METRICS_ADDR": ":8083"}, nil, func(o *Options) { o.MetricsAddr = ":8083" }},
		{"administration", env{"RATELIMITD_ADMIN_ADDR": "unix:/a"}, nil, func(o *Options) { o.AdminAddr = "unix:/a" }},
		{"administration off by its flag", env{"RATELIMITD_ADMIN_ADDR": "unix:/a"}, []string{"--admin-addr="}, func(*Options) {}},
		{
			"decision timeout",
			env{"RATELIMITD_DECISION_TIMEOUT": "25ms"},
			nil,
			func(o *Options) { o.DecisionTimeout = 25 * time.Millisecond },
		},
		{"drain delay", env{"RATELIMITD_DRAIN_DELAY": "5s"}, nil, func(o *Options) { o.DrainDelay = 5 * time.Second }},
		{"shutdown timeout", nil, []string{"--shutdown-timeout", "3s"}, func(o *Options) { o.ShutdownTimeout = 3 * time.Second }},
		{"memory limit", env{"RATELIMITD_MEMORY_LIMIT": "2GiB"}, nil, func(o *Options) { o.MemoryLimit = 2 << 30 }},
		{"memory limit in bytes", env{"RATELIMITD_MEMORY_LIMIT": "1048576"}, nil, func(o *Options) { o.MemoryLimit = 1 << 20 }},
		{"memory limit in powers of ten", nil, []string{"--memory-limit=5 MB"}, func(o *Options) { o.MemoryLimit = 5_000_000 }},
		{"IETF headers by flag", nil, []string{"--ietf-headers"}, func(o *Options) { o.IETFHeaders = true }},
		{"IETF headers by variable", env{"RATELIMITD_IETF_HEADERS": "1"}, nil, func(o *Options) { o.IETFHeaders = true }},
		{
			"log",
			env{"RATELIMITD_LOG_LEVEL": "WARN", "RATELIMITD_LOG_FORMAT": "console"},
			nil,
			func(o *Options) { o.LogLevel, o.LogFormat = "warn", "console" },
		},
		{"switched off", env{"RATE_LIMITING_ENABLED": "False"}, nil, func(o *Options) { o.Disabled = true }},
		{"switched on", env{"RATE_LIMITING_ENABLED": "yes"}, nil, func(*Options) {}},
		{
			"limits of the environment",
			env{
				"RATE_LIMIT_PER_MINUTE": "20", "RATE_LIMIT_PER_HOUR": "200", "RATE_LIMIT_PER_DAY": "0",
				"GLOBAL_CONCURRENT_LIMIT": "50", "GLOBAL_HOURLY_LIMIT": "2000",
				"USER_DAILY_COST_LIMIT": "5.50", "GLOBAL_DAILY_COST_LIMIT": "100",
			},
			nil, func(o *Options) {
				o.Adjust = policy.Adjustments{
					PerMinute: new(int64(20)), PerHour: new(int64(200)), PerDay: new(int64(0)),
					GlobalConcurrent: new(int64(50)), GlobalHourly: new(int64(2000)),
					UserDailyCost: new(int64(5_500_000_000)), GlobalDailyCost: new(int64(100_000_000_000)),
				}
			},
		},
		{"memory beside settings of Redis, when told so", env{"REDIS_CLUSTER": "true", "REDIS_ADDRS": ","}, []string{"--store=memory"}, func(o *Options) {
			o.Redis.Cluster = true
		}},
		{"the port of a service that Kubernetes links", env{"REDIS_PORT": "tcp://10.0.0.1:6379"}, nil, func(*Options) {}},
		{"switches of Redis that are off", env{"REDIS_CLUSTER": "false", "REDIS_TLS_ENABLED": "0"}, nil, func(*Options) {}},
		{"memory beside a Redis address, when told so", env{"REDIS_HOST": "r", "RATELIMITD_STORE": "memory"}, nil, func(*Options) {}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := read(t, tc.env, tc.args...)
			if err != nil {
				t.Fatal(err)
			}
			want := DefaultOptions()
			tc.want(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("the options are\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

func TestWhereRedisIs(t *testing.T) {
	type at struct {
		network, addr, user, password string
		db                            int
		tls                           bool
	}
	for _, tc := range []struct {
		name string
		env  env
		want at
	}{
		{"a host alone", env{"REDIS_HOST": "r"}, at{addr: "r:6379"}},
		{"host and port", env{"REDIS_HOST": "r", "REDIS_PORT": "7000", "REDIS_DB": "2"}, at{addr: "r:7000", db: 2}},
		{"a port that Kubernetes set for a service", env{"REDIS_HOST": "r", "REDIS_PORT": "tcp://10.0.0.1:6380"}, at{addr: "r:6380"}},
		{"an IPv6 host", env{"REDIS_HOST": "::1"}, at{addr: "[::1]:6379"}},
		{"a host with its port", env{"REDIS_HOST": "r:7001"}, at{addr: "r:7001"}},
		{"several addresses of a Cluster", env{"REDIS_ADDRS": "a:1,b", "REDIS_CLUSTER": "true"}, at{addr: "a:1,b:6379"}},
		{"Sentinels", env{"REDIS_ADDRS": "a,b:2", "REDIS_SENTINEL_MASTER": "m"}, at{addr: "a:26379,b:2"}},
		{"a URL", env{"REDIS_URL": "redis://r"}, at{addr: "r:6379"}},
		{
			"a URL with everything",
			env{"REDIS_URL": "rediss://u:p%40ss@r:7000/3"},
			at{addr: "r:7000", user: "u", password: "p@ss", db: 3, tls: true},
		},
		{
			"a URL beside the same login",
			env{"REDIS_URL": "redis://u:p@r/1", "REDIS_USERNAME": "u", "REDIS_PASSWORD": "p", "REDIS_DB": "1"},
			at{addr: "r:6379", user: "u", password: "p", db: 1},
		},
		{"a URL and the password apart", env{"REDIS_URL": "redis://r", "REDIS_PASSWORD": "p"}, at{addr: "r:6379", password: "p"}},
		{"a socket", env{"REDIS_URL": "unix:///run/redis.sock?db=4"}, at{network: "unix", addr: "/run/redis.sock", db: 4}},
		{"a socket among the addresses", env{"REDIS_ADDRS": "unix:/run/redis.sock"}, at{network: "unix", addr: "/run/redis.sock"}},
		{
			"TLS without a URL",
			env{"REDIS_HOST": "r", "REDIS_TLS_ENABLED": "true", "REDIS_TLS_SERVER_NAME": "x"},
			at{addr: "r:6379", tls: true},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opt, err := read(t, tc.env)
			if err != nil {
				t.Fatal(err)
			}
			if tc.want.network == "" {
				tc.want.network = "tcp"
			}
			r := opt.Redis
			got := at{r.Network, strings.Join(r.Addrs, ","), r.Username, r.Password, r.DB, r.TLS != nil}
			if got != tc.want || opt.Store != StoreRedis {
				t.Errorf("store %s at %+v, want redis at %+v", opt.Store, got, tc.want)
			}
			if r.TLS != nil && r.TLS.ServerName != tc.env["REDIS_TLS_SERVER_NAME"] {
				t.Errorf("the server's name is %q", r.TLS.ServerName)
			}
		})
	}
}

func TestConnectionsByEitherSpelling(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("p"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"REDIS_MAX_CONNECTIONS", "REDIS_MAX_connections"} {
		opt, err := read(t, env{"REDIS_HOST": "r", name: "50", "REDIS_PASSWORD_FILE": secret})
		if err != nil {
			t.Fatal(err)
		}
		if opt.Redis.PoolSize != 50 || opt.Redis.PasswordFile != secret {
			t.Errorf("%s=50 gives %d connections, password file %q", name, opt.Redis.PoolSize, opt.Redis.PasswordFile)
		}
	}
}

func TestAWrongSettingIsNamedWithWhatToWrite(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		env  env
		args []string
		want []string // parts of the message
	}{
		{"store", env{"RATELIMITD_STORE": "disk"}, nil, []string{"RATELIMITD_STORE", `"disk"`, "memory, redis"}},
		{"by its flag", nil, []string{"--store=disk"}, []string{"--store", `"disk"`, "memory, redis"}},
		{"timeout", env{"RATELIMITD_DECISION_TIMEOUT": "10"}, nil, []string{"RATELIMITD_DECISION_TIMEOUT", `"10"`, "10ms"}},
		{"timeout out of bounds", nil, []string{"--decision-timeout=0s"}, []string{"--decision-timeout", "1ms to 1m0s"}},
		{"address", env{"RATELIMITD_GRPC_ADDR": "8081"}, nil, []string{"--grpc-addr", `"8081"`, "host:port"}},
		{"address without a port", nil, []string{"--http-addr=x:http2"}, []string{"--http-addr", "65535"}},
		{"no address", nil, []string{"--grpc-addr=,"}, []string{"--grpc-addr", "host:port"}},
		{"no port for metrics", nil, []string{"--metrics-addr=8083"}, []string{"--metrics-addr", "host:port"}},
		{"no socket", nil, []string{"--admin-addr=unix:"}, []string{"--admin-addr", "unix:/path"}},
		{"no policy", nil, []string{"--policy="}, []string{"--policy", "production"}},
		{"memory limit", env{"RATELIMITD_MEMORY_LIMIT": "lots"}, nil, []string{"RATELIMITD_MEMORY_LIMIT", `"lots"`, "256MiB"}},
		{"memory limit too small", env{"RATELIMITD_MEMORY_LIMIT": "1KiB"}, nil, []string{"RATELIMITD_MEMORY_LIMIT", "1MiB"}},
		{"memory limit that overflows", env{"RATELIMITD_MEMORY_LIMIT": "9223372036854775807GiB"}, nil, []string{"out of bounds"}},
		{"switch", env{"RATE_LIMITING_ENABLED": "maybe"}, nil, []string{"RATE_LIMITING_ENABLED", `"maybe"`, "true or false"}},
		{"log level", env{"RATELIMITD_LOG_LEVEL": "loud"}, nil, []string{"RATELIMITD_LOG_LEVEL", "debug, info, warn, error"}},
		{"limit", env{"RATE_LIMIT_PER_MINUTE": "-1"}, nil, []string{"RATE_LIMIT_PER_MINUTE", `"-1"`, "between 0 and"}},
		{"money", env{"USER_DAILY_COST_LIMIT": "five"}, nil, []string{"USER_DAILY_COST_LIMIT", `"five"`}},
		{"too much money", env{"GLOBAL_DAILY_COST_LIMIT": "9000000000"}, nil, []string{"GLOBAL_DAILY_COST_LIMIT", "the largest"}},
		{"two at once", env{"RATELIMITD_STORE": "x", "REDIS_PORT": "y"}, nil, []string{"RATELIMITD_STORE", "REDIS_PORT"}},
		{"Redis without an address", env{"RATELIMITD_STORE": "redis"}, nil, []string{"REDIS_URL", "REDIS_HOST"}},
		{"a Cluster without an address", env{"REDIS_CLUSTER": "true"}, nil, []string{"REDIS_CLUSTER", "REDIS_ADDRS", "--store=memory"}},
		{"Sentinels without an address", env{"REDIS_SENTINEL_MASTER": "m"}, nil, []string{"REDIS_SENTINEL_MASTER", "REDIS_ADDRS"}},
		{"a port without a host", env{"REDIS_PORT": "6379"}, nil, []string{"REDIS_PORT", "REDIS_HOST"}},
		{"addresses that are none", env{"REDIS_ADDRS": ","}, nil, []string{"REDIS_ADDRS: set, but no address", "REDIS_HOST"}},
		{
			"several without an address, by the names that were used",
			env{"REDIS_MAX_connections": "5", "REDIS_PASSWORD": "p", "REDIS_TLS_ENABLED": "true"},
			nil,
			[]string{"REDIS_MAX_connections, REDIS_PASSWORD, REDIS_TLS_ENABLED: set"},
		},
		{"Redis by name, and no address", env{"REDIS_ADDRS": ","}, []string{"--store=redis"}, []string{"REDIS_URL", "REDIS_HOST"}},
		{"two places", env{"REDIS_URL": "redis://a", "REDIS_HOST": "b"}, nil, []string{"REDIS_URL and REDIS_HOST"}},
		{"port", env{"REDIS_HOST": "r", "REDIS_PORT": "70000"}, nil, []string{"REDIS_PORT", `"70000"`, "65535"}},
		{"database", env{"REDIS_HOST": "r", "REDIS_DB": "x"}, nil, []string{"REDIS_DB", `"x"`}},
		{"connections", env{"REDIS_HOST": "r", "REDIS_MAX_connections": "0"}, nil, []string{"REDIS_MAX_connections", "between 1 and"}},
		{"URL of another scheme", env{"REDIS_URL": "http://r"}, nil, []string{"REDIS_URL", "http", "redis://"}},
		{"URL without a host", env{"REDIS_URL": "redis:///1"}, nil, []string{"REDIS_URL", "names no host"}},
		{"URL with a parameter", env{"REDIS_URL": "redis://r?pool_size=3"}, nil, []string{"REDIS_URL", "pool_size"}},
		{"URL with a word as database", env{"REDIS_URL": "redis://r/main"}, nil, []string{"REDIS_URL", `"main"`}},
		{"two databases", env{"REDIS_URL": "redis://r/1", "REDIS_DB": "2"}, nil, []string{"REDIS_URL and REDIS_DB", "1 and 2"}},
		{
			"Cluster and Sentinel",
			env{"REDIS_HOST": "r", "REDIS_CLUSTER": "true", "REDIS_SENTINEL_MASTER": "m"},
			nil,
			[]string{"REDIS_CLUSTER and REDIS_SENTINEL_MASTER"},
		},
		{"a Cluster's database", env{"REDIS_HOST": "r", "REDIS_CLUSTER": "true", "REDIS_DB": "1"}, nil, []string{"REDIS_DB 1"}},
		{"several single servers", env{"REDIS_ADDRS": "a,b"}, nil, []string{"REDIS_CLUSTER=true", "REDIS_SENTINEL_MASTER"}},
		{"a socket of a Cluster", env{"REDIS_URL": "unix:///s", "REDIS_CLUSTER": "true"}, nil, []string{"socket"}},
		{"a URL among the addresses", env{"REDIS_ADDRS": "redis://u:hunter2@host:6379"}, nil, []string{"REDIS_ADDRS", "REDIS_URL", "host:port"}},
		{"a login in the host", env{"REDIS_HOST": "user:hunter2@host"}, nil, []string{"REDIS_HOST", "REDIS_PASSWORD"}},
		{"a port out of range", env{"REDIS_URL": "redis://host:99999999"}, nil, []string{"REDIS_URL", "65535"}},
		{"a socket among others", env{"REDIS_ADDRS": "unix:/s,a", "REDIS_CLUSTER": "true"}, nil, []string{"REDIS_ADDRS", "alone"}},
		{
			"password and its file",
			env{"REDIS_HOST": "r", "REDIS_PASSWORD": "p", "REDIS_PASSWORD_FILE": notPEM},
			nil,
			[]string{"REDIS_PASSWORD and REDIS_PASSWORD_FILE"},
		},
		{
			"a password file that is missing",
			env{"REDIS_HOST": "r", "REDIS_PASSWORD_FILE": "/nope"},
			nil,
			[]string{"REDIS_PASSWORD_FILE", "/nope"},
		},
		{"TLS on and off", env{"REDIS_URL": "rediss://r", "REDIS_TLS_ENABLED": "false"}, nil, []string{"rediss://", "REDIS_TLS_ENABLED"}},
		{
			"certificates without TLS",
			env{"REDIS_HOST": "r", "REDIS_TLS_CA_FILE": "/ca"},
			nil,
			[]string{"REDIS_TLS_CA_FILE", "REDIS_TLS_ENABLED=true"},
		},
		{"a missing authority", env{"REDIS_URL": "rediss://r", "REDIS_TLS_CA_FILE": "/nope"}, nil, []string{"REDIS_TLS_CA_FILE", "/nope"}},
		{
			"an authority that is none",
			env{"REDIS_URL": "rediss://r", "REDIS_TLS_CA_FILE": notPEM},
			nil,
			[]string{"REDIS_TLS_CA_FILE", "PEM"},
		},
		{
			"half a certificate",
			env{"REDIS_URL": "rediss://r", "REDIS_TLS_CERT_FILE": "/c"},
			nil,
			[]string{"REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE"},
		},
		{
			"a certificate that is none",
			env{"REDIS_URL": "rediss://r", "REDIS_TLS_CERT_FILE": notPEM, "REDIS_TLS_KEY_FILE": notPEM},
			nil,
			[]string{"REDIS_TLS_CERT_FILE"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := read(t, tc.env, tc.args...)
			if err == nil {
				t.Fatalf("%v %q are accepted", tc.env, tc.args)
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the message is %q, want it to hold %q", err, part)
				}
			}
		})
	}
}

func TestNoMessageHoldsAPassword(t *testing.T) {
	const secret = "hunter2"
	for _, e := range []env{
		{"REDIS_URL": "redis://u:" + secret + "@h:port/0"},
		{"REDIS_URL": "redis://u:" + secret + "@/0"},
		{"REDIS_URL": "http://u:" + secret + "@h"},
		{"REDIS_URL": "redis://u:" + secret + "@h/x"},
		{"REDIS_URL": "redis://u:" + secret + "@h?x=1"},
		{"REDIS_URL": "redis://u:" + secret + "@h/0", "REDIS_PASSWORD": secret + "3"},
		{"REDIS_URL": "://u:" + secret + "@h"},
		{"REDIS_HOST": "r", "REDIS_PASSWORD": secret, "REDIS_PASSWORD_FILE": "/f"},
		{"REDIS_URL": "unix://u:" + secret + "@"},
	} {
		_, err := read(t, e)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v gives the message %v, want one without the password", e, err)
		}
	}
}

func TestOnlyTheLimitsOfTheEnvironment(t *testing.T) {
	got, err := ReadLimits(env{"RATE_LIMIT_PER_DAY": "9", "REDIS_PORT": "x"}.lookup)
	if err != nil || got.PerDay == nil || *got.PerDay != 9 {
		t.Errorf("the limits are %+v, error %v; want 9 a day", got, err)
	}
	if _, err := ReadLimits(env{"RATE_LIMIT_PER_DAY": "x"}.lookup); err == nil {
		t.Error("a wrong limit is accepted")
	}
}

func TestEverySettingIsDescribedOnce(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range Settings() {
		for _, name := range append([]string{s.Env, "--" + s.Flag}, s.Aliases...) {
			if name != "--" && seen[name] {
				t.Errorf("%s is the name of two settings", name)
			}
			seen[name] = true
		}
		if s.Env == "" || s.Help == "" || s.Values == "" || s.read == nil {
			t.Errorf("the setting %q %q lacks a part", s.Flag, s.Env)
		}
		if s.Default == "" {
			continue
		}
		if err := s.read(&reading{}, s.Default); err != nil {
			t.Errorf("%s: its default %q is wrong: %v", s.Env, s.Default, err)
		}
	}
}

func TestOptionsThatNoSettingGivesAreRefusedToo(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"store":            func(o *Options) { o.Store = "disk" },
		"memory limit":     func(o *Options) { o.MemoryLimit = 0 },
		"decision timeout": func(o *Options) { o.DecisionTimeout = 0 },
		"drain delay":      func(o *Options) { o.DrainDelay = -time.Second },
		"shutdown timeout": func(o *Options) { o.ShutdownTimeout = 0 },
	} {
		opt := DefaultOptions()
		change(&opt)
		if err := opt.Validate(); err == nil {
			t.Errorf("a wrong %s is accepted", name)
		}
	}
}
