package policy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// opener reads a file that a policy names, by its path from the policy's directory. It reads one byte more than most at most.
type opener func(name string, most int) ([]byte, error)

// beside reads files beside a policy.
func beside(policy string) opener {
	return func(name string, most int) ([]byte, error) {
		if isBuiltin(policy) {
			return nil, fmt.Errorf("a built-in policy: %w", os.ErrNotExist)
		}
		return readFile(filepath.Join(filepath.Dir(policy), name), most)
	}
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
	data, err := readFile(nameOrPath, maxFileBytes)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w; name one of the built-in policies %q, or a file that exists", err, Builtin())
	}
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	return data, nil
}

// readFile reads a file, and no more of it than tells that it is larger than most bytes. Its errors have the file's path.
func readFile(path string, most int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what was being done, and to which file
	}
	data, err := io.ReadAll(io.LimitReader(file, int64(most)+1))
	return data, errors.Join(err, file.Close())
}
