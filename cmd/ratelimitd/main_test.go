package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ratelimitd/ratelimitd/internal/app"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a command line in an environment, and returns what it prints.
func run(t *testing.T, env map[string]string, args ...string) (string, error) {
	t.Helper()
	root := newRoot(func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	})
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestHelpNamesEveryVariableAndFlag(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}} {
		out, err := run(t, nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range app.Settings() {
			for _, name := range append([]string{s.Env}, s.Aliases...) {
				if !strings.Contains(out, name) {
					t.Errorf("%q does not name %s", args, name)
				}
			}
			if s.Flag != "" && !strings.Contains(out, "--"+s.Flag) {
				t.Errorf("%q does not name --%s", args, s.Flag)
			}
		}
	}
}

func TestAnUnknownCommandIsNamed(t *testing.T) {
	if _, err := run(t, nil, "frobnicate"); err == nil || !strings.Contains(err.Error(), "frobnicate") {
		t.Errorf("an unknown command ends with %v, want its name", err)
	}
	if out, err := run(t, nil); err != nil || !strings.Contains(out, "check-config") {
		t.Errorf("no command prints %q, %v; want the help", out, err)
	}
}

func TestVersion(t *testing.T) {
	out, err := run(t, nil, "version")
	if err != nil || !strings.HasPrefix(out, "ratelimitd ") || !strings.Contains(out, "go1.") {
		t.Errorf("version prints %q, %v", out, err)
	}
}

func TestCheckConfig(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	text := "domain: a\nsubjects: {user: {key: user_id, default_plan: p}}\nplans:\n  p: {limits: [ten/minute]}\n"
	if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		env  map[string]string
		file string
		ok   bool
		want []string // parts of what is printed, or of the error
	}{
		{"a good policy", nil, "production", true, []string{"production: ok", "domain assistant", "user", "10/minute", "5 USD/day", "100 concurrent"}},
		{
			"a limit of the environment",
			map[string]string{"RATE_LIMIT_PER_MINUTE": "77"},
			"production", true,
			[]string{"77/minute"},
		},
		{"a bad policy", nil, bad, false, []string{bad + ":4: plans.p.limits", "ten/minute", "refused"}},
		{"no file", nil, "/nope.yaml", false, []string{"/nope.yaml"}},
		{"a bad environment", map[string]string{"RATE_LIMIT_PER_DAY": "x"}, "production", false, []string{"RATE_LIMIT_PER_DAY"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := run(t, tc.env, "check-config", tc.file)
			if (err == nil) != tc.ok {
				t.Fatalf("it ended with %v", err)
			}
			if err != nil {
				out += err.Error()
			}
			for _, part := range tc.want {
				if !strings.Contains(out, part) {
					t.Errorf("it says\n%s\nwant it to hold %q", out, part)
				}
			}
		})
	}
}

func TestCheckConfigTellsWhatIsEnforced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	text := "domain: a\nsubjects: {user: {key: user_id, default_plan: p}}\nplans:\n  p:\n    limits:\n" +
		"      - 10/minute\n      - {limit: 20/hour, shadow: true}\n      - 50000 tokens/day\n" +
		"      - 5 USD/day\n      - {limit: 9 USD/7d, shadow: true}\n      - 3 concurrent\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, nil, "check-config", file)
	if err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[string]string{
		"10/minute": "every call", "20/hour": "no (shadow)", "50000 tokens/day": "calls that hold",
		"5 USD/day": "calls that hold", "9 USD/7d": "no (shadow)", "3 concurrent": "calls that hold",
	} {
		line := ""
		for l := range strings.Lines(out) {
			if strings.Contains(l, "  "+limit+"  ") {
				line = l
			}
		}
		if !strings.Contains(line, "  "+want+"  ") {
			t.Errorf("%s is shown as %q, want ENFORCED to be %q", limit, line, want)
		}
	}
}

func TestCheckConfigTellsWhatCallsHold(t *testing.T) {
	const head = "domain: a\nsubjects: {user: {key: user_id}}\n"
	for cost, want := range map[string]string{
		"": "Prices: 0 model(s); on_unknown_price is deny. A rate limit call with a request_id holds nothing, unless the call names " +
			"its tokens, for 30s.",
		"cost: {hold: {usd: 0.01}, lease: 1m, on_unknown_price: allow_and_flag}\n": "Prices: 0 model(s); on_unknown_price is " +
			"allow_and_flag. A rate limit call with a request_id holds 0.01 USD, for 1m0s.",
		"cost: {prices: {m: {input: 1, output: 1, per: 1M}}, hold: {model: m, input_tokens: 5}}\n": "Prices: 1 model(s); " +
			"on_unknown_price is deny. A rate limit call with a request_id holds 5 input and 0 output tokens of m, for 30s.",
	} {
		file := filepath.Join(t.TempDir(), "policy.yaml")
		if err := os.WriteFile(file, []byte(head+cost), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := run(t, nil, "check-config", file)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("of %q it says\n%s, %v\nwant\n%s", cost, out, err, want)
		}
	}
}

func TestServeRefusesWrongSettings(t *testing.T) {
	_, err := run(t, map[string]string{"RATELIMITD_STORE": "disk"}, "serve")
	if err == nil || !strings.Contains(err.Error(), "RATELIMITD_STORE") {
		t.Errorf("it ended with %v, want the setting's name", err)
	}
	if _, err := run(t, nil, "serve", "--grpc-addr=127.0.0.1:0", "--policy=/nope.yaml"); err == nil {
		t.Error("it serves without a policy")
	}
	if _, err := run(t, nil, "serve", "more"); err == nil {
		t.Error("it takes an argument")
	}
}

func TestHealth(t *testing.T) {
	opt := app.DefaultOptions()
	socket := "unix:" + filepath.Join(t.TempDir(), "s")
	opt.GRPCAddrs, opt.HTTPAddr = []string{"127.0.0.1:0", socket}, "127.0.0.1:0"
	a, err := app.New(opt, telemetry.NopLog())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	addr := a.GRPCAddrs()[0].String()
	const patience = "--timeout=30s"
	for name, args := range map[string][]string{
		"by its address": {"health", patience, addr},
		"by a socket":    {"health", patience, socket},
		"by a flag":      {"health", patience, "--grpc-addr", addr},
	} {
		if _, err := run(t, nil, args...); err != nil {
			t.Errorf("%s: a daemon that serves is %v", name, err)
		}
	}
	if _, err := run(t, map[string]string{"RATELIMITD_GRPC_ADDR": addr}, "health", patience); err != nil {
		t.Errorf("by the environment: a daemon that serves is %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, nil, "health", "--timeout=20ms", addr); err == nil {
		t.Error("a daemon that has ended is healthy")
	}
	if _, err := run(t, map[string]string{"RATELIMITD_GRPC_ADDR": "x"}, "health"); err == nil {
		t.Error("a wrong address is healthy")
	}
}

func TestAServerOnAllAddressesIsReachedHere(t *testing.T) {
	for addr, want := range map[string]string{
		"0.0.0.0:8081":   "passthrough:///127.0.0.1:8081",
		":8081":          "passthrough:///127.0.0.1:8081",
		"[::]:8081":      "passthrough:///[::1]:8081",
		"10.0.0.1:8081":  "passthrough:///10.0.0.1:8081",
		"localhost:8081": "passthrough:///localhost:8081",
		"unix:/run/s":    "unix:/run/s",
	} {
		if got := target(addr); got != want {
			t.Errorf("%s is reached at %s, want %s", addr, got, want)
		}
	}
}
