#!/usr/bin/env bash
# Builds the image, runs the compose file, lets both workers join by token, runs a task on each,
# takes the results back, and removes everything again.
#
#   deploy/try-compose.sh [DIRECTORY OF THE BINARIES]     default: target/release
#
# Needs podman and podman-compose. BASE: the image to build on (see build-image.sh).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=orchestra-try-$$
port=${ORCHESTRA_PORT:-17117}

main() {
    trap clean_up EXIT
    step "build the image"
    "$here/build-image.sh" "$@"
    step "start the head"
    compose up -d head
    wait_for "the head to serve" in_head ctl status
    step "let two workers join by token"
    WORKER_1_TOKEN=$(token) && WORKER_2_TOKEN=$(token)
    export WORKER_1_TOKEN WORKER_2_TOKEN
    compose up -d
    wait_for "both workers" both_connected
    in_head ctl workers
    step "run a task on each, in a repository that only the head's container has"
    in_head sh -euc "$work"
    step "restart a worker: it has a certificate of its own by now"
    WORKER_1_TOKEN= && podman restart -t 20 "${name}_worker-1_1" >/dev/null
    wait_for "both workers" both_connected
    echo "compose: everything worked"
}

# Runs in the head's container: two tasks at once, which go to the least loaded worker each.
# shellcheck disable=SC2016
work='
mkdir /tmp/project && cd /tmp/project && git init -q -b main
git config user.name Somebody && git config user.email somebody@example.org
echo hello >README.md && git add -A && git commit -q -m first
ctl add --agent shell --apply "uname -n >one.txt; sleep 3"
ctl add --agent shell --apply "uname -n >two.txt; sleep 3"
ctl wait 1 2
cat one.txt two.txt | sort | tr "\\n" " " | grep -x "worker-1 worker-2 "
ctl tasks
'

step() { printf '\ncompose: %s\n' "$*"; }
compose() { (cd "$here" && ORCHESTRA_PORT=$port podman-compose -p "$name" "$@" 2>&1) | sed 's/^/    /'; }
in_head() { podman exec "${name}_head_1" "$@"; }
token() { in_head ctl token create --json | sed -n 's/.*"token": *"\([^"]*\)".*/\1/p'; }
both_connected() { in_head ctl status --json | tr -d ' \n' | grep -q '"connected":2'; }

# wait_for WHAT COMMAND...
wait_for() {
    local what=$1 tries
    shift
    for tries in $(seq 120); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.5
    done
    echo "compose: waited in vain for $what (try $tries)" >&2
    podman ps -a --filter "name=$name" >&2
    for container in head worker-1 worker-2; do
        podman logs --tail 5 "${name}_${container}_1" >&2 || true
    done
    return 1
}

# Not by `down` alone: older versions of podman-compose leave the network, and containers that are
# just being restarted.
clean_up() {
    step "clean up"
    compose down -v -t 10 >/dev/null || true
    podman ps -aq --filter "label=io.podman.compose.project=$name" | xargs -r podman rm -f -t 0 >/dev/null
    podman volume ls -q --filter "label=io.podman.compose.project=$name" | xargs -r podman volume rm -f >/dev/null
    podman network rm -f "${name}_default" >/dev/null 2>&1 || true
}

main "$@"
