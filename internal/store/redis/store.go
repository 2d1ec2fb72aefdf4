// Package redis keeps usage in Redis: a single server, a Sentinel's master or a Cluster.
//
// A decision is one Lua script; concurrent decisions share a call. On a Cluster a call can reach the keys of one slot only,
// so a decision over several subjects is taken subject by subject and undone where a later one denies: see cluster.go.
package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Store keeps usage in Redis. It is safe for concurrent use.
type Store struct {
	opt     Options
	client  redis.UniversalClient
	scripts scripts
	batch   *batcher // of plain requests
	reserve *batcher // of all other decisions
	settles *batcher
	changes *changes
	undos   chan struct{} // a token per undo under way in the background
}

var _ store.Store = (*Store)(nil)

// New returns a store over the Redis that opt names. It does not connect: a Redis that is away is an error of each call
// until it is there.
func New(opt Options) (*Store, error) {
	full, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	client := full.connect()
	s := &Store{opt: full, client: client, scripts: newScripts(full.clock != nil), undos: make(chan struct{}, maxUndos)}
	s.batch = newBatcher(client, s.scripts.admit, buildChecks, &full)
	s.reserve = newBatcher(client, s.scripts.reserve, buildBodies, &full)
	s.settles = newBatcher(client, s.scripts.settle, buildBodies, &full)
	s.changes = newChanges(client)
	return s, nil
}

// run runs a script with the test's clock, if any, as its last argument.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args []any) *redis.Cmd {
	if s.opt.clock != nil {
		args = append(args, s.opt.clock())
	}
	return script.Run(ctx, s.client, keys, args...)
}

func (s *Store) bound(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	if deadline.IsZero() {
		return context.WithTimeout(ctx, s.opt.Timeout)
	}
	return context.WithDeadline(ctx, deadline)
}

// OnChange registers the receiver of changes and begins to listen for those made elsewhere.
func (s *Store) OnChange(fn func(store.Change)) { s.changes.listen(fn) }

// Ping asks whether Redis answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx, time.Time{})
	defer cancel()
	if err := s.client.Ping(ctx).Err(); err != nil {
		return unavailable("pinging", err)
	}
	return nil
}

// Close ends all calls and connections.
func (s *Store) Close() error {
	s.changes.close()
	s.batch.close()
	s.reserve.close()
	s.settles.close()
	if err := s.client.Close(); err != nil {
		return fmt.Errorf("closing the Redis client: %w", err)
	}
	return nil
}
