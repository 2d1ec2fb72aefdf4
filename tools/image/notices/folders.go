package notices

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io"
	"os/exec"
	"strings"
)

// folders returns where each part is on this machine, in their order. A module that is not in the module cache is downloaded.
func folders(ctx context.Context, source string, parts []Part) ([]string, error) {
	modules, err := download(ctx, source, parts)
	if err != nil {
		return nil, err
	}
	all := make([]string, len(parts))
	for i, part := range parts {
		if part.isGo() {
			all[i], err = goRoot(ctx, source, part.Version)
		} else {
			all[i], err = modules[part.Name+"@"+part.Version].folder(part)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// module is what the go command says of one that it has downloaded.
type module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Error   string `json:"error"`
	Dir     string `json:"dir"`
	Sum     string `json:"sum"`
}

// folder returns where the module is. It errs if its files are not those that the program was linked from.
func (m module) folder(part Part) (string, error) {
	switch {
	case m.Error != "":
		return "", fmt.Errorf("download %s: %s", part, m.Error)
	case m.Dir == "":
		return "", fmt.Errorf("download %s: the go command does not say where it is", part)
	case m.Sum != part.Sum:
		return "", fmt.Errorf("%s has the checksum %s in the module cache, and %s in the program: clean the cache and build again",
			part, m.Sum, part.Sum)
	}
	return m.Dir, nil
}

// download returns what the go command says of each module, by path@version.
func download(ctx context.Context, source string, parts []Part) (map[string]module, error) {
	args := []string{"mod", "download", "-json", "--"}
	bare := len(args)
	for _, part := range parts {
		if !part.isGo() {
			args = append(args, part.Name+"@"+part.Version)
		}
	}
	all := map[string]module{}
	if len(args) == bare { // without names it would download all that go.mod requires
		return all, nil
	}
	out, failed := goCommand(ctx, source, args...)
	for said := json.NewDecoder(bytes.NewReader(out)); ; {
		var m module
		err := said.Decode(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.Join(failed, fmt.Errorf("read what `go mod download -json` says: %w", err))
		}
		all[m.Path+"@"+m.Version] = m
	}
	if len(all) == 0 && failed != nil { // else the modules say for themselves what failed
		return nil, failed
	}
	return all, nil
}

// goRoot returns where Go is. It may be another patch release than that of the program, since a go.mod may have asked for it,
// but no other release: the text could be another.
func goRoot(ctx context.Context, source, linked string) (string, error) {
	out, err := goCommand(ctx, source, "env", "GOROOT", "GOVERSION")
	if err != nil {
		return "", err
	}
	root, here, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if release := version.Lang(firstWord(linked)); release != version.Lang(firstWord(here)) {
		return "", fmt.Errorf("the program is built by %s, and here is %s: use the same for both", linked, here)
	}
	return root, nil
}

// firstWord is a version of Go without the experiments that may follow it.
func firstWord(version string) string {
	word, _, _ := strings.Cut(version, " ")
	return word
}

// goCommand runs the go command in a folder, and returns its output, also if it fails.
func goCommand(ctx context.Context, folder string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // no shell reads the arguments, and "--" ends the flags
	cmd.Dir = folder
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("go %s, in %s: %w: %s", strings.Join(args, " "), folder, err, bytes.TrimSpace(said.Bytes()))
	}
	return out, nil
}
