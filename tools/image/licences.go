package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ratelimitd/ratelimitd/tools/image/notices"
)

const (
	// licencesFolder is where an image has the texts that it must be handed on with; the Dockerfile has them at the same place.
	licencesFolder = "licenses/"
	// rootsModule is what the authorities are taken from, which no linker puts into the program.
	rootsModule = "golang.org/x/crypto/x509roots/fallback"
)

// licenceLayer has the licence of a program, and those of all else in the image.
func (s *spec) licenceLayer(ctx context.Context, program []byte) (v1.Layer, error) {
	parts, err := parts(ctx, program)
	if err != nil {
		return nil, err
	}
	license, thirdParty, err := notices.Files(ctx, s.source, parts)
	if err != nil {
		return nil, fmt.Errorf("collect the licences: %w", err)
	}
	return layer(
		file{name: licencesFolder + notices.License, mode: 0o644, content: license},
		file{name: licencesFolder + notices.ThirdParty, mode: 0o644, content: thirdParty},
	)
}

// parts returns what an image with a program has from others. The authorities are those of the module that this command is
// built from, so it is to be run in that module.
func parts(ctx context.Context, program []byte) ([]notices.Part, error) {
	all, err := notices.Linked(bytes.NewReader(program))
	if err != nil {
		return nil, fmt.Errorf("name what is linked: %w", err)
	}
	bundle, err := notices.Required(ctx, ".", rootsModule)
	if err != nil {
		return nil, fmt.Errorf("name where the authorities are from: %w", err)
	}
	return append(all, bundle), nil
}

// checkLicences errs unless an image has the texts of all that is in it, for everybody to read. It returns how many it wants.
func checkLicences(ctx context.Context, files map[string]file) (int, error) {
	var problems []error
	for _, name := range []string{notices.License, notices.ThirdParty} {
		if f := files[licencesFolder+name]; len(f.content) == 0 || f.mode != 0o644 {
			problems = append(problems, fmt.Errorf("/%s%s has %d bytes and mode %o, want a text of mode 644",
				licencesFolder, name, len(f.content), f.mode))
		}
	}
	parts, err := parts(ctx, files[programFile].content)
	if err != nil {
		return 0, errors.Join(append(problems, err)...)
	}
	for _, part := range notices.Missing(files[licencesFolder+notices.ThirdParty].content, parts) {
		problems = append(problems, fmt.Errorf("/%s%s has no licence of %s", licencesFolder, notices.ThirdParty, part))
	}
	return len(parts), errors.Join(problems...)
}
