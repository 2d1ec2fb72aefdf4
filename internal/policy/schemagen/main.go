// Command schemagen writes the JSON Schema of the policy format.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/ratelimitd/ratelimitd/internal/policy"
)

func main() {
	out := flag.String("o", "policy.schema.json", "the file to write")
	flag.Parse()
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

func write(file string) error {
	schema, err := policy.Schema()
	if err != nil {
		return fmt.Errorf("make the schema: %w", err)
	}
	const readable = 0o644
	if err := os.WriteFile(file, schema, readable); err != nil {
		return fmt.Errorf("write the schema: %w", err)
	}
	return nil
}
