#!/usr/bin/env python3
"""Boots the guest's image in software, with a software TPM, and holds what it does against what it must do.

    scripts/guest_trial.py --root DEBIAN --trial DIR --release DIR --obscura PROGRAM [--short]

DEBIAN is a root with QEMU, OVMF and swtpm, made by `scripts/guest.sh`; both images lie inside it. `trial` has a
node with simulated evidence, and reports; `release` is configured as a release. Each check prints a line; the
exit code is 1 where one failed.
"""

import argparse
import hashlib
import http.client
import json
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import time

KEY = "guest-trial-key"
NODE_PORT = 8080
# What people leave open. Each is forwarded to the guest; the guest's own tables of sockets name all the others.
SCANNED = [21, 22, 23, 25, 53, 80, 111, 443, 2375, 3306, 5900, 6443, 8000, 8081, 8443, 9090, 9100, 10250]
DIGEST_BYTES = {4: 20, 0xB: 32, 0xC: 48, 0xD: 64}
BOOT_SECS = 300
# Where OVMF puts BARs of 64 bits on this machine (`scripts/acpi_tables.py` says why that matters).
MMIO64 = 0xC000000000
SETTINGS = f'queue_capacity = 4\napi_keys_sha256 = ["{hashlib.sha256(KEY.encode()).hexdigest()}"]\n'

failures = []


def check(name, holds, found=""):
    print(f"{'ok    ' if holds else 'FAILED'}  {name}{f': {found}' if found and not holds else ''}", flush=True)
    if not holds:
        failures.append(name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def settings_disk(text):
    framed = f"obscura/settings/v1 {len(text)}\n{text}".encode()
    return framed + bytes(-len(framed) % 4096)


class Guest:
    """One boot, inside the root that has QEMU."""

    def __init__(self, root, image, settings=SETTINGS, scan=False):
        self.root, self.image = root, image
        self.work = root / "guest-boot"
        shutil.rmtree(self.work, ignore_errors=True)
        (self.work / "tpm").mkdir(parents=True)
        (self.work / "settings.img").write_bytes(settings_disk(settings))
        shutil.copyfile(root / "usr/share/OVMF/OVMF_VARS_4M.fd", self.work / "vars.fd")
        self.port = free_port()
        self.scanned = {port: free_port() for port in SCANNED} if scan else {}
        self.processes = []

    def __enter__(self):
        subprocess.run(
            ["chroot", self.root, "swtpm_setup", "--tpm2", "--tpmstate", "/guest-boot/tpm", "--pcr-banks", "sha384"],
            check=True, stdout=subprocess.DEVNULL,
        )
        self.start_tpm()
        self.started = time.monotonic()
        self.qemu = self.spawn("qemu-system-x86_64", "-accel", "tcg,thread=multi", *self.machine())
        return self

    def start_tpm(self):
        """One for one run of QEMU: it ends when that hangs up."""
        there = self.work / "tpm/socket"
        there.unlink(missing_ok=True)
        self.spawn("swtpm", "socket", "--tpm2", "--tpmstate", "dir=/guest-boot/tpm", "--ctrl",
                   "type=unixio,path=/guest-boot/tpm/socket", "--flags", "startup-clear", "--terminate")
        while not there.exists():
            time.sleep(0.05)

    def machine(self):
        image = "/" + str(self.image.relative_to(self.root))
        forwards = {NODE_PORT: self.port, **self.scanned}
        forwards = ",".join(f"hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in forwards.items())
        disk = lambda name, path: (
            "-drive", f"if=none,id={name},format=raw,readonly=on,file={path}",
            "-device", f"virtio-blk-pci,drive={name},serial=obscura-{name}",
        )
        return [
            "-machine", "q35,smm=off", "-cpu", "max", "-m", "2048", "-smp", "2", "-nodefaults", "-no-reboot",
            "-display", "none", "-serial", "file:/guest-boot/serial",
            "-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
            "-drive", "if=pflash,format=raw,unit=1,file=/guest-boot/vars.fd",
            "-chardev", "socket,id=tpm,path=/guest-boot/tpm/socket", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
            "-device", "tpm-crb,tpmdev=tpm0",
            "-netdev", f"user,id=net,restrict=on,{forwards}", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-device", "virtio-rng-pci", *disk("root", f"{image}/root.img"), *disk("settings", "/guest-boot/settings.img"),
            *self.boot(),
        ]

    def boot(self):
        image = "/" + str(self.image.relative_to(self.root))
        return ["-kernel", f"{image}/vmlinuz", "-initrd", f"{image}/initrd",
                "-append", (self.image / "cmdline").read_text()]

    def spawn(self, *command):
        process = subprocess.Popen(["chroot", self.root, *command])
        self.processes.append(process)
        return process

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def read_acpi(self, machine, *options):
        """The ACPI blobs of a machine, by `scripts/acpi_tables.py`: a folder of them."""
        shutil.copy(pathlib.Path(__file__).with_name("acpi_tables.py"), self.work)
        command = ["python3", "/guest-boot/acpi_tables.py", *options, "/guest-boot/acpi", "qemu-system-x86_64", *machine]
        subprocess.run(["chroot", self.root, *command], check=True)
        return self.work / "acpi"

    def acpi_digests(self):
        """SHA-384 of each blob of this machine, once the guest has ended."""
        self.start_tpm()
        try:
            blobs = self.read_acpi(self.machine(), "--mmio64", hex(MMIO64))
        finally:
            self.__exit__()
        return {blob.name: hashlib.sha384(blob.read_bytes()).hexdigest() for blob in blobs.iterdir()}

    def serial(self):
        path = self.work / "serial"
        return path.read_bytes().replace(b"\r", b"").decode(errors="replace") if path.exists() else ""

    def wait_until(self, reached, secs=BOOT_SECS):
        """Whether that came to be while the guest ran."""
        while time.monotonic() - self.started < secs:
            ended = self.qemu.poll() is not None
            if reached(self):
                return True
            if ended:
                return False
            time.sleep(0.5)
        return False

    def ask(self, method, path, body=None, headers=None):
        """The status of an answer; 0 where there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            return connection.getresponse().status
        except OSError:
            return 0
        except http.client.HTTPException:
            return 0
        finally:
            connection.close()

    def report(self):
        lines = [line.partition("guest-init: ")[2] for line in self.serial().splitlines() if "guest-init: " in line]
        begin, end = lines.index("BEGIN REPORT"), lines.index("END REPORT")
        return lines[begin + 1 : end]


def ended(guest):
    return guest.qemu.poll() is not None


def ready(guest):
    return guest.ask("GET", "/readyz") == 200


def closed(port):
    """Whether nothing is behind a forwarded port: QEMU takes the connection, and drops it when the guest refuses."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.settimeout(5)
        try:
            return connection.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


def whole_trial(given):
    with Guest(given.root, given.trial, scan=True) as guest:
        up = guest.wait_until(ready)
        check("the node in the guest is ready", up, guest.serial()[-1500:])
        if not up:
            return None
        print(f"        after {time.monotonic() - guest.started:.0f} s, without any acceleration", flush=True)
        serves(given, guest)
        check("the guest reports", guest.wait_until(lambda guest: "END REPORT" in guest.serial()))
        for port, here in guest.scanned.items():
            if not closed(here):
                check(f"nothing listens on port {port}", False)
        check(f"of {len(guest.scanned)} ports that people leave open, none is", not failures)
        report = guest.report()
        alone(report)
    return measured(given, report, guest.acpi_digests())


def serves(given, guest):
    url = f"http://127.0.0.1:{guest.port}"
    verified = subprocess.run([given.obscura, "verify", url, "--accept-simulated"], capture_output=True, text=True)
    check("evidence is accepted as simulated", verified.returncode == 0 and "SIMULATED" in verified.stdout,
          verified.stdout + verified.stderr)
    refused = subprocess.run([given.obscura, "verify", url], capture_output=True, text=True)
    check("and refused by the production policy", refused.returncode == 10, refused.stdout + refused.stderr)
    bearer = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    status = guest.ask("POST", "/v1/images/generations", '{"prompt": "a star"}', bearer)
    check("the route for clear text is not there", status == 404, status)
    status = guest.ask("GET", "/v1/models")
    check("without a key nobody is served", status == 401, status)
    out = guest.work / "image.png"
    command = [given.obscura, "generate", "a star", "--node", url, "--accept-simulated", "--api-key", KEY,
               "--size", "16x16", "--steps", "1", "--output", str(out)]
    drawn = subprocess.run(command, capture_output=True, text=True)
    check("a sealed request brings an image", drawn.returncode == 0 and out.read_bytes()[:4] == b"\x89PNG",
          drawn.stderr)


def alone(report):
    """The guest's own tables: processes, and sockets."""
    processes = [line.split() for line in report if line.startswith("PROCESS ")]
    fields = [(p[2], *(field.partition(":")[2] for field in p[3:])) for p in processes]
    zeros = "0" * 16
    node = ("obscura", "65532", "65532", zeros, zeros, "1", "2")
    check("two processes run: the first, and the node", len(fields) == 2 and fields[0][:3] == ("init", "0", "0"),
          processes)
    check("the node is nobody, has no capability, can gain none, and is in its sandbox", fields[-1] == node, fields[-1:])
    listening = [line for line in report if re.match(r"SOCKET tcp6? +\d+: \S+ \S+ 0A ", line)]
    check("one socket listens, the node's", len(listening) == 1 and f":{NODE_PORT:04X} " in listening[0], listening)
    others = [line for line in report if re.match(r"SOCKET (udp|raw|packet)", line)]
    check("no socket takes packets", not others, others)


def events(log):
    """(register, SHA-384) of each event of a TPM's log (TCG PC Client Platform Firmware Profile, crypto agile)."""
    at = 32 + struct.unpack_from("<I", log, 28)[0]
    while at + 12 <= len(log):
        register, _, count = struct.unpack_from("<III", log, at)
        at += 12
        for _ in range(count):
            kind = struct.unpack_from("<H", log, at)[0]
            if kind == 0xC:
                yield register, log[at + 2 : at + 50]
            at += 2 + DIGEST_BYTES[kind]
        at += 4 + struct.unpack_from("<I", log, at)[0]


def replayed(digests):
    register = bytes(48)
    for digest in digests:
        register = hashlib.sha384(register + digest).digest()
    return register.hex()


def compute(given, image):
    command = [given.obscura, "measure", "--name", "trial", "--kernel", image / "vmlinuz", "--initrd", image / "initrd",
               "--cmdline-file", image / "cmdline", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def measured(given, report, acpi):
    """What `obscura measure` computed from the files, against the firmware's log and the TPM's registers."""
    computed = compute(given, given.trial)
    registers = dict(line.split()[1:] for line in report if line.startswith("PCR "))
    log = list(events(bytes.fromhex("".join(line[4:] for line in report if line.startswith("LOG ")))))
    digests = {digest.hex() for _, digest in log}
    missing = [event["what"] for event in computed["events"] if event["register"] in (1, 2) and event["digest"] not in digests]
    check("every computed event of the image is in the firmware's log", not missing, missing)
    missing = [name for name, digest in acpi.items() if digest not in digests]
    check("and every ACPI blob of the machine, as read out of QEMU without a guest", len(acpi) == 3 and not missing,
          missing or acpi)
    known = {event["digest"] for event in computed["events"]}
    of = lambda register: [digest for index, digest in log if index == register]
    for register in (4, 9):
        check(f"TPM register {register} is its log's, and holds nothing that was not computed",
              replayed(of(register)) == registers[str(register)] and all(d.hex() in known for d in of(register)))
    check("TPM register 9 is RTMR2 as computed", computed["tdx"]["rtmr2"] == registers["9"])
    return registers


def flipped_bit(given):
    """One bit of the root file system."""
    other = variant(given.trial, "flipped")
    content = bytearray((other / "root.img").read_bytes())
    content[1024 + 512] ^= 1
    (other / "root.img").write_bytes(content)
    with Guest(given.root, other) as guest:
        check("a flipped bit in the root ends the guest", guest.wait_until(ended), guest.serial()[-500:])
        said = guest.serial()
        check("by the verity tree", "verity" in said and "starting the node" not in said, said[-500:])


def other_inputs(given, registers):
    """Another initrd and another command line: the guest runs, and its registers show both."""
    other = variant(given.trial, "other")
    initrd = (other / "initrd").read_bytes()
    (other / "initrd").write_bytes(initrd + bytes(512))
    (other / "cmdline").write_text((other / "cmdline").read_text() + " single")
    with Guest(given.root, other) as guest:
        if not guest.wait_until(lambda guest: "END REPORT" in guest.serial()):
            return check("another initrd and command line boot", False, guest.serial()[-500:])
        report = guest.report()
    log = list(events(bytes.fromhex("".join(line[4:] for line in report if line.startswith("LOG ")))))
    logged = {digest.hex() for index, digest in log if index == 9}
    changed = dict(line.split()[1:] for line in report if line.startswith("PCR "))
    trusted, there = compute(given, given.trial), compute(given, other)
    for event, new in zip(trusted["events"], there["events"]):
        if event["register"] == 2:
            check(f"another input is another event ({event['what']})",
                  event["digest"] not in logged and new["digest"] in logged)
    check("and another register", changed["9"] != registers["9"] and changed["9"] == there["tdx"]["rtmr2"])
    check("the kernel is the same one", changed["4"] == registers["4"])


def refusals(given):
    with Guest(given.root, given.release) as guest:
        check("a release without a TEE powers off", guest.wait_until(ended), guest.serial()[-500:])
        said = guest.serial()
        check("and says why", "no TEE found" in said and "guest-init: power off" in said, said[-500:])
    for text, word in [("allow_plaintext = true\n", "decided by the measured image"),
                       ("no_such = 1\n", "no such setting")]:
        with Guest(given.root, given.trial, settings=SETTINGS + text) as guest:
            powered_off = guest.wait_until(ended)
            said = guest.serial()
            check(f"the setting `{text.strip()}` powers off", powered_off and "starting the node" not in said, said[-500:])
            check("and says why", f"settings, line 3: " in said and word in said, said[-500:])
        if given.short:
            break


def variant(image, name):
    other = image.with_name(f"{image.name}-{name}")
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(image, other)
    return other


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("root", "trial", "release", "obscura"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--short", action="store_true", help="without the boot of another initrd and command line")
    given = parser.parse_args()
    registers = whole_trial(given)
    flipped_bit(given)
    refusals(given)
    if registers and not given.short:
        other_inputs(given, registers)
    print(f"\n{len(failures)} checks failed" if failures else "\nall checks hold")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
