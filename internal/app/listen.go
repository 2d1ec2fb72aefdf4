package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

const (
	// socketMode lets the socket's owner and group connect: a sidecar and its Envoy share a group.
	socketMode = 0o660
	// socketProbe is how long a server behind an old socket file has to take a connection.
	socketProbe = time.Second
)

// listen listens on host:port or unix:/path.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	network, at := splitAddr(addr)
	if network == networkUnix {
		return listenUnix(ctx, at)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, network, at)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// listenUnix listens on a socket. A file that a dead server left is removed; a live one's is not.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, networkUnix, path)
	if err != nil {
		return nil, fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("open unix:%s to its group: %w", path, err), l.Close())
	}
	return l, nil
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at what is there: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("a file that is no socket is there: remove it, or choose another path")
	}
	dialer := net.Dialer{Timeout: socketProbe}
	if conn, err := dialer.DialContext(ctx, networkUnix, path); err == nil {
		return errors.Join(errors.New("another server answers there: stop it, or choose another path"), conn.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	return nil
}
