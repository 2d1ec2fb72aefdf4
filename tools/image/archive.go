package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// writeArchive writes an image to a tar file that holds an OCI layout.
func writeArchive(to string, index v1.ImageIndex, annotations map[string]string) (err error) {
	dir, err := os.MkdirTemp("", "image")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	at, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	if err := at.AppendIndex(index, layout.WithAnnotations(annotations)); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return errors.Join(pack(out, dir), out.Close())
}

// pack writes the files of a folder to a tar, in order and without times and owners.
func pack(out io.Writer, dir string) error {
	w := tar.NewWriter(out)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return err
		case entry.IsDir():
			return writeFile(w, file{name: name + "/", mode: 0o755})
		}
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return fmt.Errorf("read the layout: %w", err)
		}
		return writeFile(w, file{name: name, mode: 0o644, content: content})
	})
	return errors.Join(err, w.Close())
}

// unpack writes the files of a tar to a folder. It errs for a name that leads out of it.
func unpack(archive, dir string) (err error) {
	in, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack the archive: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for r := tar.NewReader(in); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if header.Typeflag == tar.TypeDir {
			err = root.MkdirAll(header.Name, 0o755)
		} else {
			err = unpackFile(root, header.Name, r)
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", header.Name, err)
		}
	}
}

func unpackFile(root *os.Root, name string, from io.Reader) error {
	out, err := root.Create(name)
	if err != nil {
		return err //nolint:wrapcheck // the caller says what failed
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close())
}
