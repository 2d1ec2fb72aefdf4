// Package memory is the embedded store: it keeps usage in the process itself, under the same contract as the store over
// Redis. Its memory is bounded. It runs no goroutine: what is idle is swept as calls come.
package memory

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Defaults of Options.
const (
	DefaultMaxBytes = 256 << 20
	DefaultShards   = 64
)

// Options say how to build a store. The zero value takes every default.
type Options struct {
	// MaxBytes bounds what subjects and holds take. Over it, the subjects used the longest ago are evicted early, that is while
	// hits of theirs still count. Open holds are never evicted: they are refused where they would not fit. Answers that are
	// kept for repeats take at most half of it once it is full: beyond that the oldest are forgotten early, and a repeat of what
	// they answered is done again. 0 stands for DefaultMaxBytes.
	MaxBytes int64
	// Shards is how many parts the subjects are kept in, each under its own lock. 0 stands for DefaultShards.
	Shards int
	// Now is the clock, microseconds since the Unix epoch. It must not run backwards. nil stands for the process's
	// monotonic clock, set to the wall clock once by New.
	Now func() int64
	// OnEvict hears of each evicted subject, and whether it was early. It must not block or call the store; nil for none.
	OnEvict func(early bool)
	// OnForget hears of each answer kept for repeats that is forgotten early. It must not block or call the store; nil for none.
	OnForget func()
	// OnLapse hears of each lease found over, of holds that have a part at the subject without an ID, and of what it leaves charged
	// there, nano-USD. It must not block or call the store; nil for none.
	OnLapse func(leases int, usd int64)
}

// Stats is what the store holds.
type Stats struct {
	Subjects int64
	Bytes    int64 // that they and the holds take, estimated
}

// Store is an embedded store. Make it with New.
type Store struct {
	maxBytes int64
	now      func() int64
	onEvict  func(early bool)
	onForget func()
	onLapse  func(leases int, usd int64)
	seed     maphash.Seed
	shards   []shard // the last one is the global subject's alone
	onChange atomic.Pointer[func(store.Change)]
	closed   atomic.Bool
	version  atomic.Int64 // the newest version given to an override

	bytes    atomic.Int64 // all that is held
	kept     atomic.Int64 // the part that is never evicted: overrides, open holds and waiters
	answers  atomic.Int64 // the part of ended holds
	subjects atomic.Int64
	victim   atomic.Uint64 // where the next early eviction looks
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New(opt Options) *Store {
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = DefaultMaxBytes
	}
	if opt.Shards <= 0 {
		opt.Shards = DefaultShards
	}
	if opt.Now == nil {
		opt.Now = processClock()
	}
	if opt.OnEvict == nil {
		opt.OnEvict = func(bool) {}
	}
	if opt.OnForget == nil {
		opt.OnForget = func() {}
	}
	if opt.OnLapse == nil {
		opt.OnLapse = func(int, int64) {}
	}
	s := &Store{
		maxBytes: opt.MaxBytes,
		now:      opt.Now,
		onEvict:  opt.OnEvict,
		onForget: opt.OnForget,
		onLapse:  opt.OnLapse,
		seed:     maphash.MakeSeed(),
		shards:   make([]shard, opt.Shards+1),
	}
	for i := range s.shards {
		s.shards[i].subjects = make(map[key]*subject)
	}
	return s
}

// processClock is the monotonic clock, set to the wall clock once.
func processClock() func() int64 {
	start := time.Now()
	base := start.UnixMicro()
	return func() int64 { return base + time.Since(start).Microseconds() }
}

// Stats tells what the store holds.
func (s *Store) Stats() Stats {
	return Stats{Subjects: s.subjects.Load(), Bytes: s.bytes.Load()}
}

// OnChange registers the receiver of changes.
func (s *Store) OnChange(fn func(store.Change)) { s.onChange.Store(&fn) }

// changed tells the receiver, if there is one.
func (s *Store) changed(subject store.Subject) {
	if fn := s.onChange.Load(); fn != nil && *fn != nil {
		(*fn)(store.Change{Subject: subject})
	}
}

// Ping errs only when the store is closed or ctx has ended.
func (s *Store) Ping(ctx context.Context) error { return s.ready(ctx) }

// Close ends the store. Calls after it err with store.ErrUnavailable. It may be called again.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

// ready errs when no decision can be made.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory store: before the decision: %w", err)
	}
	if s.closed.Load() {
		return fmt.Errorf("memory store: closed: %w", store.ErrUnavailable)
	}
	return nil
}

// inTime errs when no decision can be made, or none that is in time. Once begun, a decision does not wait for anything.
func (s *Store) inTime(ctx context.Context, deadline time.Time) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if !deadline.IsZero() && time.Until(deadline) <= 0 {
		return fmt.Errorf("memory store: the deadline was over before the decision: %w", store.ErrTimeout)
	}
	return nil
}
