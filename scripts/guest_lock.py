#!/usr/bin/env python3
"""The inputs of the guest's image, by name, version and SHA-256.

    scripts/guest_lock.py write ROOT RUST > attestation/image/lock.toml
    scripts/guest_lock.py check ROOT RUST          exit code 1, and a line for each input that differs

ROOT is the root of Debian's packages that `scripts/guest.sh` makes, with apt's lists; RUST the compiler's own
directory (`rustc --print sysroot`). A package's digest is that of its file, as Debian's signed list names it.
"""

import hashlib
import pathlib
import subprocess
import sys
import tomllib

LOCK = pathlib.Path(__file__).parent.parent / "attestation/image/lock.toml"
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
    yield ("rust", *compiler(rust))


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("write", "check"):
        raise SystemExit(__doc__)
    found = sorted(inputs(sys.argv[2], sys.argv[3]))
    if sys.argv[1] == "write":
        print("# Inputs of the guest's image beside this repository and what Cargo.lock names: every package of the root")
        print("# that builds and tries it (Debian trixie with backports, amd64), and the compiler. The kernel and the")
        print("# firmware are among them. Name, version, SHA-256. Written by scripts/guest_lock.py.")
        print("inputs = [")
        for name, version, sha256 in found:
            print(f'  ["{name}", "{version}", "{sha256}"],')
        print("]")
        return
    locked = {name: (version, sha256) for name, version, sha256 in tomllib.loads(LOCK.read_text())["inputs"]}
    there = {name: (version, sha256) for name, version, sha256 in found}
    differs = [name for name in sorted(locked.keys() | there.keys()) if locked.get(name) != there.get(name)]
    for name in differs:
        want, have = (" ".join(one.get(name, ("missing",))) for one in (locked, there))
        print(f"{name}: locked {want}, here {have}")
    sys.exit(bool(differs))


if __name__ == "__main__":
    main()
