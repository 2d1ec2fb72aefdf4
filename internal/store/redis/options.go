package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Defaults of Options.
const (
	// DefaultPoolSize is the number of connections to one Redis server: each of the batcher's senders uses one, and the
	// rest serves refunds and administration.
	DefaultPoolSize = 10
	// defaultTimeout bounds what has no deadline of its own: connecting, refunds and administration.
	defaultTimeout = time.Second
)

// The networks of Options.
const (
	networkTCP  = "tcp"
	networkUnix = "unix"
)

// Options say where Redis is and how to reach it.
type Options struct {
	// Addrs are host:port pairs, or socket paths where Network is "unix". Several are the seeds of a Cluster or the
	// Sentinels of SentinelMaster. Required.
	Addrs    []string
	Network  string // "tcp" (default) or "unix"
	Username string
	Password string
	// PasswordFile holds the password instead. It is read again for each new connection, so it may be rotated.
	PasswordFile string
	DB           int // must be 0 on a Cluster
	// SentinelMaster is the name of the master that the Sentinels at Addrs watch; empty without Sentinel. It and Cluster exclude each
	// other.
	SentinelMaster string
	Cluster        bool
	TLS            *tls.Config
	PoolSize       int           // connections per server; DefaultPoolSize if 0
	Timeout        time.Duration // 1 s if 0; for what has no deadline of its own
	// OnBatch is told how many decisions went into each script call; nil for none.
	OnBatch func(decisions int)
	// OnQueued is told how long a decision has waited to be sent, or to be given up; nil for none. It must not block.
	OnQueued func(waited time.Duration)
	// OnTrip is told how long a trip took, answered or not, that carried one decision or more; nil for none. It must not block.
	OnTrip func(took time.Duration)
	// OnLapse is told how many leases a script call was the first to find over, of holds that have a part at the subject without an
	// ID, and what they leave charged there, nano-USD; nil for none. It must not block.
	OnLapse func(leases int, usd int64)

	clock func() int64 // a test's clock in place of Redis's own, microseconds
}

// Validate errs when no Redis can be reached by the options. It calls them by the daemon's settings that they come from.
func (o *Options) Validate() error {
	switch {
	case len(o.Addrs) == 0:
		return errors.New("the store is redis, but no address is set: set REDIS_URL, REDIS_ADDRS or REDIS_HOST")
	case o.Cluster && o.SentinelMaster != "":
		return errors.New("REDIS_CLUSTER and REDIS_SENTINEL_MASTER exclude each other: unset one")
	case o.Cluster && o.DB != 0:
		return fmt.Errorf("REDIS_DB %d on a Cluster: a Cluster has database 0 only: unset REDIS_DB", o.DB)
	case len(o.Addrs) > 1 && !o.Cluster && o.SentinelMaster == "":
		return errors.New("several Redis addresses are set: set REDIS_CLUSTER=true or REDIS_SENTINEL_MASTER, or name one address")
	case o.Network == networkUnix && (o.Cluster || o.SentinelMaster != ""):
		return errors.New("a Redis socket is one server: unset REDIS_CLUSTER and REDIS_SENTINEL_MASTER")
	case o.Password != "" && o.PasswordFile != "":
		return errors.New("REDIS_PASSWORD and REDIS_PASSWORD_FILE exclude each other: unset one")
	case o.TLS != nil && o.TLS.MinVersion < tls.VersionTLS12:
		return errors.New("TLS to Redis must be at least version 1.2")
	default:
		return nil
	}
}

// withDefaults returns the options with what was left out. It errs as Validate does.
func (o *Options) withDefaults() (Options, error) {
	opt := *o
	if err := opt.Validate(); err != nil {
		return opt, err
	}
	if opt.PoolSize <= 0 {
		opt.PoolSize = DefaultPoolSize
	}
	if opt.Timeout <= 0 {
		opt.Timeout = defaultTimeout
	}
	if opt.Network == "" {
		opt.Network = networkTCP
	}
	return opt, nil
}

// quiet drops the client library's own log lines: what goes wrong is an error of a call, which its caller counts, logs and
// samples.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// connect returns a client; it does not wait for a connection.
//
// The client never retries by itself: a repeated decision would only be late, and a Cluster's redirects have a bound of
// their own. Deadlines come by context, and notices of maintenance, which open source Redis does not send, are off.
func (o *Options) connect() redis.UniversalClient {
	redis.SetLogger(quiet{})
	uni := &redis.UniversalOptions{
		Addrs:                      o.Addrs,
		Username:                   o.Username,
		Password:                   o.Password,
		CredentialsProviderContext: o.credentials(),
		DB:                         o.DB,
		MasterName:                 o.SentinelMaster,
		IsClusterMode:              o.Cluster,
		TLSConfig:                  o.TLS,
		Protocol:                   2,
		MaxRetries:                 -1,
		MaxRedirects:               3,
		DialTimeout:                o.Timeout,
		DialerRetries:              1,
		ReadTimeout:                o.Timeout,
		WriteTimeout:               o.Timeout,
		PoolTimeout:                o.Timeout,
		ContextTimeoutEnabled:      true,
		PoolSize:                   o.PoolSize,
		DisableIdentity:            true,
		MaintNotificationsConfig:   &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if o.Cluster || o.SentinelMaster != "" {
		return redis.NewUniversalClient(uni)
	}
	simple := uni.Simple()
	simple.Network = o.Network
	return redis.NewClient(simple)
}

// credentials returns the provider for a password kept in a file, nil without one.
func (o *Options) credentials() func(context.Context) (string, string, error) {
	if o.PasswordFile == "" {
		return nil
	}
	file, user := o.PasswordFile, o.Username
	return func(context.Context) (string, string, error) {
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", "", fmt.Errorf("reading the Redis password: %w", err)
		}
		return user, strings.TrimRight(string(raw), "\r\n"), nil
	}
}
