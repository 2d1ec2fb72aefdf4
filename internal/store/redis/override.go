package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Reset forgets a subject's hits.
func (s *Store) Reset(ctx context.Context, sub store.Subject) error {
	ctx, cancel := s.bound(ctx, time.Time{})
	defer cancel()
	if err := s.client.Del(ctx, logKeys(sub)...).Err(); err != nil {
		return unavailable("resetting a subject", err)
	}
	if err := s.client.Publish(ctx, changeChannel, encodeChange(sub)).Err(); err != nil {
		return unavailable("telling others of a reset", err)
	}
	s.changes.tell(store.Change{Subject: sub})
	return nil
}

// SetOverride stores a subject's override, or removes it when value is empty.
func (s *Store) SetOverride(ctx context.Context, sub store.Subject, value string) (int64, error) {
	ctx, cancel := s.bound(ctx, time.Time{})
	defer cancel()
	keys := append([]string{overrideKey(sub)}, logKeys(sub)...)
	version, err := s.run(ctx, s.scripts.override, keys, []any{value, changeChannel, encodeChange(sub)}).Int64()
	if err != nil {
		return 0, unavailable("setting an override", err)
	}
	s.changes.tell(store.Change{Subject: sub})
	return version, nil
}

// Override returns a subject's override.
func (s *Store) Override(ctx context.Context, sub store.Subject) (int64, string, error) {
	ctx, cancel := s.bound(ctx, time.Time{})
	defer cancel()
	raw, err := s.client.Get(ctx, overrideKey(sub)).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return 0, "", nil
	case err != nil:
		return 0, "", unavailable("reading an override", err)
	case len(raw) < versionSize:
		return 0, "", fmt.Errorf("%w: the override of %s is too short", store.ErrCorrupt, overrideKey(sub))
	}
	var wide [8]byte
	copy(wide[8-versionSize:], raw)
	return int64(binary.BigEndian.Uint64(wide[:])), raw[versionSize:], nil
}

// versionSize is the width of the version before an override's value.
const versionSize = 7
