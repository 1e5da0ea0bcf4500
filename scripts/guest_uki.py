#!/usr/bin/env python3
"""Boots the guest's one file for a cloud's boot loader (UKI) in software, and holds what was measured against it.

    scripts/guest_uki.py --root DEBIAN --image DIR --uki FILE --obscura PROGRAM

DEBIAN and DIR are as for `scripts/guest_trial.py`: FILE was made of that image's kernel, initrd and command line, and
lies in the root too. The firmware starts it from a disk; its first part, systemd's stub, measures each of its sections
into TPM register 11 and starts the kernel.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import struct
import subprocess
import sys

from guest_trial import Guest, check, events, failures, ready, replayed

# What the stub measures of a file, in its order (systemd, src/fundamental/uki.c, unified_sections).
MEASURED = [b".linux", b".osrel", b".cmdline", b".initrd", b".ucode", b".splash", b".dtb", b".uname", b".sbat"]


def sections(uki):
    """Name and content of each section of a PE file."""
    header = struct.unpack_from("<I", uki, 0x3C)[0]
    count, optional = struct.unpack_from("<H", uki, header + 6)[0], struct.unpack_from("<H", uki, header + 20)[0]
    for at in range(header + 24 + optional, header + 24 + optional + 40 * count, 40):
        name, size, _, stored, start = struct.unpack_from("<8sIIII", uki, at)
        yield name.rstrip(b"\0"), uki[start : start + min(size, stored)]


def section_events(uki):
    """SHA-384 of each name with its NUL, then of what the section holds."""
    there = dict(sections(uki))
    for name in MEASURED:
        if name in there:
            yield hashlib.sha384(name + b"\0").digest()
            yield hashlib.sha384(there[name]).digest()


class FromDisk(Guest):
    """A boot of one file on a disk, as a cloud's machine does it."""

    def __init__(self, root, image, uki):
        super().__init__(root, image)
        boot = self.work / "disk/EFI/BOOT"
        boot.mkdir(parents=True)
        shutil.copyfile(uki, boot / "BOOTX64.EFI")

    def boot(self):
        return ["-drive", "if=none,id=boot,format=raw,readonly=on,file=fat:/guest-boot/disk",
                "-device", "virtio-blk-pci,drive=boot,bootindex=1"]


def kernel_digest(given, file):
    """The digest that firmware takes of an EFI program."""
    command = [given.obscura, "measure", "--name", "uki", "--kernel", file, "--initrd", given.image / "initrd",
               "--cmdline-file", given.image / "cmdline", "--json"]
    computed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return next(event["digest"] for event in computed["events"] if event["what"] == "kernel")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("root", "image", "uki", "obscura"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    given = parser.parse_args()
    with FromDisk(given.root, given.image, given.uki) as guest:
        up = guest.wait_until(ready) and guest.wait_until(lambda guest: "END REPORT" in guest.serial())
        check("the node is ready, started from one file", up, guest.serial()[-1500:])
        if not up:
            sys.exit(1)
        report = guest.report()
    registers = dict(line.split()[1:] for line in report if line.startswith("PCR "))
    log = list(events(bytes.fromhex("".join(line[4:] for line in report if line.startswith("LOG ")))))
    of = lambda *wanted: [digest for register, digest in log if register in wanted]

    predicted = list(section_events(given.uki.read_bytes()))
    check("TPM register 11 is what the file's sections predict", replayed(predicted) == registers["11"],
          f"{len(predicted)} events predicted, {len(of(11))} in the log")
    line = (given.image / "cmdline").read_text()
    kernels = [hashlib.sha384(content).digest() for content in
               ((line + "\0").encode("utf-16-le"), (given.image / "initrd").read_bytes())]
    check("TPM register 9 is its command line and initrd", replayed(kernels) == registers["9"],
          [digest.hex() for digest in of(9)])
    # On TDX registers 8 to 15 are one, RTMR2.
    check("of registers 8 to 15, nothing else was measured into", of(*range(8, 16)) == predicted + kernels,
          [(register, digest.hex()[:16]) for register, digest in log if register > 7])
    logged = {digest.hex() for digest in of(4)}
    for what, file in (("the file", given.uki), ("the kernel in it", given.image / "vmlinuz")):
        check(f"the firmware measured {what} as computed", kernel_digest(given, file) in logged)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
