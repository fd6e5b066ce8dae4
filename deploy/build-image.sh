#!/usr/bin/env bash
# Builds the image localhost/orchestra from binaries that cargo built.
#
#   deploy/build-image.sh [DIRECTORY OF THE BINARIES]     default: target/release
#
# CONTAINER_ENGINE: podman (default) or docker. BASE: the image to build on.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bins=${1:-$here/../target/release}
engine=${CONTAINER_ENGINE:-podman}

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir "$context/bin"
for program in orchestra-head orchestra-worker ctl; do
    [ -x "$bins/$program" ] || {
        echo "no $program in $bins: build it with \`cargo build --release\`" >&2
        exit 1
    }
    install -m 755 "$bins/$program" "$context/bin/"
    strip "$context/bin/$program" 2>/dev/null || true
done
"$engine" build ${BUILD_FLAGS-} ${BASE:+--build-arg BASE="$BASE"} -t localhost/orchestra -f "$here/Containerfile" "$context"
