#!/usr/bin/env python3
"""What the guest is made with, by name, version and SHA-256.

    scripts/guest_lock.py write ROOT [RUST] > LOCK
    scripts/guest_lock.py check LOCK ROOT [RUST]   exit code 1, and a line for each input that differs

ROOT is a root of Debian's packages with apt's lists, as `scripts/guest.sh` (LOCK: attestation/image/lock.toml) and
`scripts/guest_builder.sh` (attestation/image/builder.toml) make them; RUST the compiler's own directory (`rustc --print
sysroot`), for the first of them. A package's digest is that of its file, as Debian's signed list names it.
"""

import hashlib
import pathlib
import subprocess
import sys
import tomllib

# What of the compiler makes code: its program, its libraries, the standard library.
RUST = ["bin/rustc", "bin/cargo", "lib/*.so", "lib/rustlib/x86_64-unknown-linux-gnu/lib/*"]


def installed(root):
    form = "${Package} ${Architecture} ${Version}\n"
    text = subprocess.run(["chroot", root, "dpkg-query", "-W", "-f", form], check=True, capture_output=True, text=True)
    return [tuple(line.split()) for line in text.stdout.splitlines()]


def offered(root):
    """SHA-256 of each package's file, by name, architecture and version."""
    found = {}
    for lists in sorted((pathlib.Path(root) / "var/lib/apt/lists").glob("*_Packages")):
        for paragraph in lists.read_text().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if line[:1].isalpha() and ": " in line)
            if "SHA256" in fields:
                found[fields["Package"], fields["Architecture"], fields["Version"]] = fields["SHA256"]
    return found


def compiler(rust):
    digest = hashlib.sha256()
    for pattern in RUST:
        for path in sorted(pathlib.Path(rust).glob(pattern)):
            if path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{content}  {path.relative_to(rust)}\n".encode())
    version = subprocess.run([f"{rust}/bin/rustc", "--version"], check=True, capture_output=True, text=True)
    return version.stdout.strip(), digest.hexdigest()


def inputs(root, rust):
    digests = offered(root)
    for package in installed(root):
        yield package[0], package[2], digests.get(package, "not offered any more")
    if rust:
        yield ("rust", *compiler(rust))


def main():
    action, *paths = sys.argv[1:] or [None]
    if action == "write" and len(paths) in (1, 2):
        return write(*paths)
    if action == "check" and len(paths) in (2, 3):
        return check(*paths)
    raise SystemExit(__doc__)


def write(root, rust=None):
    print("# Every package of a root (Debian trixie with backports, amd64), and the compiler where one is brought along:")
    print("# name, version, SHA-256. Written by scripts/guest_lock.py.")
    print("inputs = [")
    for name, version, sha256 in sorted(inputs(root, rust)):
        print(f'  ["{name}", "{version}", "{sha256}"],')
    print("]")


def check(lock, root, rust=None):
    locked = {name: (version, sha256) for name, version, sha256 in tomllib.loads(pathlib.Path(lock).read_text())["inputs"]}
    there = {name: (version, sha256) for name, version, sha256 in inputs(root, rust)}
    differs = [name for name in sorted(locked.keys() | there.keys()) if locked.get(name) != there.get(name)]
    for name in differs:
        want, have = (" ".join(one.get(name, ("missing",))) for one in (locked, there))
        print(f"{name}: locked {want}, here {have}")
    sys.exit(bool(differs))


if __name__ == "__main__":
    main()
