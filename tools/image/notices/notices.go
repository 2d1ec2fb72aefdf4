// Package notices writes down the licences of what a Go program is linked from: Go's own library, and each module, by name and
// version, with the texts that licences and notices ask to be handed on. It needs the go command and nothing else: the build
// info of the program names the modules, and the module cache has their texts.
package notices

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// License is the name of the file with the program's own licence.
	License = "LICENSE"
	// ThirdParty is the name of the file with the licences of all others.
	ThirdParty = "THIRD_PARTY_NOTICES"
)

// rule is the line above and below the name of a part.
const rule = "================================================================================"

const preamble = `What this file comes with is built from the parts that are named below, each under its own licence, which
follows its name and version. The licence of the rest is in the file ` + License + `.
`

// Files returns the contents of License and ThirdParty for a program of these parts. Source is the folder of the module that
// the program is built from. The same parts make the same contents, byte for byte. It errs for a part without a licence.
func Files(ctx context.Context, source string, parts []Part) (license, thirdParty []byte, err error) {
	license, err = os.ReadFile(filepath.Join(source, License))
	if err != nil {
		return nil, nil, fmt.Errorf("read the program's own licence: %w", err)
	}
	parts = slices.Clone(parts)
	slices.SortFunc(parts, compare)
	parts = slices.Compact(parts)
	folders, err := folders(ctx, source, parts)
	if err != nil {
		return nil, nil, err
	}
	var problems []error
	out := bytes.NewBufferString(preamble)
	for i, part := range parts {
		all, err := texts(os.DirFS(folders[i]), part.isGo())
		if err != nil {
			problems = append(problems, fmt.Errorf("%s, in %s: %w", part, folders[i], err))
		}
		writeSection(out, part, all)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, nil, err
	}
	return license, out.Bytes(), nil
}

// writeSection writes the texts of a part below its name.
func writeSection(out *bytes.Buffer, part Part, all []text) {
	fmt.Fprintf(out, "\n%s\n%s\n%s\n", rule, part, rule)
	for _, t := range all {
		fmt.Fprintf(out, "\n[%s]\n\n%s\n", t.name, t.content)
	}
}

// Missing returns those parts that the content of a file ThirdParty does not name, or names without a text.
func Missing(thirdParty []byte, parts []Part) []Part {
	pieces := strings.Split(string(thirdParty), "\n"+rule+"\n") // names, each before its texts
	return slices.DeleteFunc(slices.Clone(parts), func(part Part) bool {
		at := slices.Index(pieces, part.String())
		return at >= 0 && at+1 < len(pieces) && strings.TrimSpace(pieces[at+1]) != ""
	})
}
