package harness

import (
	"fmt"
	"os"
	"runtime"
	"sync"
)

// Run gives a program what a test has: fn may fail by Fatalf, and whatever it registered with Cleanup runs before Run
// returns, last registered first. It tells whether fn went through without a failure. Messages go to standard error.
func Run(fn func(t TB)) bool {
	s := &scope{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.cleanup()
		fn(s)
	}()
	<-done
	return !s.Failed()
}

// scope is the TB of a program.
type scope struct {
	mu       sync.Mutex
	failed   bool
	cleanups []func()
}

func (s *scope) Helper() {}

func (s *scope) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (s *scope) Errorf(format string, args ...any) {
	s.mu.Lock()
	s.failed = true
	s.mu.Unlock()
	s.Logf(format, args...)
}

func (s *scope) Fatalf(format string, args ...any) {
	s.Errorf(format, args...)
	runtime.Goexit()
}

func (s *scope) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *scope) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *scope) TempDir() string {
	dir, err := os.MkdirTemp("", "ratelimitd-")
	if err != nil {
		s.Fatalf("make a folder for temporary files: %v", err)
	}
	s.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			s.Logf("remove %s: %v", dir, err)
		}
	})
	return dir
}

func (s *scope) cleanup() {
	for {
		s.mu.Lock()
		n := len(s.cleanups)
		if n == 0 {
			s.mu.Unlock()
			return
		}
		f := s.cleanups[n-1]
		s.cleanups = s.cleanups[:n-1]
		s.mu.Unlock()
		f()
	}
}
