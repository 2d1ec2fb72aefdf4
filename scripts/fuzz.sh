#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other. $1 bounds each: a number of inputs ("20000x") or a time.
# An input that fails is written to testdata/fuzz/ beside its test: keep it, it is a test from then on.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${GO:=go}"
fuzztime=${1:?how long? give a number of inputs as 20000x, or a time as 30s}

targets=$(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func /:/' | sort || true)
if [[ -z $targets ]]; then
  echo 'fuzz: there is no fuzz target' >&2
  exit 1
fi
while IFS=: read -r file name; do
  package=$(dirname "$file")
  echo "fuzz: $name in $package, $fuzztime"
  "$GO" test -run='^$' -fuzz="^$name\$" -fuzztime="$fuzztime" -fuzzminimizetime=5s "$package" </dev/null
done <<<"$targets"
