#!/usr/bin/env bash
# Installs what the system tests want beyond git and Rust, on a machine that may have none of it.
#
#   tests/setup.sh          install what is missing; safe to run again
#   tests/setup.sh where    print the directory that holds the installed tools, and do nothing else
#
# Everything that can live in a directory of its own goes to
# ${XDG_CACHE_HOME:-~/.cache}/orchestra-tests/tools-<hash>, outside the clone, and is reused while
# the pinned versions stay the same. Debian packages are installed only as root. What a machine
# cannot do is printed and never fails the set-up: the tests that need it are skipped by name.
# Exit status: 0 when everything is there, 3 when something is missing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pins=$here/clis
hash=$(cat "$pins/package.json" "$pins/package-lock.json" "$pins/versions.env" | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orchestra-tests
tools=$cache/tools-$hash
missing=()
# shellcheck source=clis/versions.env
. "$pins/versions.env"

main() {
    case "${1-}" in
    where) echo "$tools"; return ;;
    '') ;;
    *) echo "usage: tests/setup.sh [where]" >&2; return 2 ;;
    esac
    mkdir -p "$tools/bin"
    debian_packages
    namespaces
    node_runtime
    coding_clis
    prometheus_tool
    otlp_collector
    summary
}

say() { printf 'setup: %s\n' "$*"; }
lacks() { missing+=("$*"); say "missing: $*"; }
has() { command -v "$1" >/dev/null 2>&1; }
is_root_with_apt() { [ "$(id -u)" = 0 ] && has apt-get && has dpkg; }

# Programs that only make sense installed for the whole machine.
debian_packages() {
    debian ip iproute2
    debian unshare util-linux
    debian npm npm
    debian runc runc
    debian podman podman
    debian podman-compose podman-compose
    debian /usr/lib/podman/netavark netavark
    debian /usr/lib/podman/aardvark-dns aardvark-dns
    debian systemd-analyze systemd
    debian mkfs.ext4 e2fsprogs
    debian mount mount
    debian cc gcc
}

# debian PROGRAM PACKAGE: one package at a time, so that one that cannot be had costs only itself.
debian() {
    has "$1" && return
    if ! is_root_with_apt; then
        lacks "$1 (as root on Debian: apt-get install $2)"
        return
    fi
    apt_update_once
    say "installing the Debian package $2"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2" \
        >"$tools/apt-$2.log" 2>&1 || lacks "$1 (apt-get install $2 failed: see $tools/apt-$2.log)"
}

apt_update_once() {
    [ -z "${apt_updated-}" ] || return 0
    apt_updated=1
    apt-get update -q >"$tools/apt-update.log" 2>&1 || say "apt-get update failed; trying with the lists at hand"
}

# The rights that no package gives.
namespaces() {
    [ "$(id -u)" = 0 ] || lacks "root, for workers in network namespaces of their own and for containers"
    unshare --net true 2>/dev/null || unshare --net --map-root-user true 2>/dev/null ||
        lacks "network namespaces, which keep the real CLIs from reaching beyond this machine"
}

# The CLIs that are JavaScript need Node 20; older distributions have less.
node_runtime() {
    has npm || return 0
    local major=0
    has node && major=$(node --version | sed -E 's/^v([0-9]+).*/\1/')
    [ "$major" -ge 20 ] && return
    [ -x "$tools/bin/node" ] && return
    say "installing node $NODE_VERSION from npm (found ${major:-none}, want 20)"
    if npm install --prefix "$tools/node" --no-fund --no-audit "node@$NODE_VERSION" >"$tools/node.log" 2>&1; then
        ln -sfn "$tools/node/node_modules/node/bin/node" "$tools/bin/node"
    else
        lacks "node 20 (npm install node@$NODE_VERSION failed: see $tools/node.log)"
    fi
}

# The real AI coding CLIs, at the pinned versions, with the versions and integrity hashes of the lock file.
# Not `npm ci`: it refuses a lock file without the packages of platforms that a registry lacks.
coding_clis() {
    if ! has npm; then
        lacks "npm, and with it the real AI coding CLIs"
        return
    fi
    if [ ! -e "$tools/clis/.complete" ]; then
        mkdir -p "$tools/clis"
        cp "$pins/package.json" "$pins/package-lock.json" "$pins/.npmrc" "$tools/clis/"
        say "installing the real AI coding CLIs (about 1.5 GB) into $tools/clis"
        if (cd "$tools/clis" && PATH=$tools/bin:$PATH npm install --no-save >"$tools/npm.log" 2>&1); then
            touch "$tools/clis/.complete"
        else
            lacks "the real AI coding CLIs (npm install failed: see $tools/npm.log)"
            return
        fi
    fi
    cli claude claude
    cli codex codex
    cli gemini gemini
    cli opencode opencode
    cli goose goose-binary-linux-x64
}

# cli NAME BIN: puts the program into the one directory that tests add to their PATH.
cli() {
    local target=$tools/clis/node_modules/.bin/$2
    if [ -e "$target" ]; then
        ln -sfn "$target" "$tools/bin/$1"
    else
        lacks "$1 (no package for this platform)"
    fi
}

# promtool alone, unpacked and not installed: the package would start a server on this machine.
prometheus_tool() {
    [ -x "$tools/bin/promtool" ] && return
    if has promtool; then return; fi
    if ! has apt-get || ! has dpkg; then
        lacks "promtool (Debian package prometheus)"
        return
    fi
    ! is_root_with_apt || apt_update_once
    say "unpacking promtool from the Debian package prometheus"
    rm -rf "$tools/prometheus" && mkdir -p "$tools/prometheus"
    if (cd "$tools/prometheus" && apt-get download -q prometheus && dpkg -x prometheus_*.deb . && rm -f prometheus_*.deb) \
        >"$tools/prometheus.log" 2>&1; then
        ln -sfn "$tools/prometheus/usr/bin/promtool" "$tools/bin/promtool"
    else
        lacks "promtool (see $tools/prometheus.log)"
    fi
}

# A real OpenTelemetry collector, from the Python package that carries its program.
otlp_collector() {
    [ -x "$tools/bin/rotel-agent" ] && return
    if ! has python3 || ! python3 -m pip --version >/dev/null 2>&1; then
        lacks "rotel-agent (pip install rotel==$ROTEL_VERSION wants Python with pip)"
        return
    fi
    say "unpacking the collector rotel $ROTEL_VERSION"
    if python3 -m pip install -q --no-deps --target "$tools/rotel" "rotel==$ROTEL_VERSION" >"$tools/rotel.log" 2>&1 &&
        [ -f "$tools/rotel/rotel/rotel-agent" ]; then
        chmod +x "$tools/rotel/rotel/rotel-agent"
        ln -sfn "$tools/rotel/rotel/rotel-agent" "$tools/bin/rotel-agent"
    else
        lacks "rotel-agent (see $tools/rotel.log)"
    fi
}

summary() {
    say "tools are in $tools"
    if [ ${#missing[@]} -eq 0 ]; then
        say "everything is there"
        return
    fi
    say "${#missing[@]} missing; the tests that need them are skipped by name:"
    printf '  - %s\n' "${missing[@]}"
    return 3
}

main "$@"
