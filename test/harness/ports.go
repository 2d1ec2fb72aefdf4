package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are taken from [firstPort, lastPort). They and the Cluster bus ports 10,000 above them lie below 32768, where
// Linux begins to number outgoing connections, so no connection can take one between the choice and its use.
const (
	firstPort  = 12000
	lastPort   = 22000
	busOffset  = 10000
	portTries  = 1000
	loopbackIP = "127.0.0.1"
)

// reserved holds this process's own ports, whatever the system's claims can tell.
var reserved = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// Port reserves a port of 127.0.0.1 that nobody listens on, with its Cluster bus port 10,000 above, until the test is
// over. Test binaries that run at the same time do not get the same one.
func Port(t TB) int {
	t.Helper()
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort)
		release, err := reserve(port)
		if err != nil {
			continue
		}
		t.Cleanup(release)
		return port
	}
	t.Fatalf("no free port on %s among %d tries in %d-%d", loopbackIP, portTries, firstPort, lastPort)
	return 0
}

// Addr reserves a port and returns it as "127.0.0.1:port".
func Addr(t TB) string {
	t.Helper()
	return local(Port(t))
}

func local(port int) string { return net.JoinHostPort(loopbackIP, strconv.Itoa(port)) }

func reserve(port int) (func(), error) {
	reserved.Lock()
	defer reserved.Unlock()
	if reserved.ports[port] {
		return nil, fmt.Errorf("port %d is taken by this process", port)
	}
	unclaim, err := claim(port)
	if err != nil {
		return nil, fmt.Errorf("port %d is taken by another process: %w", port, err)
	}
	for _, p := range []int{port, port + busOffset} {
		l, err := net.Listen("tcp", local(p))
		if err != nil {
			unclaim()
			return nil, fmt.Errorf("port %d is in use: %w", p, err)
		}
		if err := l.Close(); err != nil {
			unclaim()
			return nil, fmt.Errorf("port %d: %w", p, err)
		}
	}
	reserved.ports[port] = true
	return func() {
		reserved.Lock()
		defer reserved.Unlock()
		delete(reserved.ports, port)
		unclaim()
	}, nil
}
