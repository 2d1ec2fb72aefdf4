// Package configs holds the policies that ratelimitd is shipped with.
package configs

import "embed"

// Policies holds production.yaml, development.yaml and testing.yaml.
//
//go:embed production.yaml development.yaml testing.yaml
var Policies embed.FS
