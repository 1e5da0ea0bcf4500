# Roots of Debian's packages, for the scripts that make the measured guest: they read this file, and nobody runs it.
# shellcheck shell=bash

mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

step() { printf '\n== %s\n' "$*"; }

#   needs TOOL...     and root, who alone makes a root of packages and enters it
needs() {
  local tool missing=()
  for tool in mmdebstrap python3 unshare chroot "$@"; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ ${#missing[@]} = 0 ] || { echo "needs ${missing[*]}" >&2; exit 1; }
  [ "$(id -u)" = 0 ] || { echo "needs root: it makes a root of packages, and enters it" >&2; exit 1; }
}

#   debian_root ROOT PACKAGES     of Debian's trixie and its backports, where it is not there with these packages
debian_root() {
  [ "$(cat "$1/packages" 2>/dev/null)" != "$2" ] || return 0
  step "a root of Debian's packages"
  rm -rf "$1"
  mkdir -p "$(dirname "$1")"
  mmdebstrap --quiet --variant=minbase --skip=cleanup/apt/lists --include="$2" \
    --aptopt='APT::Default-Release "trixie-backports"' --aptopt='APT::Install-Recommends "false"' \
    trixie "$1" "deb $mirror trixie main" "deb $mirror trixie-backports main"
  printf %s "$2" >"$1/packages"
}

#   inside COMMAND...     in $root, with /proc, by which compilers find their own files; gone with the namespace
inside() { unshare -m sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" "$@"; }

#   building COMMAND...   inside, where no time, user, host or path of this machine gets in
building() { inside env -i PATH=/usr/bin:/bin HOME=/ LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH=0 "$@"; }

# Where the scripts keep what they make.
guest_directory() { printf %s "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/obscura/guest}"; }
