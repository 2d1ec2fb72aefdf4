package manifests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Root returns deploy/k8s of this repository.
func Root() (string, error) {
	module, err := moduleDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(module, "..", "..", "deploy", "k8s"), nil
}

// moduleDir returns this module's folder: the nearest at or above the working one that has a go.mod.
func moduleDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find this module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("find this module: no go.mod at or above the working folder: run this inside of it")
		}
		dir = up
	}
}
