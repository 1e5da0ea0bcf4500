#!/usr/bin/env bash
# Builds the measured guest's firmware from Debian's source of edk2: one for TDX, one for SEV-SNP.
#
#   scripts/guest_firmware.sh [--twice] [DIR]   --twice builds both again from fresh sources, and compares
#
# Root's; for a release: about ten minutes on two cores, each time. DIR [default: ~/.cache/obscura/guest] gets builder/
# (scripts/guest_builder.sh), and firmware/: tdx.fd (OvmfPkg/IntelTdx), snp.fd (OvmfPkg/AmdSev), SHA256SUMS.
#
# Neither has Secure Boot or a shell. snp.fd starts what the host gives it only where that is what the launch digest's
# table of hashes says, and has no GRUB, by which upstream's starts a disk. edk2 writes the path of its sources into what
# it builds: that path is /edk2 in the root, whatever DIR is.
set -euo pipefail
cd "$(dirname "$0")/.."
twice=''
[ "${1:-}" != --twice ] || { twice=1; shift; }
. scripts/guest_root.sh
dir=$(guest_directory "${1:-}")
root=$dir/builder
jobs=${JOBS:-$(nproc)}

step "the root to build in, and the sources"
scripts/guest_builder.sh "$dir"

#   built OUT     both, from fresh sources, into a directory of the root
built() {
  rm -rf "$root/edk2" "${root:?}/$1"
  mkdir -p "$root/edk2" "$root/$1"
  building PYTHONHASHSEED=0 PYTHON3_ENABLE=TRUE PYTHONDONTWRITEBYTECODE=1 bash -euo pipefail -c '
    out=$1 jobs=$2
    cd /edk2
    tar -xJf /sources/edk2.orig.tar.xz --strip-components=1
    tar -xJf /sources/edk2.debian.tar.xz
    while read -r name; do patch -p1 --fuzz=0 --batch --silent <"debian/patches/$name"; done < <(grep "^[^#]" debian/patches/series)
    sed -i "/PREBUILD .*grub.sh/d; /AmdSev\/Grub\/Grub.inf/d" OvmfPkg/AmdSev/AmdSevX64.dsc OvmfPkg/AmdSev/AmdSevX64.fdf
    if grep -i grub OvmfPkg/AmdSev/AmdSevX64.dsc OvmfPkg/AmdSev/AmdSevX64.fdf; then exit 1; fi
    log() { "$@" >/edk2/log 2>&1 || { tail -30 /edk2/log >&2; exit 1; }; }
    log make -s "-j$jobs" -C BaseTools/Source/C
    # It takes the arguments of this shell for its own.
    set +eu --
    . ./edksetup.sh >/dev/null
    set -eu
    for platform in IntelTdx/IntelTdxX64 AmdSev/AmdSevX64; do
      log build -q -n "$jobs" -a X64 -t GCC5 -b RELEASE -p "OvmfPkg/$platform.dsc" -D BUILD_SHELL=FALSE
    done
    cp Build/IntelTdx/RELEASE_GCC5/FV/OVMF.fd "/$out/tdx.fd"
    cp Build/AmdSev/RELEASE_GCC5/FV/OVMF.fd "/$out/snp.fd"' bash "$1" "$jobs"
}
step "the firmware"
built firmware
if [ -n "$twice" ]; then
  step "the same firmware, from fresh sources"
  built firmware-second
  cmp "$root/firmware/tdx.fd" "$root/firmware-second/tdx.fd"
  cmp "$root/firmware/snp.fd" "$root/firmware-second/snp.fd"
fi
rm -rf "$dir/firmware"
mkdir -p "$dir/firmware"
cp "$root/firmware/tdx.fd" "$root/firmware/snp.fd" "$dir/firmware/"
(cd "$dir/firmware" && sha256sum tdx.fd snp.fd | tee SHA256SUMS)
