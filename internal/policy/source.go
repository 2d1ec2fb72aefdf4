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
	seen    digest     // of the texts that were tried last
	named   string     // the file that the policy named then; empty if none
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
	snapshot, warnings, err := s.parse(data)
	if err != nil {
		return nil, err
	}
	s.current.Store(&inForce{snapshot, warnings})
	return s, nil
}

// parse parses a policy's text, and remembers what was seen of it and of the file that it names.
func (s *Source) parse(data []byte) (*Snapshot, []Warning, error) {
	s.named, s.seen = "", digestOf(data, nil)
	open := beside(s.name)
	return parse(s.name, data, s.settings, func(name string, most int) ([]byte, error) {
		more, err := open(name, most)
		if err != nil {
			more = nil // as look has it
		}
		s.named, s.seen = name, digestOf(data, more)
		return more, err
	})
}

// look reads the policy, and tells what it sees of it and of the file that it named when it was parsed last.
func (s *Source) look() ([]byte, digest, error) {
	data, err := readPolicy(s.name)
	if err != nil {
		return nil, digest{}, err
	}
	if s.named == "" {
		return data, digestOf(data, nil), nil
	}
	more, err := beside(s.name)(s.named, maxPricesBytes)
	if err != nil { // what is wrong, parsing tells
		more = nil
	}
	return data, digestOf(data, more), nil
}

// digestOf stands for a policy's text and that of the file that it names.
func digestOf(data, more []byte) digest {
	first, second := sha256.Sum256(data), sha256.Sum256(more)
	return sha256.Sum256(append(first[:], second[:]...))
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
	data, found, err := s.look()
	if found == s.seen && (s.lastErr == nil || !retry) {
		return s.lastErr
	}
	var (
		snapshot *Snapshot
		warnings []Warning
	)
	if err == nil {
		snapshot, warnings, err = s.parse(data)
	} else {
		s.seen = found
	}
	s.lastErr = err
	if err == nil {
		s.current.Store(&inForce{snapshot, warnings})
	}
	s.onReload(snapshot, warnings, err)
	return err
}
