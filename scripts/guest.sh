#!/usr/bin/env bash
# From source to a policy line: builds the measured guest, boots it in software, and computes what it must measure.
#
#   scripts/guest.sh [DIR]            whole: programs and images twice, compared; every check; the policy's entry
#   scripts/guest.sh --short [DIR]    with the program that is there (OBSCURA_BIN, or target/debug/obscura): a trial
#   scripts/guest.sh --prepare [DIR]  the root of packages alone; fails where this machine cannot have one
#
# Root's. DIR [default: ~/.cache/obscura/guest] keeps a root of Debian's packages, 2 GB with the compiler, which is
# made once. What is locked is attestation/image/lock.toml; OBSCURA_GUEST_UNLOCKED=1 goes on with other inputs, whose
# image is then another. No TEE is needed, and none is asked: what a boot in software can show is what is checked.
set -euo pipefail
cd "$(dirname "$0")/.."
short='' prepare=''
case ${1:-} in
  --short) short=1; shift ;;
  --prepare) prepare=1; shift ;;
esac
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/obscura/guest}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
target=${CARGO_TARGET_DIR:-$PWD/target}
obscura=${OBSCURA_BIN:-$target/debug/obscura}
step() { printf '\n== %s\n' "$*"; }

missing=()
for tool in mmdebstrap python3 cargo rustc git unshare chroot ldd; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
[ ${#missing[@]} = 0 ] || { echo "needs ${missing[*]}" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "needs root: it makes a root of packages, and enters it" >&2; exit 1; }
[ -n "$prepare" ] || [ -x "$obscura" ] || { echo "no program at $obscura: build it, or name it by OBSCURA_BIN" >&2; exit 1; }

packages=qemu-system-x86,swtpm,swtpm-tools,ovmf,linux-image-cloud-amd64,erofs-utils,cryptsetup-bin,python3,cpio,zstd
packages+=,xz-utils,gcc,libc6-dev,systemd-ukify,systemd-boot-efi
root=$dir/root
if [ "$(cat "$root/packages" 2>/dev/null)" != "$packages" ]; then
  step "a root of Debian's packages"
  rm -rf "$root"
  mkdir -p "$dir"
  mmdebstrap --quiet --variant=minbase --skip=cleanup/apt/lists --include=$packages \
    --aptopt='APT::Default-Release "trixie-backports"' --aptopt='APT::Install-Recommends "false"' \
    trixie "$root" "deb $mirror trixie main" "deb $mirror trixie-backports main"
  printf %s "$packages" >"$root/packages"
fi
# /proc, by which the compiler finds its own files; gone with the namespace.
inside() { unshare -m sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" "$@"; }
inside true
[ -z "$prepare" ] || exit 0
kernel=$(basename "$root"/lib/modules/*)
work=$root/guest-inputs
mkdir -p "$work"

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
  inside env -i PATH=/opt/rust/bin:/usr/bin:/bin HOME=/ LC_ALL=C CARGO_HOME=/cargo CARGO_INCREMENTAL=0 \
    SOURCE_DATE_EPOCH=0 CARGO_TARGET_DIR="/$into" OBSCURA_COMMIT="$commit" \
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
    --kernel "/boot/vmlinuz-$kernel" --modules "/lib/modules/$kernel" "${libraries[@]}" "$@" >/dev/null
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
scripts/guest_trial.py --root "$root" --trial "$root/guest-images/trial" --refusing "$root/guest-images/release" \
  --obscura "$obscura" ${short:+--short}

step "what the image of a release must measure (computed, not seen on hardware)"
[ -z "$short" ] || echo "# Of this trial's program, which is not static: NOT a release's."
release=$root/guest-images/release
"$obscura" measure --name "${OBSCURA_RELEASE:-unreleased}" --kernel "$release/vmlinuz" --initrd "$release/initrd" \
  --cmdline-file "$release/cmdline"
