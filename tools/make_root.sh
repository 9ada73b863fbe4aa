#!/usr/bin/env bash
# Make the root of another suite of Debian with Pythons of it, once, for tools/in_root.sh. Prints where it is.
#
#     tools/make_root.sh SUITE VERSION...        e.g. forky 3.14 3.15
#
# It is kept in $XDG_CACHE_HOME/ipv4batch/roots/SUITE, and made anew when the packages that are asked for
# change. The mirror is the one that this system installs from. Signatures are checked with the keyring of
# this system's debian-archive-keyring, which knows the keys of later suites since its updates bring them.
set -euo pipefail

fail() {
    echo "make_root: $*" >&2
    exit 1
}

[ $# -ge 2 ] || fail 'SUITE VERSION... are needed'
suite=$1
shift
root=${XDG_CACHE_HOME:-$HOME/.cache}/ipv4batch/roots/$suite
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# What the build and the suite need: .ci/run has the same list for CI.
packages=(gcc libc6-dev make strace iproute2 ethtool ca-certificates)
for version in "$@"; do
    packages+=("python$version-dev" "python$version-venv")
done

if [ "$(cat "$root/etc/ipv4batch-packages" 2>/dev/null)" = "${packages[*]}" ]; then
    echo "$root"
    exit
fi

[ "$(id -u)" = 0 ] || fail 'it is for root'
command -v mmdebstrap >/dev/null || fail 'mmdebstrap is needed: install it (Debian: mmdebstrap)'
[ -e $keyring ] || fail 'the keys of the archive are needed: install them (Debian: debian-archive-keyring)'
# shellcheck disable=SC2016  # apt's variables
mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
    awk -v suite="$(. /etc/os-release && echo "$VERSION_CODENAME")" \
        '$1 == "Debian" && $2 == "Debian" && $3 == suite { print $4; exit }')
[ -n "$mirror" ] || fail 'apt knows no mirror of Debian: run apt-get update on a Debian system'

mkdir -p "${root%/*}"
scratch=$(mktemp -d "$root.XXXXXX")
trap 'rm -rf --one-file-system "$scratch"' EXIT
# Proxies and the like are this system's too.
apt-config dump --format '%f "%v";%n' Acquire::http Acquire::https Acquire::Check-Valid-Until \
    Acquire::Check-Date >"$scratch/apt.conf"
mmdebstrap --quiet --mode=root --variant=apt --keyring="$keyring" --aptopt="$scratch/apt.conf" \
    --include="${packages[*]}" "$suite" "$scratch/root" "$mirror" >&2
echo "${packages[*]}" >"$scratch/root/etc/ipv4batch-packages"
rm -rf --one-file-system "$root"
mv "$scratch/root" "$root"
echo "$root"
