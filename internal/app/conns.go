package app

import (
	"net"
	"sync"
	"sync/atomic"
)

// conns are the connections that a gRPC server has accepted. The server waits for the first words of each before it stops, and even
// before it tells the others: who has said nothing must not hold that up. It is safe for concurrent use.
type conns struct {
	mu   sync.Mutex
	open map[*conn]struct{}
}

// conn is a connection that knows whether its other end has said anything.
type conn struct {
	net.Conn

	of    *conns
	spoke atomic.Bool
}

// listener accepts connections and notes them.
type listener struct {
	net.Listener

	conns *conns
}

func newConns() *conns { return &conns{open: make(map[*conn]struct{})} }

// on returns a listener whose connections are noted.
func (c *conns) on(l net.Listener) net.Listener { return &listener{Listener: l, conns: c} }

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // the server looks at what kind of error it is
	}
	c := &conn{Conn: accepted, of: l.conns}
	l.conns.mu.Lock()
	l.conns.open[c] = struct{}{}
	l.conns.mu.Unlock()
	return c, nil
}

// Read reads, and notes that there was something.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.spoke.Load() {
		c.spoke.Store(true)
	}
	return n, err //nolint:wrapcheck // the server looks at what kind of error it is
}

// Close closes the connection and forgets it.
func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close() //nolint:wrapcheck // the server looks at what kind of error it is
}

// closeSilent closes the connections whose other end has said nothing yet.
func (c *conns) closeSilent() { c.close(func(one *conn) bool { return !one.spoke.Load() }) }

// closeAll closes all connections.
func (c *conns) closeAll() { c.close(func(*conn) bool { return true }) }

func (c *conns) close(which func(*conn) bool) {
	c.mu.Lock()
	var chosen []*conn
	for one := range c.open {
		if which(one) {
			chosen = append(chosen, one)
		}
	}
	c.mu.Unlock()
	for _, one := range chosen {
		_ = one.Close() // it is given up
	}
}
