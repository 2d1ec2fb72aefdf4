// Command ratelimitd decides, before a request reaches an AI assistant, whether its user and the system as a whole may
// still spend it. Envoy and app services ask it over gRPC.
package main

import (
	"context"
	"fmt"
	"os"
	_ "time/tzdata" // calendar windows need the zones, and an image need not have them
)

func main() {
	if err := newRoot(os.LookupEnv).ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "ratelimitd:", err)
		os.Exit(1)
	}
}
