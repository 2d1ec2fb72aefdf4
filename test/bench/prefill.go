package main

import "context"

func prefillOurs(context.Context, *redisServer, int) (int64, error) { return 1, nil }
