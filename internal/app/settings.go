package app

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ratelimitd/ratelimitd/internal/policy"
)

// Setting is one setting of the process: how it is named and what it says. A flag wins over the environment, and the
// environment over the default.
type Setting struct {
	Flag    string // without the dashes; empty for one that only the environment sets
	Env     string
	Aliases []string // other names of Env
	Default string   // as it is written; empty if there is none
	Values  string   // what may be written, in few words: "host:port, unix:/path"
	Help    string   // one sentence
	Secret  bool     // the value must not be shown

	bool bool // the flag needs no value
	read func(r *reading, value string) error
}

// Summary says in one line what the setting is and what may be written.
func (s *Setting) Summary() string {
	return strings.TrimSuffix(s.Help, ".") + ": " + s.Values
}

// Settings returns every setting, in the order in which help shows them.
func Settings() []Setting {
	return slices.Concat(serveSettings(), logSettings(), limitSettings(), redisSettings(), otelSettings())
}

// serveSettings are those of the daemon itself.
func serveSettings() []Setting {
	return []Setting{
		{
			Flag: "policy", Env: "RATELIMITD_POLICY", Default: DefaultPolicy,
			Values: "production, development, testing or a path", Help: "The policy of limits.",
			read: func(r *reading, v string) error { r.opt.Policy = v; return nil },
		},
		{
			Flag: "store", Env: "RATELIMITD_STORE", Values: "memory or redis",
			Help: "Where usage lives; redis if any Redis address is set, else memory, unless set here.",
			read: func(r *reading, v string) error { return r.readStore(v) },
		},
		{
			Flag: "grpc-addr", Env: "RATELIMITD_GRPC_ADDR", Default: DefaultGRPCAddr,
			Values: "host:port or unix:/path, several with commas", Help: "Where gRPC is served.",
			read: func(r *reading, v string) error { r.opt.GRPCAddrs = splitList(v); return nil },
		},
		{
			Flag: "http-addr", Env: "RATELIMITD_HTTP_ADDR", Default: DefaultHTTPAddr,
			Values: "host:port or unix:/path", Help: "Where the cost API as JSON, statistics, health and metrics are served.",
			read: func(r *reading, v string) error { r.opt.HTTPAddr = v; return nil },
		},
		{
			Flag: "metrics-addr", Env: "RATELIMITD_METRICS_ADDR", Values: "host:port or unix:/path",
			Help: "Where health, readiness and metrics are served too, and nothing else; off by default.",
			read: func(r *reading, v string) error { r.opt.MetricsAddr = v; return nil },
		},
		{
			Flag: "admin-addr", Env: "RATELIMITD_ADMIN_ADDR", Values: "host:port or unix:/path",
			Help: "Where administration is served, to whoever reaches it; off by default.",
			read: func(r *reading, v string) error { r.opt.AdminAddr = v; return nil },
		},
		{
			Flag: "decision-timeout", Env: "RATELIMITD_DECISION_TIMEOUT", Default: "10ms",
			Values: "1ms to 1m", Help: "How long a decision may take before on_store_failure answers.",
			read: func(r *reading, v string) error {
				return readDuration(v, MinDecisionTimeout, MaxDecisionTimeout, &r.opt.DecisionTimeout)
			},
		},
		{
			Flag: "drain-delay", Env: "RATELIMITD_DRAIN_DELAY", Default: "0s", Values: "0s to 10m",
			Help: "How long a daemon that is told to stop says so, and still answers, before it refuses new calls.",
			read: func(r *reading, v string) error { return readDuration(v, 0, MaxDrainDelay, &r.opt.DrainDelay) },
		},
		{
			Flag: "shutdown-timeout", Env: "RATELIMITD_SHUTDOWN_TIMEOUT", Default: "10s",
			Values: "1ms to 10m", Help: "How long calls in flight may take to end when the process is stopped.",
			read: func(r *reading, v string) error {
				return readDuration(v, MinShutdownTimeout, MaxShutdownTimeout, &r.opt.ShutdownTimeout)
			},
		},
		{
			Flag: "memory-limit", Env: "RATELIMITD_MEMORY_LIMIT", Default: "256MiB",
			Values: "bytes, or with KiB, MiB, GiB", Help: "What the embedded store may hold before it evicts early.",
			read: func(r *reading, v string) error { return readBytes(v, &r.opt.MemoryLimit) },
		},
		{
			Flag: "ietf-headers", Env: "RATELIMITD_IETF_HEADERS", Default: "false", Values: "true or false",
			Help: "Add the IETF fields RateLimit and RateLimit-Policy to responses.", bool: true,
			read: func(r *reading, v string) error { return readBool(v, &r.opt.IETFHeaders) },
		},
	}
}

// readStore reads the store's kind.
func (r *reading) readStore(text string) error {
	var word string
	if err := readWord(text, &word, string(StoreMemory), string(StoreRedis)); err != nil {
		return err
	}
	r.store = StoreKind(word)
	return nil
}

// limitSettings are limits in place of the policy's.
func limitSettings() []Setting {
	requests := func(env, help string, to func(*reading) **int64) Setting {
		return Setting{
			Env: env, Values: "requests", Help: help,
			read: func(r *reading, v string) error { return readRequests(v, to(r)) },
		}
	}
	money := func(env, help string, to func(*reading) **int64) Setting {
		return Setting{
			Env: env, Values: "USD, as 5 or 5.00", Help: help,
			read: func(r *reading, v string) error { return readMoney(v, to(r)) },
		}
	}
	return []Setting{
		{
			Env: "RATE_LIMITING_ENABLED", Default: "true", Values: "true or false",
			Help: "false answers OK to everything at once.",
			read: func(r *reading, v string) error {
				var enabled bool
				err := readBool(v, &enabled)
				r.opt.Disabled = !enabled
				return err
			},
		},
		requests("RATE_LIMIT_PER_MINUTE", "The default plan's limit of a minute.",
			func(r *reading) **int64 { return &r.opt.Adjust.PerMinute }),
		requests("RATE_LIMIT_PER_HOUR", "The default plan's limit of an hour.",
			func(r *reading) **int64 { return &r.opt.Adjust.PerHour }),
		requests("RATE_LIMIT_PER_DAY", "The default plan's limit of a day.",
			func(r *reading) **int64 { return &r.opt.Adjust.PerDay }),
		money("USER_DAILY_COST_LIMIT", "The default plan's money of a day.",
			func(r *reading) **int64 { return &r.opt.Adjust.UserDailyCost }),
		requests("GLOBAL_CONCURRENT_LIMIT", "How many requests may be in flight at once, over all users.",
			func(r *reading) **int64 { return &r.opt.Adjust.GlobalConcurrent }),
		requests("GLOBAL_HOURLY_LIMIT", "The limit of an hour over all users.",
			func(r *reading) **int64 { return &r.opt.Adjust.GlobalHourly }),
		money("GLOBAL_DAILY_COST_LIMIT", "The money of a day over all users.",
			func(r *reading) **int64 { return &r.opt.Adjust.GlobalDailyCost }),
	}
}

// AddFlags adds the settings that have a flag to a command's flags.
func AddFlags(flags *pflag.FlagSet) {
	for _, s := range Settings() {
		if s.Flag == "" {
			continue
		}
		value := &flagValue{bool: s.bool, text: s.Default}
		f := flags.VarPF(value, s.Flag, "", s.Summary()+" ["+s.Env+"]")
		if s.bool {
			f.NoOptDefVal = "true"
		}
	}
}

// flagValue keeps what a flag was given; the setting reads it.
type flagValue struct {
	bool bool
	text string
}

// String returns what the flag holds.
func (f *flagValue) String() string { return f.text }

// Set keeps a value.
func (f *flagValue) Set(text string) error {
	f.text = text
	return nil
}

// Type names the value in help.
func (f *flagValue) Type() string {
	if f.bool {
		return "bool"
	}
	return "string"
}

// reading is a set of settings while it is read.
type reading struct {
	opt   Options
	name  string    // by which the setting that is being read was set
	store StoreKind // as set; empty if it was not
	redis redisText
	otel  otelText
}

// ReadSettings reads the options from flags, as AddFlags added them, and from the environment. Flags may be nil. An empty
// variable counts as unset. Its error names each setting that is wrong, its value, and what to write instead; it never
// holds a password.
func ReadSettings(flags *pflag.FlagSet, lookup func(env string) (string, bool)) (Options, error) {
	r := &reading{opt: DefaultOptions()}
	if err := r.all(Settings(), flags, lookup); err != nil {
		return Options{}, err
	}
	r.redis.meant = redisMeant(lookup)
	tracing, err := r.otel.finish()
	if err := errors.Join(r.finish(), err); err != nil {
		return Options{}, err
	}
	r.opt.Tracing, r.opt.Ignored = tracing, r.otel.warnings
	if err := r.opt.Validate(); err != nil {
		return Options{}, err
	}
	return r.opt, nil
}

// ReadLimits reads only the limits that the environment sets in place of the policy's. Its error is as ReadSettings'.
func ReadLimits(lookup func(env string) (string, bool)) (policy.Adjustments, error) {
	r := &reading{opt: DefaultOptions()}
	err := r.all(limitSettings(), nil, lookup)
	return r.opt.Adjust, err
}

// all reads settings, and errs with everything that is wrong.
func (r *reading) all(settings []Setting, flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var problems []error
	for _, s := range settings {
		name, value, ok := s.find(flags, lookup)
		if !ok {
			continue
		}
		r.name = name
		if err := s.read(r, value); err != nil {
			problems = append(problems, s.wrong(name, value, err))
		}
	}
	return errors.Join(problems...)
}

// find returns a setting's value and the name that it was set by.
func (s *Setting) find(flags *pflag.FlagSet, lookup func(string) (string, bool)) (name, value string, ok bool) {
	if s.Flag != "" && flags != nil {
		if f := flags.Lookup(s.Flag); f != nil && f.Changed {
			return "--" + s.Flag, f.Value.String(), true
		}
	}
	for _, env := range append([]string{s.Env}, s.Aliases...) {
		if value, ok := lookup(env); ok && value != "" {
			return env, value, true
		}
	}
	return "", "", false
}

// wrong says that a setting's value cannot be.
func (s *Setting) wrong(name, value string, err error) error {
	if s.Secret {
		return fmt.Errorf("%s %w", name, err)
	}
	return fmt.Errorf("%s=%q %w", name, value, err)
}

// splitList splits a list at its commas, without spaces and empty items.
func splitList(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
