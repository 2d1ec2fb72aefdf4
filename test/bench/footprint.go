package main

import (
	"context"
	"fmt"
	"strings"
)

const (
	// openAtOnce is how many reservations are open, one a user, when their bytes are measured: as many as the shipped policy
	// lets be open.
	openAtOnce = 100
	// openPrefix and dayUser name users of whom only bytes are measured.
	openPrefix = "open-"
	dayUser    = "day-user"
)

// sizes are the Redis bytes of a subject's keys, by what they are for.
type sizes struct {
	Usage  float64 `json:"usage"`  // what limits count
	Open   float64 `json:"open"`   // open reservations
	Record float64 `json:"record"` // what is known of each reservation, kept for repeats
}

// sum is all of it.
func (s sizes) sum() float64 { return s.Usage + s.Open + s.Record }

// over are the sizes of one of n.
func (s sizes) over(n float64) sizes {
	return sizes{Usage: s.Usage / n, Open: s.Open / n, Record: s.Record / n}
}

// footprint is what reservations take in Redis.
type footprint struct {
	OpenUser   sizes `json:"open_user"`   // of one open reservation, at its user, who had none before
	OpenGlobal sizes `json:"open_global"` // of one of openAtOnce open reservations, at the system as a whole
	Day        sizes `json:"day"`         // of a user who has settled hitsOfDay reservations in the last day
}

// measureFootprint reserves and settles on an empty Redis, and empties it again.
func measureFootprint(ctx context.Context, server *redisServer) (*footprint, error) {
	s, err := newSpender(server)
	if err != nil {
		return nil, err
	}
	defer s.close()

	for i := range openAtOnce {
		if _, err := s.reserve(ctx, fmt.Sprintf("%s%03d", openPrefix, i), i); err != nil {
			return nil, err
		}
	}

	var f footprint

	if f.OpenUser, err = server.sizesOf(ctx, openPrefix); err != nil {
		return nil, err
	}

	if f.OpenGlobal, err = server.sizesOf(ctx, "{global:"); err != nil {
		return nil, err
	}

	f.OpenUser, f.OpenGlobal = f.OpenUser.over(openAtOnce), f.OpenGlobal.over(openAtOnce)

	if err := server.empty(ctx); err != nil {
		return nil, err
	}

	if err := s.spend(ctx, dayUser, agesOver(day, hitsOfDay, 0)); err != nil {
		return nil, err
	}

	if f.Day, err = server.sizesOf(ctx, dayUser); err != nil {
		return nil, err
	}

	return &f, server.empty(ctx)
}

// sizesOf measures all keys whose names contain a text.
func (r *redisServer) sizesOf(ctx context.Context, text string) (sizes, error) {
	keys, err := r.keysOf(ctx, text)
	if err != nil {
		return sizes{}, err
	}

	byPart := make(map[part][]string)
	for _, key := range keys {
		byPart[partOf(key)] = append(byPart[partOf(key)], key)
	}

	var s sizes

	for of, to := range map[part]*float64{usagePart: &s.Usage, openPart: &s.Open, recordPart: &s.Record} {
		n, err := memoryOf(ctx, r.ask, byPart[of])
		if err != nil {
			return sizes{}, err
		}

		*to = float64(n)
	}

	return s, nil
}

// empty deletes all keys.
func (r *redisServer) empty(ctx context.Context) error {
	if err := r.ask.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty %s: %w", r.name, err)
	}

	return nil
}

// lines say the bytes to a person.
func (f *footprint) lines() string {
	var text strings.Builder

	line := func(what string, s sizes) {
		fmt.Fprintf(&text, "  %s: %.0f: %.0f that limits count, %.0f open, %.0f kept for repeats\n",
			what, s.sum(), s.Usage, s.Open, s.Record)
	}

	text.WriteString("Redis bytes\n")
	line("of an open reservation, at a user who had nothing before", f.OpenUser)
	line(fmt.Sprintf("of an open reservation, one of %d, at the system as a whole", openAtOnce), f.OpenGlobal)
	line(fmt.Sprintf("of a user who has settled %d reservations in the day", hitsOfDay), f.Day)

	return text.String()
}
