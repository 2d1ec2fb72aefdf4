package memory

import (
	"context"
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Reset forgets a subject's hits; its override stays, and so do its slots in use and what is known of its holds.
func (s *Store) Reset(ctx context.Context, subject store.Subject) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	k, sh := s.shard(subject)
	sh.mu.Lock()
	if sub := sh.subjects[k]; sub != nil {
		s.tidy(sh, sub, s.now())
		s.drop(sh, sub)
	}
	sh.mu.Unlock()
	s.changed(subject)
	return nil
}

// SetOverride stores a subject's override; "" removes it. The version it returns is the store's time, and larger than
// any that the store gave before; it is 0 for a removal. It errs with store.ErrFull when overrides alone would fill the
// store.
func (s *Store) SetOverride(ctx context.Context, subject store.Subject, value string) (int64, error) {
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	k, sh := s.shard(subject)
	var own *override
	if value != "" {
		own = &override{value: strings.Clone(value)}
	}
	sh.mu.Lock()
	err := s.setOverride(sh, k, own)
	sh.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if s.bytes.Load() > s.maxBytes {
		s.shrink(s.now())
	}
	s.changed(subject)
	if own == nil {
		return 0, nil
	}
	return own.version, nil
}

// setOverride replaces a subject's override under its shard's lock; nil removes it.
func (s *Store) setOverride(sh *shard, k key, own *override) error {
	sub := sh.subjects[k]
	if own == nil {
		if sub == nil || sub.override == nil {
			return nil
		}
		s.kept.Add(-sub.keptSize())
		sub.override = nil
		if !sub.hasLogs() && sub.holding == nil {
			s.drop(sh, sub)
			return nil
		}
		s.account(sub)
		return nil
	}
	before := int64(0)
	if sub != nil {
		before = sub.keptSize()
	}
	after := int64(subjectBytes + len(k.kind) + len(k.id) + overrideBytes + len(own.value))
	if err := s.room(after - before); err != nil {
		return err
	}
	if sub == nil {
		sub = s.create(sh, k)
	}
	own.version = s.nextVersion() // under the lock: the newest version is the one that stays
	sub.override = own
	s.kept.Add(after - before)
	s.account(sub)
	return nil
}

// nextVersion is the store's time, made larger than every version before it.
func (s *Store) nextVersion() int64 {
	for {
		last := s.version.Load()
		next := max(s.now(), last+1)
		if s.version.CompareAndSwap(last, next) {
			return next
		}
	}
}

// Override returns a subject's override and its version.
func (s *Store) Override(ctx context.Context, subject store.Subject) (int64, string, error) {
	if err := s.ready(ctx); err != nil {
		return 0, "", err
	}
	k, sh := s.shard(subject)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	o := sh.subjects[k].ownLimits()
	if o == nil {
		return 0, "", nil
	}
	return o.version, o.value, nil
}

// shard finds a subject's key and shard.
func (s *Store) shard(subject store.Subject) (key, *shard) {
	k := keyOf(subject)
	return k, &s.shards[s.shardOf(subject, k)]
}
