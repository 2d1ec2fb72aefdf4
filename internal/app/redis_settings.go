package app

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/store/redis"
)

// Redis's own ports.
const (
	redisPort    = "6379"
	sentinelPort = "26379"
	maxRedisDB   = 1 << 20
)

// reading is a set of settings while it is read.
type reading struct {
	opt   Options
	store StoreKind // as set; empty if it was not
	redis redisText
	otel  otelText
}

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

// tlsText is what the environment says of TLS to Redis.
type tlsText struct {
	enabled          *bool
	caFile           string
	certFile, keyOf  string
	serverName       string
	insecure         bool
	namesOfWhatIsSet []string
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

// tlsSettings are those of TLS to Redis.
func tlsSettings() []Setting {
	text := func(env, values, help string, to func(*tlsText) *string) Setting {
		return Setting{Env: env, Values: values, Help: help, read: func(r *reading, v string) error {
			t := &r.redis.tls
			*to(t) = v
			t.namesOfWhatIsSet = append(t.namesOfWhatIsSet, env)
			return nil
		}}
	}
	return []Setting{
		{
			Env: "REDIS_TLS_ENABLED", Default: "false", Values: "true or false",
			Help: "Speak TLS to Redis; rediss:// says so too.",
			read: func(r *reading, v string) error {
				r.redis.tls.enabled = new(bool)
				return readBool(v, r.redis.tls.enabled)
			},
		},
		text("REDIS_TLS_CA_FILE", "a path of PEM", "The authorities to trust in place of the system's.",
			func(t *tlsText) *string { return &t.caFile }),
		text("REDIS_TLS_CERT_FILE", "a path of PEM", "This client's certificate.",
			func(t *tlsText) *string { return &t.certFile }),
		text("REDIS_TLS_KEY_FILE", "a path of PEM", "The key of the certificate.",
			func(t *tlsText) *string { return &t.keyOf }),
		text("REDIS_TLS_SERVER_NAME", "a host name", "The name to expect in the server's certificate.",
			func(t *tlsText) *string { return &t.serverName }),
		{
			Env: "REDIS_TLS_INSECURE_SKIP_VERIFY", Default: "false", Values: "true or false",
			Help: "Accept any certificate; for tests.",
			read: func(r *reading, v string) error { return readBool(v, &r.redis.tls.insecure) },
		},
	}
}

// readable errs when a file cannot be read now: what is read later must not be found missing only then.
func readable(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("cannot be closed: %w", err)
	}
	return nil
}

func (r *reading) readStore(text string) error {
	var word string
	if err := readWord(text, &word, string(StoreMemory), string(StoreRedis)); err != nil {
		return err
	}
	r.store = StoreKind(word)
	return nil
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

// places names the settings that say where Redis is.
func (t *redisText) places() []string {
	var names []string
	if t.url != nil {
		names = append(names, "REDIS_URL")
	}
	if len(t.addrs) > 0 {
		names = append(names, "REDIS_ADDRS")
	}
	if t.host != "" {
		names = append(names, "REDIS_HOST")
	}
	return names
}

// plainAddress refuses what is more than an address. It does not repeat the value: a password may stand in it.
func plainAddress(setting, addr string) error {
	if strings.ContainsAny(addr, "@/?# ") {
		return fmt.Errorf("%s: one of its values is more than an address: write host:port; a URL goes into REDIS_URL, user and "+
			"password into REDIS_USERNAME and REDIS_PASSWORD", setting)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: one of its values is no address: write host:port", setting)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%s: one of its values has no port of 1 to 65535: write host:port", setting)
	}
	return nil
}

// finishAddrs puts together where Redis is.
func (r *reading) finishAddrs() error {
	if err := r.findAddrs(); err != nil {
		return err
	}
	if places := r.redis.places(); r.opt.Redis.Network == networkTCP && len(places) == 1 {
		for _, addr := range r.opt.Redis.Addrs {
			if err := plainAddress(places[0], addr); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reading) findAddrs() error {
	t, to := &r.redis, &r.opt.Redis
	to.Network = networkTCP
	port := redisPort
	if to.SentinelMaster != "" {
		port = sentinelPort
	}
	switch {
	case t.url != nil && t.url.Scheme == networkUnix:
		to.Network, to.Addrs = networkUnix, []string{t.url.Path}
	case t.url != nil:
		to.Addrs = []string{withPort(t.url.Host, port)}
	case t.host != "" && t.port != "":
		to.Addrs = []string{withPort(t.host, t.port)}
	case t.host != "":
		to.Addrs = []string{withPort(t.host, port)}
	default:
		for _, addr := range t.addrs {
			if network, path := splitAddr(addr); network == networkUnix {
				if len(t.addrs) > 1 {
					return errors.New("REDIS_ADDRS names a socket among several addresses: a socket must stand alone")
				}
				to.Network, to.Addrs = networkUnix, []string{path}
				return nil
			}
			to.Addrs = append(to.Addrs, withPort(addr, port))
		}
	}
	return nil
}

// withPort adds a port to an address that has none.
func withPort(addr, port string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), port)
}

// finishLogin puts together user, password and database.
func (r *reading) finishLogin() error {
	t, to := &r.redis, &r.opt.Redis
	to.Username, to.Password = t.username, t.password
	if t.db != nil {
		to.DB = *t.db
	}
	if t.url == nil {
		return nil
	}
	if user := t.url.User; user != nil {
		if name := user.Username(); name != "" {
			if t.username != "" && t.username != name {
				return errors.New("REDIS_URL and REDIS_USERNAME name different users: unset one")
			}
			to.Username = name
		}
		if password, ok := user.Password(); ok && password != "" {
			if t.password != "" && t.password != password {
				return errors.New("REDIS_URL and REDIS_PASSWORD hold different passwords: unset one")
			}
			to.Password = password
		}
	}
	return r.finishDB()
}

// finishDB reads the database of the URL, redis://host/1 or unix:///path?db=1.
func (r *reading) finishDB() error {
	t := &r.redis
	text := t.url.Query().Get("db")
	if t.url.Scheme != networkUnix {
		if path := strings.Trim(t.url.Path, "/"); path != "" {
			text = path
		}
	}
	if text == "" {
		return nil
	}
	db, err := strconv.Atoi(text)
	if err != nil || db < 0 || db > maxRedisDB {
		return fmt.Errorf("REDIS_URL has the database %q: write a number, as redis://host:6379/0", text)
	}
	if t.db != nil && *t.db != db {
		return fmt.Errorf("REDIS_URL and REDIS_DB name different databases, %d and %d: unset one", db, *t.db)
	}
	r.opt.Redis.DB = db
	return nil
}

// finishTLS reads the certificates.
func (r *reading) finishTLS() error {
	t := &r.redis.tls
	secured := r.redis.url != nil && r.redis.url.Scheme == "rediss"
	switch {
	case secured && t.enabled != nil && !*t.enabled:
		return errors.New("REDIS_URL says rediss:// and REDIS_TLS_ENABLED says false: change one")
	case !secured && (t.enabled == nil || !*t.enabled):
		if len(t.namesOfWhatIsSet) > 0 {
			return fmt.Errorf("%s is set, but TLS is off: set REDIS_TLS_ENABLED=true", strings.Join(t.namesOfWhatIsSet, ", "))
		}
		return nil
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.serverName,
		InsecureSkipVerify: t.insecure, //nolint:gosec // the operator asks for it by a setting of that name
	}
	if t.caFile != "" {
		pem, err := os.ReadFile(t.caFile)
		if err != nil {
			return fmt.Errorf("REDIS_TLS_CA_FILE cannot be read: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("REDIS_TLS_CA_FILE=%q holds no certificate: write the path of a PEM file", t.caFile)
		}
	}
	if (t.certFile == "") != (t.keyOf == "") {
		return errors.New("REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE belong together: set both or none")
	}
	if t.certFile != "" {
		pair, err := tls.LoadX509KeyPair(t.certFile, t.keyOf)
		if err != nil {
			return fmt.Errorf("REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE cannot be read: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	r.opt.Redis.TLS = config
	return nil
}
