// Package manifests builds the Kubernetes objects of deploy/k8s as `kubectl apply -k` does, and decodes them strictly
// against the types of the Kubernetes API.
package manifests

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// kustomizationFile is the only name that is used here for what kustomize reads.
const kustomizationFile = "kustomization.yaml"

// Build builds what the kustomization in a folder says, in the order in which it is to be applied. A component is built
// on its host, see HostOf. It errs when kustomize refuses the folder, or when an object does not decode: an unknown kind,
// an unknown field, a field that stands twice.
func Build(dir string) ([]Object, error) {
	component, err := isComponent(dir)
	if err != nil {
		return nil, err
	}
	if !component {
		return build(dir)
	}
	host, err := HostOf(dir)
	if err != nil {
		return nil, err
	}
	return buildOn(host, dir)
}

// Dirs returns every folder with a kustomization at or below a root, sorted.
func Dirs(root string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && entry.Name() == kustomizationFile {
			dirs = append(dirs, filepath.Dir(path))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for kustomizations: %w", err)
	}
	slices.Sort(dirs)
	return dirs, nil
}

// HostOf returns the kustomization that a component is built on: hosts/NAME beside it in testdata of this module, if
// there is one for it, else the base.
func HostOf(component string) (string, error) {
	module, err := moduleDir()
	if err != nil {
		return "", err
	}
	host := filepath.Join(module, "testdata", "hosts", filepath.Base(component))
	if _, err := os.Stat(filepath.Join(host, kustomizationFile)); err == nil {
		return host, nil
	}
	return filepath.Join(filepath.Dir(filepath.Dir(component)), "base"), nil
}

// isComponent tells whether a folder's kustomization is a component, which cannot stand alone.
func isComponent(dir string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(dir, kustomizationFile))
	if err != nil {
		return false, fmt.Errorf("read a kustomization: %w", err)
	}
	var k types.Kustomization
	if err := yaml.Unmarshal(text, &k); err != nil {
		return false, fmt.Errorf("%s: %w", filepath.Join(dir, kustomizationFile), err)
	}
	return k.Kind == types.ComponentKind, nil
}

// buildOn builds a component on a host, by a kustomization that says no more than that.
func buildOn(host, component string) (objects []Object, err error) {
	dir, err := os.MkdirTemp("", "kustomization")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() {
		if removing := os.RemoveAll(dir); err == nil && removing != nil {
			err = fmt.Errorf("remove a folder: %w", removing)
		}
	}()
	var k types.Kustomization
	k.TypeMeta = types.TypeMeta{APIVersion: types.KustomizationVersion, Kind: types.KustomizationKind}
	for _, part := range []struct {
		at string
		to *[]string
	}{{host, &k.Resources}, {component, &k.Components}} {
		// Kustomize takes no absolute paths, and goes by what links lead to.
		relative, err := relativeTo(dir, part.at)
		if err != nil {
			return nil, err
		}
		*part.to = []string{relative}
	}
	text, err := yaml.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("write a kustomization: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, kustomizationFile), text, 0o600); err != nil {
		return nil, fmt.Errorf("write a kustomization: %w", err)
	}
	return build(dir)
}

func relativeTo(from, to string) (string, error) {
	ends := [2]string{from, to}
	for i, path := range ends {
		path, err := filepath.Abs(path)
		if err == nil {
			path, err = filepath.EvalSymlinks(path)
		}
		if err != nil {
			return "", fmt.Errorf("find %s: %w", ends[i], err)
		}
		ends[i] = path
	}
	relative, err := filepath.Rel(ends[0], ends[1])
	if err != nil {
		return "", fmt.Errorf("find %s: %w", to, err)
	}
	return relative, nil
}

// build runs kustomize with the options that kubectl has.
func build(dir string) ([]Object, error) {
	found, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize build %s: %w", dir, err)
	}
	objects := make([]Object, 0, found.Size())
	for _, resource := range found.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			return nil, fmt.Errorf("kustomize build %s: %s: %w", dir, resource.CurId(), err)
		}
		object, err := Decode(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", dir, resource.CurId(), err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}
