package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// file is one file or, with a name that ends in a slash, one folder of a layer. It belongs to root.
type file struct {
	name    string // without a slash before it
	mode    int64
	content []byte
}

const passwd = "root:x:0:0:root:/:/sbin/nologin\n" +
	"nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"

// baseLayer is what the program finds beside itself: the authorities for TLS to Redis, names for its user and group, and
// a place for temporary files. Time zones are in the program.
func baseLayer() (v1.Layer, error) {
	return layer(
		file{name: "etc/passwd", mode: 0o644, content: []byte(passwd)},
		file{name: "etc/group", mode: 0o644, content: []byte("root:x:0:\nnonroot:x:65532:\n")},
		file{name: rootsFile, mode: 0o644, content: roots()},
		file{name: "tmp/", mode: 0o1777},
	)
}

// roots are the authorities that Mozilla trusts, in the version that go.mod pins. One that is trusted within bounds alone
// is left out: a file of certificates cannot say so.
func roots() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes all
		}
	}
	return out.Bytes()
}

// layer makes a layer of files, and of the folders above them.
func layer(files ...file) (v1.Layer, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	var made []string
	for _, f := range files {
		for _, parent := range parents(f.name) {
			if slices.Contains(made, parent) {
				continue
			}
			made = append(made, parent)
			if err := writeFile(w, file{name: parent, mode: 0o755}); err != nil {
				return nil, err
			}
		}
		if err := writeFile(w, f); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write a layer: %w", err)
	}
	packed, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(out.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("pack a layer: %w", err)
	}
	return packed, nil
}

// parents returns the folders above a file or folder, from the top.
func parents(name string) []string {
	var all []string
	for dir := path.Dir(path.Clean(name)); dir != "."; dir = path.Dir(dir) {
		all = append(all, dir+"/")
	}
	slices.Reverse(all)
	return all
}

// writeFile writes an entry without a time, so that the same files make the same layer.
func writeFile(w *tar.Writer, f file) error {
	header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
	if f.name[len(f.name)-1] == '/' {
		header.Typeflag = tar.TypeDir
	}
	if err := w.WriteHeader(header); err != nil {
		return fmt.Errorf("write %s: %w", f.name, err)
	}
	if _, err := w.Write(f.content); err != nil {
		return fmt.Errorf("write %s: %w", f.name, err)
	}
	return nil
}
