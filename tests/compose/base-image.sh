#!/usr/bin/env bash
# Makes the image localhost/orchestra-test-base out of this machine's own files: a shell, a few
# utilities, git, and the libraries that they and the binaries need. It stands for a Debian image
# where no registry can be reached.
set -euo pipefail

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

main() {
    mkdir -p "$root"/{tmp,etc,root,run,proc,sys,dev,usr/bin,usr/lib,usr/lib64,usr/sbin,var/lib}
    chmod 1777 "$root/tmp"
    ln -s usr/bin "$root/bin" && ln -s usr/sbin "$root/sbin"
    ln -s usr/lib "$root/lib" && ln -s usr/lib64 "$root/lib64"
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\n' >"$root/etc/group"
    local program
    for program in sh bash cat ls mkdir rm cp mv ln sleep env id touch printf sed grep cut tr sort uname test true false; do
        program /usr/bin/$program
    done
    program /usr/bin/git
    cp -a /usr/lib/git-core "$root/usr/lib/"
    mkdir -p "$root/usr/share" && cp -a /usr/share/git-core "$root/usr/share/"
    # What Rust programs link besides libc.
    libraries_of "$1"
    tar -C "$root" -c . | podman import -q - localhost/orchestra-test-base
}

program() {
    [ -e "$1" ] || return 0
    cp -L "$1" "$root$1"
    libraries_of "$1"
}

libraries_of() {
    local library
    ldd "$1" 2>/dev/null | grep -oE '/[^ )]+' | while read -r library; do
        [ -e "$root$library" ] && continue
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
}

main "$@"
