package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	storeredis "github.com/ratelimitd/ratelimitd/internal/store/redis"
)

const (
	// hitsOfDay is how many hits a user has had in the last 24 hours when the measurement begins, evenly spread.
	hitsOfDay = 500
	// phases is how many moments of the day users' hits are shifted to, so that not all of them leave at once.
	phases = 16
	// prefillChunk is how many users one pipeline of a prefill covers.
	prefillChunk = 100
)

// ageOf is how long ago a user's hit was when the measurement begins; hit 0 is the newest.
func ageOf(user, hit int) time.Duration {
	const apart = day / hitsOfDay

	return apart*time.Duration(hit) + apart*time.Duration(user%phases+1)/(phases+1)
}

// prefillOurs gives every user its hits of the last day in ratelimitd's own format, and returns the bytes that one user
// takes in Redis. The first users of all phases are admitted hit by hit by the real store, under a clock that is set back;
// the others are copies of their keys.
func prefillOurs(ctx context.Context, server *redisServer, users int) (int64, error) {
	var size int64

	for first := range min(phases, users) {
		if err := admitDay(ctx, server, first); err != nil {
			return 0, fmt.Errorf("prefill %s: %w", server.name, err)
		}

		keys, err := server.keysOf(ctx, userName(first))
		if err != nil {
			return 0, err
		}

		if first == 0 {
			if size, err = memoryOf(ctx, server.ask, keys); err != nil {
				return 0, err
			}
		}

		if err := server.copyKeys(ctx, keys, first, users); err != nil {
			return 0, err
		}
	}

	return size, nil
}

// admitDay admits one user's hits of the last day.
func admitDay(ctx context.Context, server *redisServer, user int) error {
	begun := time.Now()
	now := begun.UnixMicro()

	opt := storeredis.Options{Addrs: []string{server.addr}}

	s, err := storeredis.New(*opt.WithClock(func() int64 { return now }))
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	defer s.Close() // nothing is in flight

	check := store.Check{Subject: store.Subject{Kind: "user", ID: userName(user)}, Unit: store.Requests, Amount: 1}
	for _, w := range userWindows {
		check.Limits = append(check.Limits, store.Limit{Max: w.limit, Period: w.period})
	}

	var ans store.Answer

	for hit := hitsOfDay - 1; hit >= 0; hit-- {
		now = begun.Add(-ageOf(user, hit)).UnixMicro()

		switch err := s.Admit(ctx, &store.Request{Checks: []store.Check{check}}, &ans); {
		case err != nil:
			return fmt.Errorf("admit hit %d: %w", hit, err)
		case !ans.Admitted:
			return errors.New("a hit was denied")
		}
	}

	if used := ans.States[len(ans.States)-1].Used; used != hitsOfDay {
		return fmt.Errorf("%s has %d hits in the day, want %d", userName(user), used, hitsOfDay)
	}

	return nil
}

// keysOf returns the keys whose names contain a user's id.
func (r *redisServer) keysOf(ctx context.Context, user string) ([]string, error) {
	keys, err := r.ask.Keys(ctx, "*"+user+"*").Result()
	if err != nil {
		return nil, fmt.Errorf("list the keys of %s: %w", r.name, err)
	}

	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no key that contains %q", r.name, user)
	}

	return keys, nil
}

// copyKeys copies a user's keys to all other users of its phase.
func (r *redisServer) copyKeys(ctx context.Context, keys []string, from, users int) error {
	for first := from + phases; first < users; first += phases * prefillChunk {
		pipe := r.ask.Pipeline()

		for user := first; user < min(first+phases*prefillChunk, users); user += phases {
			for _, key := range keys {
				pipe.Copy(ctx, key, strings.ReplaceAll(key, userName(from), userName(user)), r.ask.Options().DB, false)
			}
		}

		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("copy keys within %s: %w", r.name, err)
		}
	}

	return nil
}
