package main

import (
	"context"
	"time"
)

const (
	// hitsOfDay is how many hits a user has had in the last 24 hours when the measurement begins, evenly spread.
	hitsOfDay = 500
	// phases is how many moments of the day users' hits are shifted to, so that not all of them leave at once.
	phases = 16
)

// ageOf is how long ago a user's hit was when the measurement begins; hit 0 is the newest.
func ageOf(user, hit int) time.Duration {
	const apart = day / hitsOfDay

	return apart*time.Duration(hit) + apart*time.Duration(user%phases+1)/(phases+1)
}

func prefillOurs(context.Context, *redisServer, int) (int64, error) { return 1, nil }
