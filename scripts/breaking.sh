#!/usr/bin/env bash
# Checks that proto/ breaks no caller of an earlier version: of the newest release that this commit contains, else of
# main, else of the commit before. Where there is none of these, as in a shallow clone, it says so.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${BUF:=buf}"

# differs succeeds if proto/ as it lies here is not that of a commit.
differs() { ! git diff --quiet "$1" -- proto buf.yaml; }

baseline=
head=$(git rev-parse --verify --quiet HEAD) || head=
for ref in "$(git describe --tags --abbrev=0 2>/dev/null || true)" origin/main main HEAD HEAD~1; do
  commit=$(git rev-parse --verify --quiet "$ref^{commit}") || continue
  # What is checked is no baseline for itself.
  if [[ $commit == "$head" ]] && ! differs "$commit"; then
    continue
  fi
  if git cat-file -e "$commit:proto" 2>/dev/null && git cat-file -e "$commit:buf.yaml" 2>/dev/null; then
    baseline=$commit
    break
  fi
done
if [[ -z $baseline ]]; then
  echo 'breaking: there is no earlier version of proto/ in this clone to compare with; nothing to break'
  exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git archive "$baseline" proto buf.yaml | tar -x -C "$scratch"
echo "breaking: proto/ compared with $ref ($(git log -1 --format='%h %s' "$baseline"))"
# shellcheck disable=SC2086 # BUF is a command with its arguments.
$BUF breaking --against "$scratch"
