package redis

import (
	"context"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Settle is being built.
func (s *Store) Settle(context.Context, *store.Settlement, *store.Settled) error { panic("being built") }
