#!/usr/bin/env python3
"""Gives a guest ACPI tables of a hostile host, and looks at what they got.

    scripts/guest_aml.py --root DEBIAN --image DIR --probes FILE [--unguarded]

DEBIAN and DIR are as for `scripts/guest_trial.py`. The tables are QEMU's own with three changes: a table more, whose
bytecode reaches for memory (FILE, which `scripts/guest_kernel.sh` compiled from `scripts/guest_aml.asl`); registers of
events in RAM; a mailbox in RAM to wake processors by. Our kernel refuses all of it, and the node becomes ready.

With `--unguarded` the kernel is one without our patches, and must be reached: or the tables would show nothing.
"""

import argparse
import os
import pathlib
import socket
import struct
import sys

from guest_trial import Guest, check, failures, ready

# By the letter that each probe tells on the port.
PROBES = {"A": "RAM", "B": "the first mebibyte", "C": "what lies across the end of memory", "D": "a table's data",
          "F": "the kernel's own addresses", "G": "RAM under another address", "H": "RAM that a table calls registers",
          "I": "what wraps around"}
DEVICE, REGISTERS = "E", "H"
# What the probe of RAM changes, and reads back.
WRITTEN = 0x4F425343
# The compiler does not write down a region of the space that a table's data has.
SPACE_AS_COMPILED, SPACE = b"\x5b\x80MEM_\xee", b"\x5b\x80MEM_\x7e"
# Places in RAM: what FADT calls registers of events (status, then enable), and what MADT calls a mailbox.
EVENTS, MAILBOX = 0x10001000, 0x10002000
BLOBS = ["etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables"]
MAILBOX_SECS = 120


def probes(compiled):
    if compiled.count(SPACE_AS_COMPILED) != 1:
        raise SystemExit("these are not the probes: where is the region of space 0xEE?")
    table = bytearray(compiled.replace(SPACE_AS_COMPILED, SPACE))
    table[9] = 0
    table[9] = -sum(table) % 256
    return bytes(table)


def hostile(tables, mailbox):
    """QEMU's tables, changed. The firmware writes their checksums."""
    tables = bytearray(tables)
    table = lambda signature: next(at for at in range(len(tables)) if tables[at:].startswith(signature)
                                   and tables[at + 10 : at + 16] == b"BOCHS ")
    # Numbers of 64 bits, in every table's bytecode.
    tables[table(b"DSDT") + 8] = 2
    fadt = table(b"FACP")
    tables[fadt + 93 : fadt + 95] = bytes([2, 0x80])
    struct.pack_into("<BBBBQ", tables, fadt + 232, 0, 16, 0, 1, EVENTS)
    if mailbox:
        # In the place of the last two of four processors.
        last = table(b"APIC") + 44 + 2 * 8
        if tables[last : last + 2] != b"\0\x08":
            raise SystemExit("QEMU's table of processors is not as it was")
        struct.pack_into("<BBHIQ", tables, last, 0x10, 16, 0, 0, MAILBOX)
    return bytes(tables)


class Probed(Guest):
    """A boot with such tables, and the port that the bytecode tells at."""

    def __init__(self, given, mailbox):
        super().__init__(given.root, given.image)
        (self.work / "probes.aml").write_bytes(probes(given.probes.read_bytes()))
        tables = self.read_acpi([*self.alone(), "-acpitable", "file=/guest-boot/probes.aml"]) / "etc-acpi-tables"
        tables.write_bytes(hostile(tables.read_bytes(), mailbox))

    def alone(self):
        """The machine, with four processors and without a TPM."""
        arguments = super().machine()
        arguments[arguments.index("-smp") + 1] = "4"
        pairs = list(zip(arguments[::2], arguments[1::2]))
        return [part for pair in pairs if "tpm" not in pair[1] for part in pair]

    def machine(self):
        arguments = self.alone()
        arguments[1] += ",acpi=off"
        for blob in BLOBS:
            arguments += ["-fw_cfg", f"name={blob},file=/guest-boot/acpi/{blob.replace('/', '-')}"]
        return [*arguments, "-monitor", "unix:/guest-boot/monitor,server,nowait",
                "-chardev", "file,id=told,path=/guest-boot/told", "-device", "isa-debugcon,iobase=0x5f0,chardev=told"]

    def told(self):
        """The probes that began, and what those found that were let."""
        told = (self.work / "told").read_bytes()
        began, found = "", {}
        while told:
            letter, mark = chr(told[0]), told[1:2]
            if mark == b"?":
                began += letter
            else:
                found[letter] = int.from_bytes(told[2:10], "little")
            told = told[2:] if mark == b"?" else told[10:]
        return began, found

    def memory(self, address):
        """Four bytes of the guest's memory, as its host sees them. Nothing is there before the machine is."""
        if not (self.work / "monitor").exists():
            return 0
        folder = os.open(self.work, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(f"/proc/self/fd/{folder}/monitor")
            monitor.settimeout(10)
            said = b""
            while said.count(b"(qemu)") < 1:
                said += monitor.recv(4096)
            monitor.sendall(f"xp /1wx {address:#x}\n".encode())
            while said.count(b"(qemu)") < 2:
                said += monitor.recv(4096)
        os.close(folder)
        return int(said.split(b": 0x")[1][:8], 16)


def guarded(given):
    with Probed(given, mailbox=True) as guest:
        up = guest.wait_until(ready)
        serial = guest.serial()
        began, found = guest.told()
        show(began, found)
        for letter, what in PROBES.items():
            check(f"it does not reach {what}", letter in began and letter not in found, found)
        check("but a device", found.get(DEVICE, 0) != 0, found)
        # Each before it is mapped, which would fail for some of them.
        for where in (0x10000000, 0x1000, 0x7FFFFFFE, 0x8000010000000, 0xFFFFFFFFFFFFFFFC, EVENTS):
            check(f"the kernel refuses {where:#x}", f"bytes of memory at {where:#x}," in serial, serial[-1500:])
        check("and a mailbox in RAM", f"refused: a mailbox at {MAILBOX:#x}" in serial and guest.memory(MAILBOX) == 0)
        check("the node is ready all the same", up, serial[-1500:])


def unguarded(given):
    with Probed(given, mailbox=False) as guest:
        guest.wait_until(ready)
        began, found = guest.told()
        show(began, found)
        for letter in "ABDEF":
            check(f"without our patches, it reaches {PROBES.get(letter, 'a device')}", letter in found, found)
        check("what it wrote to RAM is there", found.get("A") == WRITTEN, found)
        check("the kernel wrote to RAM for a table", found.get(REGISTERS) == 0xFF, found)
    with Probed(given, mailbox=True) as guest:
        wrote = guest.wait_until(lambda guest: guest.memory(MAILBOX) != 0, MAILBOX_SECS)
        check("and to a mailbox there", wrote)


def show(began, found):
    print(f"        began {began}, found {', '.join(f'{letter} {value:#x}' for letter, value in found.items())}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("root", "image", "probes"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--unguarded", action="store_true")
    given = parser.parse_args()
    (unguarded if given.unguarded else guarded)(given)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
