#!/usr/bin/env bash
# From source to a policy line: builds the measured guest, boots it in software, and computes what it must measure.
#
#   scripts/guest.sh [DIR]            whole: programs and images twice, compared; every check; the policy's entry
#   scripts/guest.sh --short [DIR]    with the program that is there (OBSCURA_BIN, or target/debug/obscura): a trial
#   scripts/guest.sh --prepare [DIR]  the root of packages alone; fails where this machine cannot have one
#
#   --kernel FILE    a kernel of scripts/guest_kernel.sh. The whole form takes DIR/kernel/vmlinuz where that script has
#                    made it. Else it is Debian's, whose image no release may have: it lets ACPI's bytecode to memory
#
# Root's. DIR [default: ~/.cache/obscura/guest] keeps a root of Debian's packages, 2 GB with the compiler, which is
# made once. What is locked is attestation/image/lock.toml; OBSCURA_GUEST_UNLOCKED=1 goes on with other inputs, whose
# image is then another. No TEE is needed, and none is asked: what a boot in software can show is what is checked.
# Where scripts/guest_firmware.sh has made DIR/firmware, entries of a platform and of SEV-SNP are computed from it.
set -euo pipefail
cd "$(dirname "$0")/.."
short='' prepare='' own=''
while [[ ${1:-} == --* ]]; do
  case $1 in
    --short) short=1 ;;
    --prepare) prepare=1 ;;
    --kernel) own=${2:?--kernel names a file}; shift ;;
    *) echo "no such option: $1" >&2; exit 1 ;;
  esac
  shift
done
. scripts/guest_root.sh
dir=$(guest_directory "${1:-}")
if [ -z "$short$own" ] && [ -e "$dir/kernel/vmlinuz" ]; then own=$dir/kernel/vmlinuz; fi
target=${CARGO_TARGET_DIR:-$PWD/target}
obscura=${OBSCURA_BIN:-$target/debug/obscura}

needs cargo rustc git ldd
[ -n "$prepare" ] || [ -x "$obscura" ] || { echo "no program at $obscura: build it, or name it by OBSCURA_BIN" >&2; exit 1; }

packages=qemu-system-x86,swtpm,swtpm-tools,ovmf,linux-image-cloud-amd64,erofs-utils,cryptsetup-bin,python3,cpio,zstd
packages+=,xz-utils,gcc,libc6-dev,systemd-ukify,systemd-boot-efi
root=$dir/root
debian_root "$root" "$packages"
inside true
[ -z "$prepare" ] || exit 0
debian=$(basename "$root"/lib/modules/*)
work=$root/guest-inputs
mkdir -p "$work"
debian_kernel=(--kernel "/boot/vmlinuz-$debian" --modules "/lib/modules/$debian")
kernel=("${debian_kernel[@]}")
if [ -n "$own" ]; then
  cp "$own" "$work/vmlinuz"
  kernel=(--kernel /guest-inputs/vmlinuz)
fi

step "inputs"
if ! scripts/guest_lock.py check attestation/image/lock.toml "$root" "$(rustc --print sysroot)"; then
  # The short form tries how an image is made, and names nothing to trust.
  [ -n "$short${OBSCURA_GUEST_UNLOCKED:-}" ] || { echo "these inputs are not the locked ones" >&2; exit 1; }
  echo "other inputs than the locked ones: this is another image"
fi

# Static programs, at one path, with one compiler and one C library, from vendored sources: no network, no host.
# There is no git inside, and the sources are this commit's alone.
commit=$(git rev-parse HEAD)
#   compiled TARGET-DIRECTORY PACKAGE FLAGS...
compiled() {
  local into=$1
  shift
  building PATH=/opt/rust/bin:/usr/bin:/bin CARGO_HOME=/cargo CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="/$into" \
    OBSCURA_COMMIT="$commit" \
    RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=pie -C strip=symbols -C link-arg=-Wl,--build-id=none" \
    sh -c 'cd /obscura && exec cargo build --quiet --release --locked --offline --target x86_64-unknown-linux-gnu "$@"' \
    sh --config 'source.crates-io.replace-with="vendored"' --config 'source.vendored.directory="/vendor"' -p "$@"
}
programs() {
  local into=$1 out=$2 built=$root/$1/x86_64-unknown-linux-gnu/release
  mkdir -p "$out"
  compiled "$into" obscura-guest-init
  compiled "$into" obscura --no-default-features
  cp "$built/guest-init" "$built/obscura" "$out/"
}

libraries=()
if [ -n "$short" ]; then
  step "the first process"
  RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=pie -C strip=symbols" \
    cargo build --quiet --release --locked -p obscura-guest-init --target x86_64-unknown-linux-gnu
  cp "$target/x86_64-unknown-linux-gnu/release/guest-init" "$work/"
  # A program that is not static brings what it asks for; an image for a release refuses one.
  rm -rf "$work/libraries"
  mkdir "$work/libraries"
  cp "$obscura" "$work/trial-program"
  chroot "$root" strip --strip-debug /guest-inputs/trial-program
  ldd "$obscura" | grep -o '/[^ ]*' | xargs -I{} cp -L {} "$work/libraries/"
  cp "$work/trial-program" "$work/obscura"
  libraries=(--libraries /guest-inputs/libraries)
else
  step "sources, and the compiler"
  rm -rf "$root/obscura" "$root/vendor" "$root/opt/rust"
  mkdir -p "$root/obscura" "$root/opt/rust"
  git archive HEAD | tar -x -C "$root/obscura"
  cargo vendor --quiet --locked "$root/vendor" >/dev/null
  cp -a "$(rustc --print sysroot)/." "$root/opt/rust"
  rm -rf "$root/opt/rust/share"
  step "programs, twice"
  programs build-first "$work"
  rm -rf "$root/build-second"
  programs build-second "$work/second"
  cmp "$work/guest-init" "$work/second/guest-init"
  cmp "$work/obscura" "$work/second/obscura"
  rm -rf "$root/build-second"
  step "the same program with a simulator, for the trial"
  compiled build-first obscura
  cp "$root/build-first/x86_64-unknown-linux-gnu/release/obscura" "$work/trial-program"
fi

#   image NAME PROGRAM CONFIGURATION FLAGS...
image() {
  local name=$1 program=$2 configuration=$3
  shift 3
  chroot "$root" python3 /guest-inputs/build.py "/guest-images/$name" --program "/guest-inputs/$program" \
    --init /guest-inputs/guest-init --configuration "/guest-inputs/$configuration" \
    "${kernel[@]}" "${libraries[@]}" "$@" >/dev/null
}
step "images, twice"
cp attestation/image/build.py attestation/image/node.toml attestation/image/trial.toml "$work/"
image release obscura node.toml
image trial trial-program trial.toml --report
image second trial-program trial.toml --report
cmp "$root/guest-images/trial/SHA256SUMS" "$root/guest-images/second/SHA256SUMS"
# Another implementation of the tree opens what ours wrote.
IFS=: read -r blocks start salt hash < <(grep -o 'obscura.root=[^ ]*' "$root/guest-images/release/cmdline" | cut -d= -f2)
chroot "$root" veritysetup verify --no-superblock --hash=sha256 --data-blocks="$blocks" \
  --hash-offset=$((start * 4096)) --salt="$salt" /guest-images/release/root.img /guest-images/release/root.img "$hash"
cat "$root/guest-images/release/SHA256SUMS"

step "a boot in software"
scripts/guest_trial.py --root "$root" --trial "$root/guest-images/trial" --release "$root/guest-images/release" \
  --obscura "$obscura" ${short:+--short}

if [ -n "$own" ]; then
  step "a host whose ACPI tables reach for memory"
  probes=$(dirname "$own")/probes.aml
  scripts/guest_aml.py --root "$root" --image "$root/guest-images/trial" --probes "$probes"
  step "the same against Debian's kernel, which lets it"
  own_kernel=("${kernel[@]}")
  kernel=("${debian_kernel[@]}")
  image unguarded trial-program trial.toml --report
  kernel=("${own_kernel[@]}")
  scripts/guest_aml.py --root "$root" --image "$root/guest-images/unguarded" --probes "$probes" --unguarded
fi

# The same kernel, initrd and command line as one file (UKI), for a firmware that starts a file from a disk.
#   uki IMAGE NAME
uki() {
  building ukify build \
    --linux="/guest-images/$1/vmlinuz" --initrd="/guest-images/$1/initrd" --cmdline="@/guest-images/$1/cmdline" \
    --os-release= --uname=obscura --stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub \
    --output="/guest-images/$1/$2" >/dev/null
}
if [ -z "$short" ]; then
  step "a UKI for a cloud's boot loader, twice, and a boot of it"
  uki release uki.efi
  uki release second.efi
  cmp "$root/guest-images/release/uki.efi" "$root/guest-images/release/second.efi"
  uki trial uki.efi
  scripts/guest_uki.py --root "$root" --image "$root/guest-images/trial" --uki "$root/guest-images/trial/uki.efi" \
    --obscura "$obscura"
  (cd "$root/guest-images/release" && sha256sum uki.efi)
fi

step "what the image of a release must measure (computed, not seen on hardware)"
[ -z "$short" ] || echo "# Of this trial's program, which is not static: NOT a release's."
[ -n "$own" ] || echo "# With Debian's kernel, which lets the host's ACPI bytecode to memory: NOT a release's."
release=$root/guest-images/release
firmware=()
if [ -e "$dir/firmware/SHA256SUMS" ]; then
  # One machine, for an example: RTMR0 is another with other memory, vCPUs or devices.
  machine=(-machine q35,smm=off,hpet=off -m 4096 -smp 4 -nodefaults -device virtio-net-pci,romfile= -device virtio-rng-pci)
  for name in root settings model collateral; do
    machine+=(-blockdev "null-co,node-name=$name,size=1048576" -device "virtio-blk-pci,drive=$name,serial=obscura-$name")
  done
  echo "# The platform: 4 GiB, ${machine[*]}"
  cp scripts/acpi_tables.py "$work/"
  chroot "$root" python3 /guest-inputs/acpi_tables.py /guest-inputs/acpi qemu-system-x86_64 "${machine[@]}"
  firmware=(--tdx-firmware "$dir/firmware/tdx.fd" --acpi "$work/acpi" --memory 4GiB
    --snp-firmware "$dir/firmware/snp.fd" --cpu EPYC-v4 --vcpus 4,8,16,32)
fi
"$obscura" measure --name "${OBSCURA_RELEASE:-unreleased}" --kernel "$release/vmlinuz" --initrd "$release/initrd" \
  --cmdline-file "$release/cmdline" "${firmware[@]}"
