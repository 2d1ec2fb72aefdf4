package telemetry

import (
	"runtime"
	"runtime/debug"
)

// Build names what is running, as the Go toolchain stamped it into the binary.
type Build struct {
	Version  string // the module's version, "(devel)" if it was built without version control
	Revision string // the commit, "-dirty" appended if files had changed; "unknown" without version control
	Go       string // the Go version
}

// ReadBuild returns the running binary's build.
func ReadBuild() Build {
	b := Build{Version: "(devel)", Revision: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	dirty := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty {
		b.Revision += "-dirty"
	}
	return b
}
