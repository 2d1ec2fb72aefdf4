package notices

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
)

// maxText bounds a text in bytes. The longest licence in use, the GPL, has 35 thousand.
const maxText = 1 << 20

var (
	// textName is how files are named whose text is to be handed on: in any case as LICENSE or LICENSE.md, and in capitals, in
	// which nobody names code, with more after it, as LICENSE-MIT or LICENSE.libyaml.
	textName = regexp.MustCompile(`^(?i:(?:un)?(?:licen[sc]e|copying|copyright|notice|patents)s?(?:\.(?:txt|md|rst))?)$|` +
		`^(?:UN)?(?:LICEN[SC]E|COPYING|COPYRIGHT|NOTICE|PATENTS)S?[-._].*$`)
	// licenceName is how those of them are named that allow something.
	licenceName = regexp.MustCompile(`^(?i:(?:un)?licen[sc]e|copying)`)
)

// text is a file that is to be handed on.
type text struct {
	name    string // its path in the module
	content []byte
}

// texts returns the licences and notices in a folder. Those of the folders below it are returned too, unless the top alone is
// asked for: code that a module took from others has its licence beside it. It errs if there is no licence at the top.
func texts(folder fs.FS, top bool) ([]text, error) {
	var all []text
	licensed := false
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && (top || entry.Name() == "testdata"):
			return fs.SkipDir
		case !entry.Type().IsRegular() || !textName.MatchString(entry.Name()):
			return nil
		}
		content, err := readText(folder, name)
		if err != nil {
			return err
		}
		licensed = licensed || path.Dir(name) == "." && licenceName.MatchString(name) && len(bytes.TrimSpace(content)) > 0
		all = append(all, text{name: name, content: content})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read its licences: %w", err)
	}
	if !licensed {
		return nil, errors.New("it has no licence: there is no LICENSE, LICENCE or COPYING with a text at its top, and without " +
			"one it may not be handed on")
	}
	return all, nil
}

// readText reads a text, without blank lines around it.
func readText(folder fs.FS, name string) (_ []byte, err error) {
	in, err := folder.Open(name)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the file, and the caller says why it is read
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	content, err := io.ReadAll(io.LimitReader(in, maxText+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(content) > maxText {
		return nil, fmt.Errorf("%s has more than %d bytes, which is no licence", name, maxText)
	}
	return bytes.Trim(content, "\r\n"), nil
}
