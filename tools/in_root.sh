#!/usr/bin/env bash
# Run a command in a root of tools/make_root.sh, on this tree.
#
#     tools/in_root.sh ROOT COMMAND...
#
# The command has processes and mounts of its own, which end with it, and the network of this system. The
# tree is at /src; what is built there, .venv and build, stays in the root.
set -euo pipefail

tree=$(realpath "$(dirname "$0")/..")
[ $# -ge 2 ] && [ -d "$1/var/cache" ] || { echo 'in_root: ROOT COMMAND... are needed' >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo 'in_root: it is for root' >&2; exit 1; }

# Only within the new namespace.
inside() {
    local root=$1 tree=$2 path
    shift 2

    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/run"
    mount -t tmpfs tmpfs "$root/tmp"
    # What pip needs of this system: its configuration, wheels, certificates and the names of hosts.
    # shellcheck disable=SC2086  # a list of places
    share /etc/pip.conf /etc/hosts /etc/resolv.conf /etc/ssl/certs /usr/local/share/ca-certificates \
        "$HOME/.config/pip" "$HOME/.pip" ${PIP_FIND_LINKS:-}
    mkdir -p "$root/src" "$tree/.venv" "$tree/build"
    mount --bind "$tree" "$root/src"
    for path in .venv build; do
        mkdir -p "$root/var/cache/ipv4batch/$path"
        mount --bind "$root/var/cache/ipv4batch/$path" "$root/src/$path"
    done
    exec env -u TMPDIR -u VIRTUAL_ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
        chroot "$root" sh -c 'cd /src && exec "$@"' sh "$@"
}

# Binds files and folders of this system, where they exist, to the same places in the root.
share() {
    local path to
    for path in "$@"; do
        [[ $path = /* && -e $path ]] || continue
        to=$root$path
        mkdir -p "${to%/*}"
        if [ -d "$path" ]; then
            mkdir -p "$to"
        elif [ ! -f "$to" ] || [ -L "$to" ]; then
            # Removing a file ends what is bound to it in other runs too.
            rm -f "$to" && touch "$to"
        fi
        mount --bind "$path" "$to"
    done
}

export -f inside share
# It ends with whoever called this, and takes all with it.
exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child bash -euo pipefail -c 'inside "$@"' bash \
    "$(realpath "$1")" "$tree" "${@:2}"
