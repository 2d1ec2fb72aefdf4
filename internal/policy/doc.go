// Package policy reads what a policy file says about whose requests are limited, and tells which checks a call makes.
//
// A file is read strictly into an immutable Snapshot: every mistake is told at once, with its line and what to write
// instead. A Source holds the snapshot in force and swaps it when the file changes. Resolve turns a call's descriptors
// into the checks that the store decides.
package policy
