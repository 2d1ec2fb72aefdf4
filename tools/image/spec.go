package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// entryPoint is where the program is in the image; the Dockerfile has it at the same place.
	entryPoint  = "/" + programFile
	programFile = "ratelimitd"
	// user is "nonroot" of the distroless images, by number: Kubernetes cannot tell that a name is not root.
	user = "65532:65532"
	// rootsFile is where Go programs look first for the authorities that they trust.
	rootsFile = "etc/ssl/certs/ca-certificates.crt"
)

// spec says what goes into an image.
type spec struct {
	name, version, revision string
	created                 time.Time
	programs                []program
	source                  string // the folder of the module that the programs are built from
}

// program is a static program for one platform.
type program struct {
	platform v1.Platform
	path     string
}

// labels describe the image by the names that OCI has for it.
func (s *spec) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "ratelimitd",
		"org.opencontainers.image.description": "Rate limits and budgets for AI assistants, decided before the request",
		"org.opencontainers.image.source":      "https://github.com/ratelimitd/ratelimitd",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     s.version,
		"org.opencontainers.image.revision":    s.revision,
		"org.opencontainers.image.created":     s.created.UTC().Format(time.RFC3339),
	}
}

// tagged is what a registry takes as a tag.
var tagged = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// tag is the image's tag: its version, with a dash for each plus, which stands in versions with build metadata and in no tag. It
// errs for a version that makes no tag.
func (s *spec) tag() (string, error) {
	tag := strings.ReplaceAll(s.version, "+", "-")
	if !tagged.MatchString(tag) {
		return "", fmt.Errorf("version %q makes no tag: write at most 128 letters, digits, dots, dashes, underscores and pluses, "+
			"with a letter, a digit or an underscore first, as v0.1.0 or v0.1.0+build.5", s.version)
	}
	return tag, nil
}

// annotations name the image in the archive: for tools by the book, and for containerd.
func (s *spec) annotations() (map[string]string, error) {
	tag, err := s.tag()
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"org.opencontainers.image.ref.name": tag,
		"io.containerd.image.name":          s.name + ":" + tag,
	}, nil
}

// build makes the image of all platforms. The same programs and words make the same image, byte for byte.
func (s *spec) build(ctx context.Context) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	base, err := baseLayer()
	if err != nil {
		return nil, err
	}
	for _, p := range s.programs {
		image, err := s.image(ctx, p, base)
		if err != nil {
			return nil, fmt.Errorf("make the image of %s: %w", p.platform.String(), err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &p.platform},
		})
	}
	return index, nil
}

// image makes the image of one platform.
func (s *spec) image(ctx context.Context, p program, base v1.Layer) (v1.Image, error) {
	content, err := os.ReadFile(p.path)
	if err != nil {
		return nil, fmt.Errorf("read the program: %w", err)
	}
	licences, err := s.licenceLayer(ctx, content)
	if err != nil {
		return nil, err
	}
	top, err := layer(file{name: programFile, mode: 0o755, content: content})
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the empty config: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = p.platform.OS, p.platform.Architecture, p.platform.Variant
	config.Created = v1.Time{Time: s.created.UTC()}
	config.Config = v1.Config{
		Entrypoint: []string{entryPoint}, Cmd: []string{"serve"}, User: user, WorkingDir: "/", Labels: s.labels(),
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, fmt.Errorf("write the config: %w", err)
	}
	if image, err = mutate.AppendLayers(image, base, licences, top); err != nil {
		return nil, fmt.Errorf("add the layers: %w", err)
	}
	return image, nil
}
