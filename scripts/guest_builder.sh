#!/usr/bin/env bash
# A root of Debian's packages in which the guest's kernel and firmware are built, and their sources in it. Other scripts
# call this one.
#
#   scripts/guest_builder.sh DIR      root's; makes DIR/builder where it is not there, about 1 GB with the sources
#
# What is locked: its packages by attestation/image/builder.toml, the sources by attestation/image/sources.toml.
# OBSCURA_GUEST_UNLOCKED=1 goes on with other packages, and never with other sources.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:?usage: scripts/guest_builder.sh DIR}
root=$dir/builder
. scripts/guest_root.sh
needs

packages=gcc,g++,libc6-dev,make,patch,perl,python3,python3-setuptools,flex,bison,bc,libelf-dev,libssl-dev,cpio,zstd
packages+=,xz-utils,dpkg-dev,nasm,acpica-tools,uuid-dev
debian_root "$root" "$packages"
if ! scripts/guest_lock.py check attestation/image/builder.toml "$root"; then
  [ -n "${OBSCURA_GUEST_UNLOCKED:-}" ] || { echo "these packages are not the locked ones" >&2; exit 1; }
  echo "other packages than the locked ones: what they build may be other bytes"
fi

mkdir -p "$root/sources"
list='import tomllib
for one in tomllib.load(open("attestation/image/sources.toml", "rb"))["source"]:
    print(one["name"], one["path"], one["sha256"])'
while read -r name path sha256; do
  file=$root/sources/$name
  is_locked() { echo "$sha256  $file" | sha256sum --quiet --check - >/dev/null 2>&1; }
  is_locked || chroot "$root" /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file \
    "$mirror/$path" "/sources/$name" "SHA256:$sha256" >/dev/null ||
    { echo "$mirror does not give $path as it is locked: DEBIAN_MIRROR names another" >&2; exit 1; }
  is_locked || { echo "$path is not the locked one" >&2; exit 1; }
done < <(python3 -c "$list")
