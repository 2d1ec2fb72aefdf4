package main

import (
	"context"
	"errors"
)

func runDaemon(context.Context, string, []string) error { return errors.New("not built in yet") }
