// Command licenses writes what a program must be handed on with into a folder: LICENSE, the program's own, and
// THIRD_PARTY_NOTICES, those of the Go modules that are linked into it. Of several programs it writes what all need together.
//
// Usage: licenses [flags] PROGRAM...
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ratelimitd/ratelimitd/tools/image/notices"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("licenses", flag.ExitOnError)
	out := flags.String("out", "licenses", "the folder to write to")
	source := flags.String("source", "..", "the folder of the module that the programs are built from")
	_ = flags.Parse(args) // exits by itself
	if flags.NArg() == 0 {
		return errors.New("no program is named: write its path, as bin/ratelimitd")
	}
	var parts []notices.Part
	for _, program := range flags.Args() {
		linked, err := linked(program)
		if err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		parts = append(parts, linked...)
	}
	license, thirdParty, err := notices.Files(ctx, *source, parts)
	if err != nil {
		return fmt.Errorf("collect the licences: %w", err)
	}
	if err := os.MkdirAll(*out, 0o755); err != nil { //nolint:gosec // everybody may read what everybody is to be given
		return fmt.Errorf("make the folder: %w", err)
	}
	return errors.Join(
		write(filepath.Join(*out, notices.License), license),
		write(filepath.Join(*out, notices.ThirdParty), thirdParty),
	)
}

// linked returns what the program of a file is linked from.
func linked(program string) (parts []notices.Part, err error) {
	in, err := os.Open(program)
	if err != nil {
		return nil, fmt.Errorf("open the program: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return notices.Linked(in)
}

func write(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // everybody may read it
		return fmt.Errorf("write the licences: %w", err)
	}
	return nil
}
