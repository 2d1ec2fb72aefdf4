// Command image puts programs that are built into an OCI image, one program for each platform, and writes it to a file:
// a tar of an OCI layout, which `podman load`, `kind load image-archive`, `skopeo copy oci-archive:` and, with the containerd
// image store, `docker load` take. Beside each program it puts the licences of what the program is linked from. It needs no
// container engine and no registry. Then it reads the file back and checks it.
//
// Usage: image [flags] linux/amd64=PROGRAM [linux/arm64=PROGRAM ...]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var out string
	s := spec{}
	flags := flag.NewFlagSet("image", flag.ExitOnError)
	flags.StringVar(&out, "out", "image.tar", "where to write the image")
	flags.StringVar(&s.name, "name", "ratelimitd", "the image's name, without a tag")
	flags.StringVar(&s.version, "version", "devel",
		"the image's version, which is its tag with - for +; must be what the programs say by `version`")
	flags.StringVar(&s.source, "source", "..", "the folder of the module that the programs are built from, with its LICENSE")
	flags.StringVar(&s.revision, "revision", "", "the revision of the source")
	flags.Func("created", "the time of the source, as 2006-01-02T15:04:05Z (default 1970)", func(text string) (err error) {
		s.created, err = time.Parse(time.RFC3339, text)
		return err //nolint:wrapcheck // the flag's message names both
	})
	_ = flags.Parse(args) // exits by itself
	for _, arg := range flags.Args() {
		platform, path, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is no program: write platform=path, as linux/amd64=bin/ratelimitd", arg)
		}
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			return fmt.Errorf("%q: %w", arg, err)
		}
		s.programs = append(s.programs, program{platform: *p, path: path})
	}
	if len(s.programs) == 0 {
		return errors.New("no program is named: write platform=path, as linux/amd64=bin/ratelimitd")
	}
	names, err := s.annotations()
	if err != nil {
		return err
	}
	index, err := s.build(ctx)
	if err != nil {
		return err
	}
	if err := writeArchive(out, index, names); err != nil {
		return err
	}
	found, err := check(ctx, out, &s)
	if err != nil {
		return fmt.Errorf("%s is written, and is wrong:\n%w", out, err)
	}
	fmt.Printf("%s: %s\n", out, names["io.containerd.image.name"])
	for _, line := range found {
		fmt.Println(" ", line)
	}
	return nil
}
