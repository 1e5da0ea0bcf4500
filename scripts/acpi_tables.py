#!/usr/bin/env python3
"""The ACPI blobs of a machine, for `obscura measure --acpi`, out of QEMU itself: no guest runs.

    scripts/acpi_tables.py OUT qemu-system-x86_64 -machine q35 -m 64G -smp 16 ...

QEMU is started with `-accel qtest`, where this script is the processor. It sets the registers that OVMF sets
before it reads the tables, and copies three files from `fw_cfg` by its DMA interface (QEMU,
docs/specs/fw_cfg.rst). Give QEMU the very arguments of the guest, without `-accel`: number of vCPUs, memory and
devices are in the tables. OVMF's own place for 64-bit BARs is in them too: name it by `--mmio64 0x...` before
QEMU where it is not what the tables say.
"""

import argparse
import os
import socket
import struct
import subprocess
import tempfile

BLOBS = ["etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables"]
TIMEOUT_SECS = 30
MAX_BLOB_BYTES = 4 << 20
# fw_cfg: the selector of its directory; bits of a DMA command.
DIRECTORY, SELECT, READ = 0x19, 0x8, 0x2
# Where in the guest's memory commands and answers are put: below what any machine has.
COMMAND, ANSWER = 0x8100000, 0x8000000


class Processor:
    """QEMU's qtest protocol: a line a command, a line an answer."""

    def __init__(self, connection):
        self.lines = connection.makefile("rw")

    def ask(self, command):
        self.lines.write(command + "\n")
        self.lines.flush()
        while line := self.lines.readline():
            if line.startswith("OK"):
                return line.split()[1:]
            if line.startswith("FAIL"):
                raise SystemExit(f"QEMU refuses `{command}`: {line.strip()}")
        raise SystemExit(f"QEMU ended before it answered `{command}`")

    def select_pci(self, device, offset):
        self.ask(f"outl 0xcf8 {0x80000000 | device << 11 | offset & 0xFC:#x}")

    def write_pci(self, device, offset, value):
        self.select_pci(device, offset)
        self.ask(f"outl 0xcfc {value:#x}")

    def write_pci_byte(self, device, offset, value):
        self.select_pci(device, offset)
        self.ask(f"outb {0xCFC + (offset & 3):#x} {value:#x}")

    def read_pci(self, device, offset):
        self.select_pci(device, offset)
        return int(self.ask("inl 0xcfc")[0], 16)

    def firmware_file(self, selector, size):
        command = struct.pack(">IIQ", selector << 16 | SELECT | READ, size, ANSWER)
        self.ask(f"write {COMMAND:#x} {len(command)} 0x{command.hex()}")
        self.ask("outl 0x514 0")
        self.ask(f"outl 0x518 {int.from_bytes(struct.pack('>I', COMMAND), 'little'):#x}")
        return bytes.fromhex(self.ask(f"read {ANSWER:#x} {size}")[0][2:])

    def directory(self):
        count = struct.unpack(">I", self.firmware_file(DIRECTORY, 4))[0]
        entries = self.firmware_file(DIRECTORY, 4 + 64 * count)[4:]
        for at in range(0, 64 * count, 64):
            size, selector, name = struct.unpack_from(">IH2x56s", entries, at)
            yield name.rstrip(b"\0").decode(), selector, size


def as_ovmf(processor, mmio64):
    """What OVMF writes before it asks for the tables: PCIEXBAR, PMBASE, ACPI enabled; then its first BAR."""
    processor.write_pci(0, 0x64, 0)
    processor.write_pci(0, 0x60, 0xE0000001)
    processor.write_pci(0x1F, 0x40, 0x600)
    processor.write_pci_byte(0x1F, 0x44, 0x80)
    if not mmio64:
        return
    for device in range(32):
        if processor.read_pci(device, 0) & 0xFFFF == 0xFFFF:
            continue
        for bar in range(0x10, 0x28, 4):
            # 64 bits, prefetchable memory.
            if processor.read_pci(device, bar) & 0xF == 0xC:
                processor.write_pci(device, bar, mmio64 & 0xFFFFFFFF)
                processor.write_pci(device, bar + 4, mmio64 >> 32)
                processor.write_pci(device, 4, processor.read_pci(device, 4) | 2)
                return


def accepted(server, machine):
    for _ in range(TIMEOUT_SECS):
        try:
            return server.accept()[0]
        except TimeoutError:
            if machine.poll() is not None:
                break
    raise SystemExit("QEMU does not connect: does it start with these arguments?")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmio64", type=lambda text: int(text, 0), default=0)
    parser.add_argument("out")
    parser.add_argument("qemu")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    os.makedirs(given.out, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = os.path.join(folder, "qtest")
        server.bind(path)
        server.listen(1)
        server.settimeout(1)
        qtest = ["-accel", "qtest", "-qtest", f"unix:{path}", "-qtest-log", "/dev/null", "-display", "none"]
        with subprocess.Popen([given.qemu, *qtest, *given.arguments]) as machine:
            try:
                processor = Processor(accepted(server, machine))
                as_ovmf(processor, given.mmio64)
                files = {name: (selector, size) for name, selector, size in processor.directory()}
                for name in BLOBS:
                    if name not in files:
                        raise SystemExit(f"this machine has no {name}: is it a q35 with ACPI?")
                    selector, size = files[name]
                    if size > MAX_BLOB_BYTES:
                        raise SystemExit(f"{name} is longer than {MAX_BLOB_BYTES} bytes")
                    with open(os.path.join(given.out, name.replace("/", "-")), "wb") as out:
                        out.write(processor.firmware_file(selector, size))
            finally:
                machine.kill()


if __name__ == "__main__":
    main()
