#!/usr/bin/env python3
"""Gives a guest ACPI tables with bytecode that reaches for memory, and looks at what it got.

    scripts/guest_aml.py --root DEBIAN --image DIR --probes FILE [--unguarded]

DEBIAN and DIR are as for `scripts/guest_trial.py`, FILE what `scripts/guest_kernel.sh` compiled from
`scripts/guest_aml.asl`. Our kernel refuses all of it but a device, and the node becomes ready all the same. With
`--unguarded` the kernel is one without our patch, and the memory must be reached: or the probes would show nothing.
"""

import argparse
import pathlib
import sys

from guest_trial import Guest, check, failures, ready

# By the letter that each tells on the port.
PROBES = {"A": "RAM", "B": "the first mebibyte", "C": "what lies across the end of memory", "D": "a table's data",
          "F": "the kernel's own addresses"}
DEVICE = "E"
# What the probe of RAM changes, and reads back; and the address that the last probe goes to.
WRITTEN = 0x4F425343
# The compiler does not write down a region of the space that a table's data has.
SPACE_AS_COMPILED, SPACE = b"\x5b\x80MEM_\xee", b"\x5b\x80MEM_\x7e"


def table(compiled):
    if compiled.count(SPACE_AS_COMPILED) != 1:
        raise SystemExit("these are not the probes: where is the region of space 0xEE?")
    probes = bytearray(compiled.replace(SPACE_AS_COMPILED, SPACE))
    probes[9] = 0
    probes[9] = -sum(probes) % 256
    return bytes(probes)


class Probed(Guest):
    """A boot with the table, and the port that it tells at."""

    def __init__(self, root, image, probes):
        super().__init__(root, image)
        (self.work / "probes.aml").write_bytes(probes)

    def machine(self):
        return [*super().machine(), "-acpitable", "file=/guest-boot/probes.aml",
                "-chardev", "file,id=told,path=/guest-boot/told", "-device", "isa-debugcon,iobase=0x5f0,chardev=told"]

    def told(self):
        """The probes that began, and what those found that were let."""
        told = (self.work / "told").read_bytes()
        began, found = [], {}
        while told:
            letter, mark = chr(told[0]), told[1:2]
            if mark == b"?":
                began.append(letter)
            found.update({letter: int.from_bytes(told[2:10], "little")} if mark == b"=" else {})
            told = told[2:] if mark == b"?" else told[10:]
        return began, found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("root", "image", "probes"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--unguarded", action="store_true")
    given = parser.parse_args()
    with Probed(given.root, given.image, table(given.probes.read_bytes())) as guest:
        up = guest.wait_until(ready)
        serial = guest.serial()
        began, found = guest.told()
    print(f"        told: began {''.join(began)}, found {({letter: hex(value) for letter, value in found.items()})}")
    check("every probe began", began == sorted([*PROBES, DEVICE]), began)
    check("a device is reached", found.get(DEVICE, 0) != 0, found)
    if given.unguarded:
        for letter in "ABD":
            check(f"without our patch, it reaches {PROBES[letter]}", letter in found, serial[-1500:])
        check("what it wrote to RAM is there", found.get("A") == WRITTEN, found)
        check("and it leads the kernel to any address", f"CR2: {WRITTEN:016x}" in serial and not up, serial[-1500:])
    else:
        for letter, what in PROBES.items():
            check(f"it does not reach {what}", letter not in found, found)
        check("the kernel says so", "ACPI: refused: 4 bytes of memory at 0x10000000" in serial, serial[-1500:])
        check("the node is ready all the same", up, serial[-1500:])
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
