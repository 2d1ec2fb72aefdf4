// Package app is the daemon's life: its settings, and how its parts are put together, started, reloaded and stopped.
package app

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store/redis"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// StoreKind is where usage lives.
type StoreKind string

// The kinds of store.
const (
	StoreMemory StoreKind = "memory" // in this process, and gone with it
	StoreRedis  StoreKind = "redis"  // shared by all daemons of one Redis
)

// Defaults of the options.
const (
	DefaultPolicy          = "production"
	DefaultGRPCAddr        = "127.0.0.1:8081"
	DefaultHTTPAddr        = "127.0.0.1:8080"
	DefaultDecisionTimeout = 10 * time.Millisecond
	DefaultShutdownTimeout = 10 * time.Second
	DefaultMemoryLimit     = 256 << 20
	DefaultLogLevel        = "info"
	DefaultLogFormat       = "json"
)

// Bounds of the options.
const (
	MinDecisionTimeout = time.Millisecond
	MaxDecisionTimeout = time.Minute
	MinShutdownTimeout = time.Millisecond
	MaxShutdownTimeout = 10 * time.Minute
	MaxDrainDelay      = 10 * time.Minute
	MinMemoryLimit     = 1 << 20
	MaxMemoryLimit     = 1 << 40
	MaxRedisPoolSize   = 10_000
)

// Options are what a daemon is made of. DefaultOptions is where to start from; Validate says whether they can be.
type Options struct {
	// Policy is the name of a built-in policy or the path of a file.
	Policy string
	// Adjust are limits of the environment in place of the policy's.
	Adjust policy.Adjustments
	// Disabled answers OK to everything at once.
	Disabled bool

	Store       StoreKind
	Redis       redis.Options // read when Store is StoreRedis
	MemoryLimit int64         // bytes of the embedded store, MinMemoryLimit to MaxMemoryLimit

	// GRPCAddrs, HTTPAddr, MetricsAddr and AdminAddr are host:port, with port 0 for a free one, or unix:/path. An empty
	// MetricsAddr has probes and scrapers come to HTTPAddr alone, and an empty AdminAddr serves no administration.
	GRPCAddrs   []string
	HTTPAddr    string
	MetricsAddr string
	AdminAddr   string

	DecisionTimeout time.Duration // MinDecisionTimeout to MaxDecisionTimeout
	DrainDelay      time.Duration // 0 to MaxDrainDelay; see Run
	ShutdownTimeout time.Duration // MinShutdownTimeout to MaxShutdownTimeout
	IETFHeaders     bool

	LogLevel  string // debug, info, warn or error
	LogFormat string // json or console

	// DecisionLog and DecisionLogIDs are telemetry's words for what the decision log tells. Its lines go to DecisionLogTo, nil for
	// the process's standard output.
	DecisionLog    string
	DecisionLogIDs string
	DecisionLogKey []byte // of hashed ids; empty for one of this process
	DecisionLogTo  io.Writer

	// Tracing says where traces are sent; nil for nowhere.
	Tracing *telemetry.TraceOptions

	// Ignored are the settings that are wrong and not in force, each as a sentence for the log.
	Ignored []string
}

// DefaultOptions returns the options of a daemon on the embedded store that was told nothing.
func DefaultOptions() Options {
	return Options{
		Policy:          DefaultPolicy,
		Store:           StoreMemory,
		MemoryLimit:     DefaultMemoryLimit,
		GRPCAddrs:       []string{DefaultGRPCAddr},
		HTTPAddr:        DefaultHTTPAddr,
		DecisionTimeout: DefaultDecisionTimeout,
		ShutdownTimeout: DefaultShutdownTimeout,
		LogLevel:        DefaultLogLevel,
		LogFormat:       DefaultLogFormat,
		DecisionLog:     telemetry.DecisionsOff,
		DecisionLogIDs:  telemetry.IDsPlain,
	}
}

// Validate errs when a daemon cannot be made of the options, with everything that is wrong.
func (o *Options) Validate() error {
	problems := []error{
		o.validateStore(),
		validateAddr("--http-addr", o.HTTPAddr),
		between("--decision-timeout", o.DecisionTimeout, MinDecisionTimeout, MaxDecisionTimeout),
		between("--drain-delay", o.DrainDelay, 0, MaxDrainDelay),
		between("--shutdown-timeout", o.ShutdownTimeout, MinShutdownTimeout, MaxShutdownTimeout),
	}
	problems = append(problems, o.validateDecisionLog())
	if o.Policy == "" {
		problems = append(problems, errors.New("--policy is empty: write production, development, testing or a path"))
	}
	if len(o.GRPCAddrs) == 0 {
		problems = append(problems, errors.New("--grpc-addr is empty: write host:port or unix:/path"))
	}
	for _, addr := range o.GRPCAddrs {
		problems = append(problems, validateAddr("--grpc-addr", addr))
	}
	if o.MetricsAddr != "" {
		problems = append(problems, validateAddr("--metrics-addr", o.MetricsAddr))
	}
	if o.AdminAddr != "" {
		problems = append(problems, validateAddr("--admin-addr", o.AdminAddr))
	}
	return errors.Join(problems...)
}

func (o *Options) validateStore() error {
	switch o.Store {
	case StoreMemory:
		if o.MemoryLimit < MinMemoryLimit || o.MemoryLimit > MaxMemoryLimit {
			return fmt.Errorf("--memory-limit %d is not between 1MiB and 1TiB", o.MemoryLimit)
		}
		return nil
	case StoreRedis:
		return o.Redis.Validate()
	default:
		return fmt.Errorf("--store %q is not a store: write memory or redis", o.Store)
	}
}

// validateAddr errs when an address cannot be listened on as it is written.
func validateAddr(name, addr string) error {
	if network, path := splitAddr(addr); network == networkUnix {
		if path == "" {
			return fmt.Errorf("%s %q names no socket: write unix:/path", name, addr)
		}
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %q is not an address: write host:port, as 127.0.0.1:8081, or unix:/path", name, addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s %q has no port between 0 and 65535: write host:port, as 127.0.0.1:8081", name, addr)
	}
	return nil
}

func between(name string, d, least, most time.Duration) error {
	if d < least || d > most {
		return fmt.Errorf("%s %s is not between %s and %s", name, d, least, most)
	}
	return nil
}

const (
	networkTCP  = "tcp"
	networkUnix = "unix"
	unixPrefix  = "unix:"
)

// splitAddr splits an address into its network and what to listen on: host:port, or a socket's path after unix: or
// unix://.
func splitAddr(addr string) (network, rest string) {
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		return networkUnix, strings.TrimPrefix(path, "//")
	}
	return networkTCP, addr
}
