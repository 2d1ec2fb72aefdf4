package harness

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisServer is one redis-server process.
type RedisServer struct {
	// Addr is "127.0.0.1:port", or the path of a socket if the server has no port.
	Addr     string
	Password string      // empty if the server asks for none
	TLS      *tls.Config // what a client needs; nil if the server speaks plainly
	Client   *redis.Client
	proc     *process
}

// RedisOption changes how a redis-server is started.
type RedisOption func(*redisOptions)

type redisOptions struct {
	password string
	socket   bool
	appends  bool
	certs    *Certs
	args     []string
}

// WithPassword has the server ask for a password.
func WithPassword(password string) RedisOption {
	return func(o *redisOptions) { o.password = password }
}

// WithAppendOnly has the server write every command to disk before it answers, so that a restart loses nothing.
func WithAppendOnly() RedisOption { return func(o *redisOptions) { o.appends = true } }

// WithSocket has the server listen on a unix socket in place of a port.
func WithSocket() RedisOption { return func(o *redisOptions) { o.socket = true } }

// WithTLS has the server speak TLS only, and ask its clients for a certificate of the same authority.
func WithTLS(certs *Certs) RedisOption { return func(o *redisOptions) { o.certs = certs } }

// WithArgs adds arguments to the command line of the server, as "--maxmemory", "1mb".
func WithArgs(args ...string) RedisOption {
	return func(o *redisOptions) { o.args = append(o.args, args...) }
}

// Redis starts a redis-server that keeps nothing on disk, and returns when it answers.
func Redis(t TB, opts ...RedisOption) *RedisServer {
	t.Helper()
	r := newRedis(t, "redis-server", opts...)
	r.Start()
	return r
}

// RedisAway returns a redis-server that is not started yet: its address is reserved and refuses connections.
func RedisAway(t TB, opts ...RedisOption) *RedisServer {
	t.Helper()
	return newRedis(t, "redis-server", opts...)
}

func newRedis(t TB, name string, opts ...RedisOption) *RedisServer {
	t.Helper()
	var o redisOptions
	for _, opt := range opts {
		opt(&o)
	}
	dir := t.TempDir()
	r := &RedisServer{Password: o.password}
	args := []string{"--save", "", "--dir", dir, "--daemonize", "no", "--bind", loopbackIP}
	network := "tcp"
	switch {
	case o.socket:
		network, r.Addr = "unix", filepath.Join(dir, "redis.sock")
		args = append(args, "--port", "0", "--unixsocket", r.Addr)
	case o.certs != nil:
		port := Port(t)
		r.Addr, r.TLS = local(port), o.certs.ClientConfig(t)
		args = append(args, "--port", "0", "--tls-port", strconv.Itoa(port), "--tls-cert-file", o.certs.Cert,
			"--tls-key-file", o.certs.Key, "--tls-ca-cert-file", o.certs.CA)
	default:
		port := Port(t)
		r.Addr = local(port)
		args = append(args, "--port", strconv.Itoa(port))
	}
	if o.password != "" {
		args = append(args, "--requirepass", o.password)
	}
	if o.appends {
		args = append(args, "--appendonly", "yes", "--appendfsync", "always")
	}
	r.Client = newClient(t, network, r.Addr, r.Password, r.TLS)
	r.proc = &process{
		t: t, name: name + " " + filepath.Base(r.Addr), path: redisServer(t), args: append(args, o.args...),
		ready: func(ctx context.Context) error { return r.answers(ctx, network) },
	}
	r.proc.register()
	return r
}

// answers errs until the server answers. It knocks before it has the client connect, which would log each refusal.
func (r *RedisServer) answers(ctx context.Context, network string) error {
	if err := knock(ctx, network, r.Addr); err != nil {
		return err
	}
	return r.Client.Ping(ctx).Err()
}

// knock errs unless somebody listens at an address.
func knock(ctx context.Context, network, addr string) error {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// newClient connects as the tests themselves do: patient, and without a second try that would hide what they look at.
func newClient(t TB, network, addr, password string, conf *tls.Config) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Network: network, Addr: addr, Password: password, TLSConfig: conf, MaxRetries: -1,
		DialTimeout: Patience, ReadTimeout: Patience, WriteTimeout: Patience, ContextTimeoutEnabled: true,
		DialerRetries:            1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = c.Close() }) // its connections have nothing left to lose
	return c
}

// Port is the server's port; 0 if it listens on a socket.
func (r *RedisServer) Port() int {
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return n
}

// Start runs the server at its address and returns when it answers.
func (r *RedisServer) Start() {
	r.proc.t.Helper()
	r.proc.start()
}

// Stop has the server end in order, so that what it keeps on disk is complete.
func (r *RedisServer) Stop() {
	r.proc.t.Helper()
	if err := r.proc.stop(); err != nil {
		r.proc.t.Fatalf("stop %s: %v", r.proc.name, err)
	}
}

// Kill ends the server at once, as a crash does.
func (r *RedisServer) Kill() { r.proc.kill() }

// Restart stops the server and starts it at the same address.
func (r *RedisServer) Restart() {
	r.proc.t.Helper()
	r.Stop()
	r.Start()
}

// Pause stops the server from running while its connections stay open: it neither answers nor refuses.
func (r *RedisServer) Pause() { r.proc.signal(syscall.SIGSTOP) }

// Resume lets a paused server run on.
func (r *RedisServer) Resume() { r.proc.signal(syscall.SIGCONT) }

// CPU returns the processor time that the server has used in all, user and system.
func (r *RedisServer) CPU(ctx context.Context) (time.Duration, error) {
	info, err := r.Client.InfoMap(ctx, "cpu").Result()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its CPU time: %w", r.Addr, err)
	}
	var total time.Duration
	for _, field := range []string{"used_cpu_sys", "used_cpu_user"} {
		seconds, err := strconv.ParseFloat(info["CPU"][field], 64)
		if err != nil {
			return 0, fmt.Errorf("read %s of %s: %w", field, r.Addr, err)
		}
		total += time.Duration(seconds * float64(time.Second))
	}
	return total, nil
}
