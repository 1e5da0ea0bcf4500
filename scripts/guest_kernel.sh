#!/usr/bin/env bash
# Builds the measured guest's own kernel from Debian's source: our configuration, our patches, nothing loadable.
#
#   scripts/guest_kernel.sh [--twice] [DIR]    --twice builds it again elsewhere, and compares
#
# Root's; for a release, not for every change: a quarter of an hour on two cores, each time. DIR [default:
# ~/.cache/obscura/guest] gets builder/ (scripts/guest_builder.sh), and kernel/: vmlinuz, its configuration, the table
# of scripts/guest_aml.py, SHA256SUMS. scripts/guest.sh --kernel makes an image with it.
set -euo pipefail
cd "$(dirname "$0")/.."
twice=''
[ "${1:-}" != --twice ] || { twice=1; shift; }
. scripts/guest_root.sh
dir=$(guest_directory "${1:-}")
root=$dir/builder
image=$PWD/attestation/image
jobs=${JOBS:-$(nproc)}

#   kernel_make ARGUMENTS...     by make, which would ask this machine for what the kernel says of its build
kernel_make() {
  building KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_USER=obscura KBUILD_BUILD_HOST=obscura KBUILD_BUILD_VERSION=1 \
    make -s -C /linux "$@"
}

step "the root to build in, and the sources"
scripts/guest_builder.sh "$dir"

step "the kernel's source, with our patches"
rm -rf "$root/linux" "$root/linux-patches"
mkdir -p "$root/linux"
building sh -c 'dpkg-deb --fsys-tarfile /sources/linux.deb | tar -xO --wildcards "./usr/src/linux-source-*.tar.xz" |
  tar -xJ -C /linux --strip-components=1'
cp -r "$image/patches" "$root/linux-patches"
building sh -c 'cd /linux && for patch in /linux-patches/*.patch; do patch -p1 --fuzz=0 --batch --silent <"$patch" || exit 1; done'

# What was asked for and what came out: an option whose conditions do not hold is dropped without a word.
came_out='
import sys
read = lambda path: dict(line.strip().split("=", 1) for line in open(path) if line.startswith("CONFIG_"))
asked, there = read(sys.argv[1]), read(sys.argv[2])
wrong = [(name, there.get(name, "n")) for name in asked if asked[name] != there.get(name, "n")]
for name, value in wrong: print(f"{name}: asked for {asked[name]}, came out as {value}")
sys.exit(bool(wrong))'

#   built OUT     a kernel, and its configuration, in a directory of the root
built() {
  local out=$1
  rm -rf "${root:?}/$out"
  mkdir -p "$root/$out"
  cp "$image/kernel.config" "$root/$out/asked"
  kernel_make "O=/$out" "KCONFIG_ALLCONFIG=/$out/asked" allnoconfig
  python3 -c "$came_out" "$root/$out/asked" "$root/$out/.config"
  kernel_make "O=/$out" "-j$jobs" bzImage
}

step "the kernel"
built linux-out
if [ -n "$twice" ]; then
  step "the same kernel, elsewhere"
  built linux-second/place
  cmp "$root/linux-out/arch/x86/boot/bzImage" "$root/linux-second/place/arch/x86/boot/bzImage"
  cmp "$root/linux-out/.config" "$root/linux-second/place/.config"
  rm -rf "$root/linux-second"
fi

step "what a hostile host could say"
cp scripts/guest_aml.asl "$root/linux-out/probes.asl"
building iasl -vs -p /linux-out/probes /linux-out/probes.asl >/dev/null

kernel=$dir/kernel
rm -rf "$kernel"
mkdir -p "$kernel"
cp "$root/linux-out/arch/x86/boot/bzImage" "$kernel/vmlinuz"
cp "$root/linux-out/.config" "$kernel/config"
cp "$root/linux-out/probes.aml" "$kernel/"
(cd "$kernel" && sha256sum vmlinuz config probes.aml | tee SHA256SUMS)
