package harness

import (
	"fmt"
	"net"
	"syscall"
)

// childAttr puts a child into a process group of its own and has the kernel kill it when its parent is gone.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// claim tells other test processes of this machine that a port is taken. The claim is an abstract socket's name: it
// needs no file, and the kernel drops it with the process.
func claim(port int) (func(), error) {
	l, err := net.Listen("unix", fmt.Sprintf("@ratelimitd-test-port-%d", port))
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Close() }, nil // nothing was accepted or written: nothing can be lost
}
