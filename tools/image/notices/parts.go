package notices

import (
	"cmp"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
)

// goName is the part that is in every Go program.
const goName = "The Go standard library and runtime"

// Part is what a program is linked from, and has a licence of its own: a module, or Go.
type Part struct {
	// Name is the path of a module.
	Name string
	// Version is the module's, or Go's as "go1.26.0".
	Version string
	// Sum is the checksum of a module's files, as go.sum has it.
	Sum string
}

// String returns name and version, which head the part's texts.
func (p Part) String() string { return p.Name + " " + p.Version }

func (p Part) isGo() bool { return p.Name == goName }

// compare puts Go first, and modules in the order of their names.
func compare(a, b Part) int {
	switch {
	case a.isGo() && !b.isGo():
		return -1
	case b.isGo() && !a.isGo():
		return 1
	}
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Sum, b.Sum))
}

// Linked returns the parts of a program, by its build info. It errs for a program without one, and for a module that has no
// version, since nobody could tell which text is its licence.
func Linked(program io.ReaderAt) ([]Part, error) {
	info, err := buildinfo.Read(program)
	if err != nil {
		return nil, fmt.Errorf("read what the program is built from: %w", err)
	}
	parts := []Part{{Name: goName, Version: info.GoVersion}}
	for _, module := range info.Deps {
		linked := module
		if module.Replace != nil {
			linked = module.Replace
		}
		if linked.Sum == "" {
			return nil, fmt.Errorf("the program is built from %s in a folder of this machine (%s %s), which is no version of a module: "+
				"build it without a `replace` by a folder and without a go.work", module.Path, linked.Path, linked.Version)
		}
		parts = append(parts, partOf(linked))
	}
	return parts, nil
}

func partOf(module *debug.Module) Part {
	return Part{Name: module.Path, Version: module.Version, Sum: module.Sum}
}

// Required returns a module in the version that the go.mod of a folder requires, for what is taken from it by other ways than
// the linker's.
func Required(ctx context.Context, folder, module string) (Part, error) {
	out, err := goCommand(ctx, folder, "list", "-m", "-json", "--", module)
	if err != nil {
		return Part{}, err
	}
	var found debug.Module
	if err := json.Unmarshal(out, &found); err != nil {
		return Part{}, fmt.Errorf("read what `go list -m -json %s` says: %w", module, err)
	}
	if found.Replace != nil {
		found = *found.Replace
	}
	return partOf(&found), nil
}
