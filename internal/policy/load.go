package policy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/ratelimitd/ratelimitd/configs"
)

// Builtin returns the names of the policies that are built in.
func Builtin() []string { return []string{"production", "development", "testing"} }

// isBuiltin tells whether a name is that of a built-in policy. A file of that name is written ./production.
func isBuiltin(name string) bool {
	return slices.Contains(Builtin(), name)
}

// Load reads a built-in policy by its name, or a file by its path. An error is either an *Error, about the policy's
// content, or one of reading the file.
func Load(nameOrPath string, settings Adjustments) (*Snapshot, []Warning, error) {
	data, err := readPolicy(nameOrPath)
	if err != nil {
		return nil, nil, err
	}
	return Parse(nameOrPath, data, settings)
}

// readPolicy returns the text of a policy. It reads no more of a file than tells that it is too large.
func readPolicy(nameOrPath string) ([]byte, error) {
	if isBuiltin(nameOrPath) {
		data, err := configs.Policies.ReadFile(nameOrPath + ".yaml")
		if err != nil {
			return nil, fmt.Errorf("built-in policy %s: %w", nameOrPath, err)
		}
		return data, nil
	}
	file, err := os.Open(nameOrPath)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w; name one of the built-in policies %q, or a file that exists", err, Builtin())
		}
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	return data, nil
}
