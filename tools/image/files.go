package main

import (
	"archive/tar"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// readFiles reads all files of an image, by their names without a slash before them.
func readFiles(image v1.Image) (_ map[string]file, err error) {
	in := mutate.Extract(image)
	defer func() { err = errors.Join(err, in.Close()) }()
	files := map[string]file{}
	for r := tar.NewReader(in); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the layers: %w", err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("read %s of the layers: %w", header.Name, err)
		}
		files[header.Name] = file{name: header.Name, mode: header.Mode, content: content}
	}
}

// checkRoots errs unless a file holds the certificates of many authorities, and nothing else.
func checkRoots(text []byte) error {
	count := 0
	for ; ; count++ {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d in /%s: %w", count+1, rootsFile, err)
		}
		text = rest
	}
	if count < minRoots {
		return fmt.Errorf("/%s holds %d certificates, want %d or more", rootsFile, count, minRoots)
	}
	return nil
}
