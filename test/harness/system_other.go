//go:build unix && !linux

package harness

import "syscall"

// childAttr puts a child into a process group of its own.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// claim has no way to tell other processes here; a port is checked by listening on it only.
func claim(int) (func(), error) { return func() {}, nil }
