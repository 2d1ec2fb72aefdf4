package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const (
	// maxBytes is how much a node may have to pull for one platform: config and layers, compressed.
	maxBytes = 25_000_000
	// minRoots is how many authorities a bundle has at least; there are about 140.
	minRoots = 100
	// maxRun bounds the run of the program.
	maxRun = time.Minute
)

// check reads an archive back and compares it with what it was made of: digests, platforms, names, config, size, and the
// files. It runs the program of this machine's platform. It returns a line about each platform, or all that is wrong.
func check(ctx context.Context, archive string, s *spec) (found []string, err error) {
	dir, err := os.MkdirTemp("", "image")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := unpack(archive, dir); err != nil {
		return nil, err
	}
	index, err := readIndex(dir, s)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	var problems []error
	if len(manifest.Manifests) != len(s.programs) {
		problems = append(problems, fmt.Errorf("it has %d platforms, want %d", len(manifest.Manifests), len(s.programs)))
	}
	for _, p := range s.programs {
		line, err := checkPlatform(ctx, index, manifest, p.platform, s)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", p.platform.String(), err))
		}
		found = append(found, fmt.Sprintf("%s: %s", p.platform.String(), line))
	}
	return found, errors.Join(problems...)
}

// readIndex reads the one image of an OCI layout, and compares every digest.
func readIndex(dir string, s *spec) (v1.ImageIndex, error) {
	all, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("read the layout: %w", err)
	}
	manifest, err := all.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read the layout: %w", err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("the layout holds %d images, want 1", len(manifest.Manifests))
	}
	names, err := s.annotations()
	if err != nil {
		return nil, err
	}
	if got := manifest.Manifests[0].Annotations; !maps.Equal(got, names) {
		return nil, fmt.Errorf("the image is named %v, want %v", got, names)
	}
	index, err := all.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	if err := validate.Index(index); err != nil {
		return nil, fmt.Errorf("the image is damaged: %w", err)
	}
	return index, nil
}

// checkPlatform checks the image of one platform, and describes it.
func checkPlatform(
	ctx context.Context, index v1.ImageIndex, manifest *v1.IndexManifest, platform v1.Platform, s *spec,
) (string, error) {
	at := slices.IndexFunc(manifest.Manifests, func(d v1.Descriptor) bool { return d.Platform != nil && d.Platform.Equals(platform) })
	if at < 0 {
		return "", errors.New("it is not in the image")
	}
	image, err := index.Image(manifest.Manifests[at].Digest)
	if err != nil {
		return "", fmt.Errorf("read its image: %w", err)
	}
	files, err := readFiles(image)
	if err != nil {
		return "", err
	}
	size, sizeErr := checkSize(image)
	said, programErr := checkProgram(ctx, files[programFile], platform, s.version)
	licences, licencesErr := checkLicences(ctx, files)
	err = errors.Join(sizeErr, checkConfig(image, platform, s), programErr, checkRoots(files[rootsFile].content), licencesErr)
	return fmt.Sprintf("%.1f MB compressed, %s as %s%s, %d licences in /%s",
		float64(size)/1e6, entryPoint, user, said, licences, licencesFolder), err
}

// checkConfig errs unless the image runs the program as nobody in particular, and says what it is.
func checkConfig(image v1.Image, platform v1.Platform, s *spec) error {
	config, err := image.ConfigFile()
	if err != nil {
		return fmt.Errorf("read the config: %w", err)
	}
	var problems []error
	want := func(what string, got, want any) {
		if got, want := fmt.Sprint(got), fmt.Sprint(want); got != want {
			problems = append(problems, fmt.Errorf("the %s is %s, want %s", what, got, want))
		}
	}
	want("platform", config.Platform().String(), platform.String())
	want("entry point", config.Config.Entrypoint, []string{entryPoint})
	want("command", config.Config.Cmd, []string{"serve"})
	want("user", config.Config.User, user)
	want("set of labels", config.Config.Labels, s.labels())
	return errors.Join(problems...)
}

// checkSize returns how much a node pulls, in bytes. It errs if that is too much.
func checkSize(image v1.Image) (int64, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return 0, fmt.Errorf("read the manifest: %w", err)
	}
	size := manifest.Config.Size
	for i := range manifest.Layers {
		size += manifest.Layers[i].Size
	}
	if size > maxBytes {
		return size, fmt.Errorf("a node pulls %d bytes, want at most %d", size, maxBytes)
	}
	return size, nil
}

// checkProgram errs unless the program can start in an image without a C library. If this machine can run it, it must say
// its version; what it said is returned.
func checkProgram(ctx context.Context, f file, platform v1.Platform, version string) (string, error) {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	program, err := elf.NewFile(bytes.NewReader(f.content))
	if err != nil {
		return "", fmt.Errorf("%s is no program of Linux: %w", entryPoint, err)
	}
	if program.Machine != machines[platform.Architecture] {
		return "", fmt.Errorf("%s is for %s", entryPoint, program.Machine)
	}
	if slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return "", fmt.Errorf("%s is linked dynamically: build it with CGO_ENABLED=0", entryPoint)
	}
	if f.mode != 0o755 {
		return "", fmt.Errorf("%s has mode %o, want 755", entryPoint, f.mode)
	}
	if platform.OS != runtime.GOOS || platform.Architecture != runtime.GOARCH {
		return "", nil
	}
	return runProgram(ctx, f.content, version)
}

// runProgram runs the program of an image, as it was read back, with nothing in its environment.
func runProgram(ctx context.Context, content []byte, version string) (said string, err error) {
	dir, err := os.MkdirTemp("", "image")
	if err != nil {
		return "", fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, content, 0o700); err != nil { //nolint:gosec // it is to be run
		return "", fmt.Errorf("unpack the program: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, maxRun)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version") //nolint:gosec // the program that was just unpacked
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s version: %w: %s", entryPoint, err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	if !strings.Contains(line, version) {
		return "", fmt.Errorf("%s says it is %q, want version %s", entryPoint, line, version)
	}
	return fmt.Sprintf(", says %q", line), nil
}
