#!/usr/bin/env bash
# What a release consists of, for x86_64 Linux: static programs, a Debian package, the list of what is linked in, and
# the digests of all.
#
#   scripts/release.sh [OUT]                  builds; OUT [default: dist] must not be there yet
#   scripts/release.sh --program FILE [OUT]   a trial: packs this program, whatever it is, as if it had been built
#
#   obscura-VERSION-x86_64-linux.tar.gz   for clients and for trying: has the simulator and the demo
#   obscura_VERSION_amd64.deb             the same program without a simulator, completions, systemd units
#   obscura.html                          the page that verifies and seals, for a browser (docs/clients.md)
#   obscura.cdx.json                      what is linked into the package's program (scripts/sbom.py)
#   SHA256SUMS
#
# Needs Rust, a C compiler with a static C library (Debian: libc6-dev), git, dpkg-deb. Programs are static, so that they
# run on any Linux, and for the same reason cannot load NVIDIA's libraries: nodes with a GPU are built by
# Dockerfile.tdx (scripts/image.sh), measured guests by scripts/guest.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "$*" >&2; exit 1; }
step() { printf '\n== %s\n' "$*"; }

given=
if [ "${1:-}" = --program ]; then
  given=${2:?usage: scripts/release.sh --program FILE [OUT]}
  [ -x "$given" ] || fail "no program at $given"
  shift 2
fi
[ $# -le 1 ] || fail "usage: scripts/release.sh [--program FILE] [OUT]"
out=${1:-dist}
[ ! -e "$out" ] || fail "$out is there already"
for tool in cargo git dpkg-deb python3; do
  command -v "$tool" >/dev/null || fail "needs $tool"
done
commit=$(git rev-parse HEAD)
[ -n "$given" ] || [ -z "$(git status --porcelain)" ] || fail "the tree differs from its commit: commit, or stash"
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
target=${CARGO_TARGET_DIR:-$PWD/target}
triple=x86_64-unknown-linux-gnu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

#   program NAME FLAGS...     a static program in $work/NAME
program() {
  local name=$1
  shift
  if [ -n "$given" ]; then
    [ -e "$work/given" ] || strip -o "$work/given" "$given"
    ln "$work/given" "$work/$name"
    return
  fi
  OBSCURA_COMMIT=$commit RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=pie -C strip=symbols \
-C link-arg=-Wl,--build-id=none --remap-path-prefix=$PWD=/obscura --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    cargo build --release --locked -p obscura --target "$triple" "$@"
  cp "$target/$triple/release/obscura" "$work/$name"
  # A static program names no interpreter.
  if LC_ALL=C readelf --program-headers "$work/$name" | grep -q INTERP; then fail "$name is not static"; fi
  "$work/$name" --version | grep -qF "$version ($commit)" || fail "$name does not say that it is $version of $commit"
}

# A trial's is not kept.
effort=-9 compression=(-Zxz)
[ -z "$given" ] || effort=-1 compression=(-Zgzip -z1)
# Files as everybody gets them: no owner, one time.
packed() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$1" -cf - "$2" | gzip "$effort" -n >"$3"; }

step "for clients and for trying"
program trial --features download
name=obscura-$version-x86_64-linux
install -D -m 0755 "$work/trial" "$work/$name/obscura"
install -m 0644 LICENSE CHANGELOG.md README.md "$work/$name/"
packed "$work" "$name" "$out/$name.tar.gz"

step "the Debian package"
program production --no-default-features --features docs,download
root=$work/package share=$work/package/usr/share
install -D -m 0755 "$work/production" "$root/usr/bin/obscura"
for unit in deploy/collateral/obscura-collateral.{service,timer} deploy/{node/obscura,proxy/obscura-proxy}.service; do
  install -D -m 0644 "$unit" "$root/usr/lib/systemd/system/$(basename "$unit")"
done
# As they lie in the repository, so that what they link to is where they say.
doc=$share/doc/obscura
install -D -m 0644 -t "$doc" README.md SECURITY.md CONTRIBUTING.md CHANGELOG.md LICENSE
while IFS= read -r file; do
  install -D -m 0644 "$file" "$doc/$file"
done < <(git ls-files docs attestation/'*.md' attestation/'*.toml' deploy sdk/'*/README.md' models/'*'.{md,toml,png})
install -D -m 0644 LICENSE "$doc/copyright"
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
mkdir -p "$share"/{bash-completion/completions,fish/vendor_completions.d,zsh/vendor-completions} "$root/DEBIAN" "$root/etc/obscura"
"$work/production" completions bash >"$share/bash-completion/completions/obscura"
"$work/production" completions fish >"$share/fish/vendor_completions.d/obscura.fish"
"$work/production" completions zsh >"$share/zsh/vendor-completions/_obscura"
cat >"$root/DEBIAN/control" <<CONTROL
Package: obscura
Version: $version
Architecture: amd64
Maintainer: the Obscura project
Section: net
Priority: optional
Installed-Size: $(du -ks --apparent-size --exclude=DEBIAN "$root" | cut -f1)
Recommends: ca-certificates
Description: confidential image node, its client and its side-car
 Makes images from prompts that the node's own operator cannot read: verifies
 nodes, seals requests to them, stands beside programs that speak OpenAI's image
 API, and serves models. One static program, commit $commit.
CONTROL
# Units are there, and none is started: what they need to know is the operator's to say.
for script in postinst postrm; do
  printf '#!/bin/sh\nset -e\nif [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi\n' >"$root/DEBIAN/$script"
  chmod 0755 "$root/DEBIAN/$script"
done
# What is removed does not go on running.
cat >"$root/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  systemctl disable --now obscura.service obscura-proxy.service obscura-collateral.timer || true
fi
PRERM
chmod 0755 "$root/DEBIAN/prerm"
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group "${compression[@]}" --build "$root" "$out/obscura_${version}_amd64.deb" >/dev/null

step "the page, what is linked in, and digests"
install -m 0644 sdk/page/obscura.html "$out/obscura.html"
scripts/sbom.py --no-default-features --features docs,download >"$out/obscura.cdx.json"
(cd "$out" && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)
[ -z "$given" ] || echo "NOT A RELEASE: packed from $given"
