#!/usr/bin/env bash
# Builds Dockerfile.tdx twice, compares, and starts what came out.
#
#   scripts/image.sh [WORK]        as root; needs buildah, debootstrap, rustup's 1.95 toolchain
#
# The bases are made here from Debian's packages where no registry is at hand. With bases of your own,
# by digest: BUILD_BASE=registry/image@sha256:… RUN_BASE=registry/image@sha256:… scripts/image.sh
set -euo pipefail
cd "$(dirname "$0")/.."

work=${1:-$(mktemp -d)}
mkdir -p "$work"
work=$(cd "$work" && pwd)
suite=bookworm
store=(--root "$work/storage" --runroot "$work/run" --storage-driver vfs)
build() { buildah "${store[@]}" "$@"; }
step() { printf '\n== %s\n' "$*"; }

for tool in buildah debootstrap cargo rustc; do
  command -v "$tool" >/dev/null || { echo "scripts/image.sh needs $tool" >&2; exit 1; }
done

# A directory as an image of one layer.
import() {
  local name=$1 root=$2 container
  container=$(build from scratch)
  build add --quiet "$container" "$root" / >/dev/null
  build commit --quiet --timestamp 0 "$container" "$name" >/dev/null
  build rm "$container" >/dev/null
}

make_build_base() {
  step "a base to build in: Debian $suite, a C compiler, this machine's Rust"
  debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates "$suite" "$work/build" >"$work/debootstrap.log"
  mkdir -p "$work/build/opt/rust"
  cp -a "$(rustc --print sysroot)/." "$work/build/opt/rust"
  ln -sf /opt/rust/bin/cargo /opt/rust/bin/rustc "$work/build/usr/local/bin/"
  rm -rf "$work/build"/var/{cache,log,lib/apt/lists}/* "$work/build/opt/rust/share"
  import obscura-build-base "$work/build"
}

make_run_base() {
  step "a base to run on: the C library, certificate roots, and no program"
  local root=$work/run-base lib=lib/x86_64-linux-gnu
  mkdir -p "$root/usr/$lib" "$root/usr/lib64" "$root/tmp" "$root/run/obscura" "$root/etc/ssl/certs"
  ln -s usr/lib "$root/lib"
  ln -s usr/lib64 "$root/lib64"
  for file in libc.so.6 libm.so.6 libgcc_s.so.1 libdl.so.2 libpthread.so.0 librt.so.1; do
    cp -L "$work/build/usr/$lib/$file" "$root/usr/$lib/"
  done
  cp -L "$work/build/usr/lib64/ld-linux-x86-64.so.2" "$root/usr/lib64/"
  # Of Debian's ca-certificates, for `collateral fetch` and `proxy`: who answers at an https:// URL. A node asks nobody.
  cp -L "$work/build/etc/ssl/certs/ca-certificates.crt" "$root/etc/ssl/certs/"
  import obscura-run-base "$root"
}

# The tracked files, and the sources of every dependency.
make_context() {
  step "sources"
  mkdir -p "$work/context"
  git archive HEAD | tar -x -C "$work/context"
  cargo vendor --quiet --locked "$work/context/vendor" >/dev/null
}

make_image() {
  local name=$1
  step "image $name"
  build bud --isolation chroot --no-cache --timestamp 0 \
    --build-arg BUILD_BASE="$BUILD_BASE" --build-arg RUN_BASE="$RUN_BASE" \
    --build-arg OBSCURA_COMMIT="$(git rev-parse HEAD)" \
    -f Dockerfile.tdx -t "$name" "$work/context" >"$work/$name.log" 2>&1 \
    || { tail -n 30 "$work/$name.log" >&2; exit 1; }
  local container mount
  container=$(build from "$name")
  mount=$(build mount "$container")
  (cd "$mount" && find . -type f -print0 | sort -z | xargs -0 sha256sum) >"$work/$name.files"
  build rm "$container" >/dev/null
}

[[ -n ${BUILD_BASE:-} ]] || { make_build_base; BUILD_BASE=localhost/obscura-build-base; }
[[ -n ${RUN_BASE:-} ]] || { make_run_base; RUN_BASE=localhost/obscura-run-base; }
make_context
make_image first
make_image second

step "both builds agree, file by file"
diff "$work/first.files" "$work/second.files"
cat "$work/first.files"

step "the binary starts, has no simulator, and stops where there is no TEE"
container=$(build from second)
run() { build run --isolation chroot "$container" -- /usr/bin/obscura "$@"; }
run --version
if run serve --tee simulated 2>"$work/refusal"; then
  echo "the simulator is inside" >&2; exit 1
fi
grep "no simulator" "$work/refusal"
if run serve --tee auto 2>"$work/refusal"; then
  echo "it serves without a TEE" >&2; exit 1
fi
grep "no TEE found" "$work/refusal"
step "it knows certificate roots"
mount=$(build mount "$container")
grep -q "BEGIN CERTIFICATE" "$mount/etc/ssl/certs/ca-certificates.crt"
