#!/usr/bin/env python3
"""The guest's image, from its parts, byte for byte the same each time.

    attestation/image/build.py OUT --program obscura --init guest-init --configuration node.toml
        --kernel vmlinuz [--modules lib/modules/VERSION] [--libraries DIR] [--report] [--mkfs mkfs.erofs]

OUT gets `root.img` (an erofs file system, and its verity tree behind it), `initrd`, `cmdline`, `vmlinuz`, and
`SHA256SUMS`. What a guest measures are the last four: the command line holds the tree's root.

A program for a release is static. `--libraries` puts the shared ones of a program that is not into the root, for
trials. `--report` makes the guest tell what runs and what was measured on its console, for trials too: it is a
word of the command line, so that the registers show it.
"""

import argparse
import hashlib
import lzma
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

BLOCK = 4096
DIGEST = 32
# In the order in which they need each other. What the kernel has built in is not looked for.
MODULES = [
    "lib/reed_solomon/reed_solomon", "drivers/block/virtio_blk", "drivers/md/dm-mod", "drivers/md/dm-bufio",
    "drivers/md/dm-verity", "fs/erofs/erofs", "net/core/failover", "drivers/net/net_failover",
    "drivers/net/virtio_net", "drivers/char/hw_random/virtio-rng", "fs/configfs/configfs",
    "drivers/virt/coco/guest/tsm_report", "drivers/virt/coco/tdx-guest/tdx-guest",
    "drivers/virt/coco/sev-guest/sev-guest",
]
# `panic` is what a flipped bit in the root leads to; `lockdown` closes what root could do to the kernel. A clock of
# the machine is not tried out at the start (`no_timer_check`): in a TEE the kernel leaves that out by itself, and
# without acceleration on a busy machine the trial fails.
KERNEL_WORDS = (
    "console=ttyS0 quiet panic=-1 oops=panic lockdown=integrity module.sig_enforce=1 init_on_alloc=1 "
    "random.trust_cpu=on no_timer_check rdinit=/init"
)
DIRECTORIES = ["dev", "etc", "etc/obscura", "model", "proc", "run", "sys", "tmp", "usr", "usr/bin"]
MAX_CMDLINE_BYTES = 2047


def interpreter(program):
    """What an ELF program needs to be started by; None where it is static."""
    head = program[:64]
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        raise SystemExit("the program is no 64-bit ELF file")
    at, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
    for index in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", program, at + index * size)
        if kind == 3:
            return program[offset : offset + length].rstrip(b"\0").decode()
    return None


def make_root(folder, given):
    """The tree that becomes the root: one program, one file."""
    for name in DIRECTORIES:
        (folder / name).mkdir()
    program = given.program.read_bytes()
    install(folder / "usr/bin/obscura", program, 0o755)
    install(folder / "etc/obscura/node.toml", given.configuration.read_bytes(), 0o644)
    loader = interpreter(program)
    if loader and not given.libraries:
        raise SystemExit(f"{given.program} is not static: it asks for {loader}")
    if loader:
        target = folder / loader.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        libraries = folder / "lib/x86_64-linux-gnu"
        libraries.mkdir(parents=True, exist_ok=True)
        for library in sorted(given.libraries.iterdir()):
            install(libraries / library.name, library.read_bytes(), 0o755)
        install(target, (given.libraries / target.name).read_bytes(), 0o755)


def install(path, content, mode):
    path.write_bytes(content)
    path.chmod(mode)


def make_erofs(mkfs, folder, image):
    """Fixed identity, times, owners and order; compressed in one way."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    folder.chmod(0o755)
    subprocess.run(
        [*mkfs.split(), "-zlz4hc,12", "-C65536", "-T0", "-U00000000-0000-0000-0000-000000000000", "--all-root",
         str(image), str(folder)],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, "SOURCE_DATE_EPOCH": "0", "LC_ALL": "C"},
    )


def add_tree(image):
    """Appends the verity tree (format 1, no superblock), and gives what names it."""
    data = image.read_bytes()
    data += bytes(-len(data) % BLOCK)
    blocks = len(data) // BLOCK
    # A salt that follows from the content: nothing to choose.
    salt = hashlib.sha256(data).digest()
    levels, level = [], data
    while len(level) > BLOCK or not levels:
        digests = b"".join(
            hashlib.sha256(salt + level[at : at + BLOCK]).digest() for at in range(0, len(level), BLOCK)
        )
        level = digests + bytes(-len(digests) % BLOCK)
        levels.append(level)
    root = hashlib.sha256(salt + level).hexdigest()
    # The kernel looks for the top level first.
    image.write_bytes(data + b"".join(reversed(levels)))
    return f"{blocks}:{blocks}:{salt.hex()}:{root}"


def cpio(entries):
    """An archive of «newc» form, which no clock, owner or inode of this machine gets into."""
    archive = bytearray()
    for inode, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        encoded = name.encode() + b"\0"
        fields = [inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        archive += bytes(-len(archive) % 4)
        archive += content + bytes(-len(content) % 4)
    return bytes(archive) + bytes(-len(archive) % 512)


def make_initrd(given):
    if interpreter(given.init.read_bytes()):
        raise SystemExit(f"{given.init} is not static: nothing lies beside it")
    entries = [(name, 0o040755, b"") for name in ("dev", "modules", "proc", "root", "sys")]
    entries.append(("init", 0o100755, given.init.read_bytes()))
    for index, module in enumerate(MODULES if given.modules else [], 10):
        found = [path for end in ("", ".xz") if (path := given.modules / f"kernel/{module}.ko{end}").exists()]
        if found:
            content = found[0].read_bytes()
            content = lzma.decompress(content) if found[0].suffix == ".xz" else content
            entries.append((f"modules/{index}-{pathlib.Path(module).name}.ko", 0o100644, content))
    return cpio(entries)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    for name in ("program", "init", "configuration", "kernel"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--modules", type=pathlib.Path)
    parser.add_argument("--libraries", type=pathlib.Path)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--mkfs", default="mkfs.erofs")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    image = given.out / "root.img"
    image.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "root"
        folder.mkdir()
        make_root(folder, given)
        make_erofs(given.mkfs, folder, image)
    tree = add_tree(image)
    line = f"{KERNEL_WORDS} obscura.root={tree}{' obscura.report' if given.report else ''}"
    if len(line) > MAX_CMDLINE_BYTES:
        raise SystemExit("the command line is longer than the kernel reads")
    (given.out / "cmdline").write_text(line)
    (given.out / "initrd").write_bytes(make_initrd(given))
    shutil.copyfile(given.kernel, given.out / "vmlinuz")
    names = ("root.img", "initrd", "cmdline", "vmlinuz")
    sums = "".join(f"{hashlib.sha256((given.out / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    (given.out / "SHA256SUMS").write_text(sums)
    sys.stdout.write(sums)


if __name__ == "__main__":
    main()
