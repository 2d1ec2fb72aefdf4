#!/usr/bin/env bash
# Fails if `make generate` changes anything: generated files are committed, and must be what their sources say. It works
# on a tree with uncommitted changes too, since it compares the tree before with the tree after.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${MAKE:=make}"
if ! git rev-parse --git-dir >/dev/null 2>&1; then
  echo 'generated: this is no git checkout, so there is nothing to compare with; not checked' >&2
  exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# tree writes all files that git would track into an index of its own, and prints the name of that tree.
tree() {
  GIT_INDEX_FILE=$scratch/index git add --all .
  GIT_INDEX_FILE=$scratch/index git write-tree
}

before=$(tree)
"$MAKE" --no-print-directory generate
after=$(tree)
if [[ $before != "$after" ]]; then
  git --no-pager diff --stat "$before" "$after"
  echo 'generated: these files were not up to date; they are now. Commit them.' >&2
  exit 1
fi
echo 'generated: up to date'
