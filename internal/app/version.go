package app

import "github.com/ratelimitd/ratelimitd/internal/telemetry"

// version is set by the linker in a release; empty otherwise.
var version string

// Build names what is running.
func Build() telemetry.Build {
	b := telemetry.ReadBuild()
	if version != "" {
		b.Version = version
	}
	return b
}
