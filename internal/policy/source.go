package policy

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
)

// Source holds the policy in force, and replaces it when its file changes. It is safe for concurrent use.
type Source struct {
	name     string
	settings Adjustments
	onReload func(*Snapshot, []Warning, error)
	current  atomic.Pointer[inForce]

	mu      sync.Mutex // one reload at a time; guards what follows
	seen    digest     // of the text that was tried last
	lastErr error      // what came of it
}

// inForce is the policy in force and what is odd about it.
type inForce struct {
	snapshot *Snapshot
	warnings []Warning
}

// digest stands for a text; the zero digest for one that could not be read.
type digest [sha256.Size]byte

// NewSource loads a policy by its name or path. It errs as Load does: there is no policy to fall back on yet. OnReload
// may be nil. It is called after each later reload that found another text than the one before, or an error: with the
// policy that is now in force and its warnings, or with nil and the error. It must not call the source's Reload.
func NewSource(nameOrPath string, settings Adjustments, onReload func(*Snapshot, []Warning, error)) (*Source, error) {
	if onReload == nil {
		onReload = func(*Snapshot, []Warning, error) {}
	}
	s := &Source{name: nameOrPath, settings: settings, onReload: onReload}
	data, err := readPolicy(nameOrPath)
	if err != nil {
		return nil, err
	}
	snapshot, warnings, err := Parse(nameOrPath, data, settings)
	if err != nil {
		return nil, err
	}
	s.seen = sha256.Sum256(data)
	s.current.Store(&inForce{snapshot, warnings})
	return s, nil
}

// Current returns the policy in force: one atomic read.
func (s *Source) Current() *Snapshot { return s.current.Load().snapshot }

// Warnings returns the warnings of the policy in force.
func (s *Source) Warnings() []Warning { return s.current.Load().warnings }

// Reload reads the policy again. If it is bad or cannot be read, the old one stays in force and the error says why. A
// text that is in force already is left alone.
func (s *Source) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloadLocked(true)
}

// reloadIfChanged is Reload, but says nothing more of a text that was tried before.
func (s *Source) reloadIfChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.reloadLocked(false) // onReload has been told
}

// reloadLocked tries the policy's text, unless it was the last one tried: then, only if that was bad and retry is set.
func (s *Source) reloadLocked(retry bool) error {
	data, err := readPolicy(s.name)
	var found digest
	if err == nil {
		found = sha256.Sum256(data)
	}
	if found == s.seen && (s.lastErr == nil || !retry) {
		return s.lastErr
	}
	var (
		snapshot *Snapshot
		warnings []Warning
	)
	if err == nil {
		snapshot, warnings, err = Parse(s.name, data, s.settings)
	}
	s.seen, s.lastErr = found, err
	if err == nil {
		s.current.Store(&inForce{snapshot, warnings})
	}
	s.onReload(snapshot, warnings, err)
	return err
}
