package app

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/store/redis"
)

// redisText is what the environment says of Redis, before it is put together.
type redisText struct {
	meant      []string // the names of the settings that mean a Redis, see redisMeant
	url        *url.URL
	addrs      []string
	host, port string
	db         *int
	username   string
	password   string
	tls        tlsText
}

// redisSettings are those of the shared store.
func redisSettings() []Setting {
	return append([]Setting{
		{
			Env: "REDIS_URL", Values: "redis://, rediss:// or unix:// with user, password and database", Secret: true,
			Help: "Where Redis is.",
			read: func(r *reading, v string) error { return r.redis.readURL(v) },
		},
		{
			Env: "REDIS_ADDRS", Values: "host:port, several with commas",
			Help: "Where Redis is: one server, the seeds of a Cluster, or the Sentinels.",
			read: func(r *reading, v string) error { r.redis.addrs = splitList(v); return nil },
		},
		{
			Env: "REDIS_HOST", Values: "a host name or address", Help: "Where Redis is.",
			read: func(r *reading, v string) error { r.redis.host = v; return nil },
		},
		{
			Env: "REDIS_PORT", Default: redisPort, Values: "a port", Help: "The port of REDIS_HOST.",
			read: func(r *reading, v string) error { return r.redis.readPort(v) },
		},
		{
			Env: "REDIS_DB", Default: "0", Values: "a number", Help: "The database, which is 0 on a Cluster.",
			read: func(r *reading, v string) error { return r.redis.readDB(v) },
		},
		{
			Env: "REDIS_MAX_CONNECTIONS", Aliases: []string{"REDIS_MAX_connections"},
			Default: strconv.Itoa(redis.DefaultPoolSize), Values: "1 to 10000", Help: "Connections to each Redis server.",
			read: func(r *reading, v string) error {
				n, err := readInt(v, 1, MaxRedisPoolSize)
				r.opt.Redis.PoolSize = int(n)
				return err
			},
		},
		{
			Env: "REDIS_USERNAME", Values: "a name", Help: "The user to log in as.",
			read: func(r *reading, v string) error { r.redis.username = v; return nil },
		},
		{
			Env: "REDIS_PASSWORD", Values: "a password", Help: "The password to log in with.", Secret: true,
			read: func(r *reading, v string) error { r.redis.password = v; return nil },
		},
		{
			Env: "REDIS_PASSWORD_FILE", Values: "a path",
			Help: "A file with the password, read again for each new connection.",
			read: func(r *reading, v string) error { r.opt.Redis.PasswordFile = v; return readable(v) },
		},
		{
			Env: "REDIS_SENTINEL_MASTER", Values: "a name", Help: "The master that the Sentinels at the addresses watch.",
			read: func(r *reading, v string) error { r.opt.Redis.SentinelMaster = v; return nil },
		},
		{
			Env: "REDIS_CLUSTER", Default: "false", Values: "true or false", Help: "The addresses are those of a Cluster.",
			read: func(r *reading, v string) error { return readBool(v, &r.opt.Redis.Cluster) },
		},
	}, tlsSettings()...)
}

// readURL reads a Redis URL. Its errors never hold the URL, which may hold a password.
func (t *redisText) readURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("is not a URL (it is not shown, as it may hold a password): write redis://host:6379/0")
	}
	switch u.Scheme {
	case "redis", "rediss":
		if u.Hostname() == "" {
			return fmt.Errorf("%q names no host: write %s://host:6379/0", u.Redacted(), u.Scheme)
		}
	case networkUnix:
		if u.Path == "" {
			return fmt.Errorf("%q names no socket: write unix:///path?db=0", u.Redacted())
		}
	default:
		return fmt.Errorf("has the scheme %q: write redis://, rediss:// or unix://", u.Scheme)
	}
	for key := range u.Query() {
		if key != "db" {
			return fmt.Errorf("has the parameter %q: only db is known", key)
		}
	}
	t.url = u
	return nil
}

// isServiceLink tells whether REDIS_PORT holds tcp://address:port. In a Kubernetes pod beside a service named redis, the
// platform sets that by itself.
func isServiceLink(text string) bool {
	return strings.HasPrefix(strings.TrimSpace(text), networkTCP+"://")
}

// readPort reads a port.
func (t *redisText) readPort(text string) error {
	port := strings.TrimSpace(text)
	if isServiceLink(port) {
		port = port[strings.LastIndexByte(port, ':')+1:]
	}
	if _, err := readInt(port, 1, 65535); err != nil {
		return err
	}
	t.port = port
	return nil
}

func (t *redisText) readDB(text string) error {
	n, err := readInt(text, 0, maxRedisDB)
	if err != nil {
		return err
	}
	db := int(n)
	t.db = &db
	return nil
}

// redisMeant names the settings by which somebody means a Redis: all of them that are set, but for switches that are off
// and for a port that Kubernetes set by itself.
func redisMeant(lookup func(env string) (string, bool)) []string {
	var names []string
	for _, s := range redisSettings() {
		name, value, ok := s.find(nil, lookup)
		if !ok || s.Env == "REDIS_PORT" && isServiceLink(value) {
			continue
		}
		if on := true; s.Default == "false" && readBool(value, &on) == nil && !on {
			continue
		}
		names = append(names, name)
	}
	return names
}

// finish puts together what several settings say.
func (r *reading) finish() error {
	places := r.redis.places()
	r.opt.Store = r.store
	switch {
	case r.store != "":
	case len(places) > 0:
		r.opt.Store = StoreRedis
	case len(r.redis.meant) > 0:
		return fmt.Errorf("%s: set, but no address says where Redis is: set REDIS_URL, REDIS_ADDRS or REDIS_HOST too, "+
			"as REDIS_HOST=redis; or set --store=memory (RATELIMITD_STORE) to count in this process alone",
			strings.Join(r.redis.meant, ", "))
	default:
		r.opt.Store = StoreMemory
	}
	if r.opt.Store != StoreRedis {
		return nil
	}
	if len(places) > 1 {
		return fmt.Errorf("%s all say where Redis is: set one of them", strings.Join(places, " and "))
	}
	if err := errors.Join(r.finishAddrs(), r.finishLogin()); err != nil {
		return err
	}
	return r.finishTLS()
}
