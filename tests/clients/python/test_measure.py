"""`obscura measure` against others' and another implementation.

SNP: PyPI sev-snp-measure, over a firmware's tail that the `sev` crate publishes. TDX: the few lines of
Python below, written from the specifications; there is no package that computes these registers.
"""

import hashlib
import json
import os
import pathlib
import struct
import subprocess
import uuid

import pytest
from sevsnpmeasure import guest, vcpu_types, vmm_types

FIXTURES = pathlib.Path(os.environ["OBSCURA_FIXTURES"]) / "attestation" / "guest"
LINE = "console=ttyS0 obscura.verity=1:2:3:4"
PAGE = 4096


def sha384(data):
    return hashlib.sha384(data).digest()


def chain(*digests):
    register = bytes(48)
    for digest in digests:
        register = sha384(register + digest)
    return register.hex()


def guid(text):
    return uuid.UUID(text).bytes_le


# data offset, raw size, address, size, kind, attributes: code, variables, TD HOB, memory
SECTIONS = [
    (0x8000, 0x8000, 0xFFFF8000, 0x8000, 0, 1),
    (0, 0x8000, 0xFFFF0000, 0x8000, 1, 0),
    (0, 0, 0x809000, 0x2000, 2, 0),
    (0, 0, 0x800000, 0x6000, 3, 0),
    (0, 0, 0x810000, 0x10000, 3, 0),
]


def tdx_firmware():
    image = bytearray(b"\xff" * 0x8000 + bytes(i * 7 % 251 for i in range(0x8000, 0x10000)))
    metadata = b"TDVF" + struct.pack("<III", 16 + 32 * len(SECTIONS), 1, len(SECTIONS))
    metadata += b"".join(struct.pack("<IIQQII", *section) for section in SECTIONS)
    image[-0x400 : -0x400 + len(metadata)] = metadata
    entry = struct.pack("<IH", 0x400, 22) + guid("e47a6535-984a-4798-865e-4685a7bf8ec2")
    table = entry + struct.pack("<H", len(entry) + 18) + guid("96b582de-1fb2-45f7-baea-a366c55a082d")
    image[-32 - len(table) : -32] = table
    return bytes(image)


def mrtd(image):
    digest = hashlib.sha384()
    for offset, raw, address, size, _, attributes in SECTIONS:
        data = image[offset : offset + raw].ljust(size, b"\0")
        for page in range(0, size, PAGE):
            digest.update(b"MEM.PAGE.ADD".ljust(16, b"\0") + struct.pack("<Q", address + page).ljust(112, b"\0"))
            for chunk in range(page, page + PAGE, 256) if attributes & 1 else []:
                digest.update(b"MR.EXTEND".ljust(16, b"\0") + struct.pack("<Q", address + chunk).ljust(112, b"\0"))
                digest.update(data[chunk : chunk + 256])
    return digest.hexdigest()


def memory_list(memory):
    resource = lambda kind, start, size: struct.pack("<HHI16sIIQQ", 3, 48, 0, bytes(16), kind, 7, start, size)
    low = 0x80000000 if memory >= 0xB0000000 else memory
    blocks = [
        resource(0, 0x800000, 0x6000),
        resource(7, 0x806000, 0x3000),
        resource(0, 0x809000, 0x2000),
        resource(7, 0x80B000, 0x5000),
        resource(0, 0x810000, 0x10000),
        resource(7, 0x820000, low - 0x820000),
    ]
    blocks.insert(0, resource(7, 0, 0x800000))
    if memory > low:
        blocks.append(resource(7, 1 << 32, memory - low))
    body = b"".join(blocks)
    return struct.pack("<HHIIIQQQQQ", 1, 56, 0, 9, 0, 0, 0, 0, 0, 0x809000 + 56 + len(body) + 8) + body


def variable(vendor, name):
    return guid(vendor) + struct.pack("<QQ", len(name), 0) + name.encode("utf-16-le")


GLOBAL, SECURITY = "8be4df61-93ca-11d2-aa0d-00e098032b8c", "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
BOOT0000 = bytes.fromhex("090100002c00") + "UiApp\0".encode("utf-16-le") + (
    b"\x04\x07\x14\0" + guid("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
    + b"\x04\x06\x14\0" + guid("462caa21-7614-4503-836e-8ab6f4662331") + b"\x7f\xff\x04\0"
)


def kernel():
    head = bytearray(0x200)
    head[:2], head[0x3C], head[0x40:0x44] = b"MZ", 0x40, b"PE\0\0"
    struct.pack_into("<HH12xH", head, 0x44, 0x8664, 1, 0xA0)
    struct.pack_into("<H", head, 0x58, 0x20B)
    struct.pack_into("<I4s", head, 0x58 + 60, 0x200, b"SUM!")
    head[0x58 + 108] = 6
    struct.pack_into("<II", head, 0x58 + 0xA0 + 16, 0x100, 0x200)
    return bytes(head) + b"\1" * 0x100 + b"\3" * 0x40


def authenticode(file):
    return sha384(file[: 0x58 + 64] + file[0x58 + 68 : 0x58 + 144] + file[0x58 + 152 :])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("measure")
    for name, data in {
        "tdx.fd": tdx_firmware(),
        "kernel": kernel(),
        "initrd": b"an initrd",
        "cmdline": LINE.encode() + b"\n",
        "etc-table-loader": bytes(256),
        "etc-acpi-rsdp": b"RSD PTR ".ljust(20, b"\0"),
        "etc-acpi-tables": b"FACS".ljust(64, b"\0"),
    }.items():
        (root / name).write_bytes(data)
    return root


def measure(files, *args, code=0):
    command = [os.environ["OBSCURA_BIN"], "measure", "--name", "test", *map(str, args)]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done


IMAGE = ["--kernel", "kernel", "--initrd", "initrd", "--cmdline-file", "cmdline"]


@pytest.mark.parametrize("gib", [1, 2, 64])
def test_tdx_registers_are_those_of_another_implementation(files, gib):
    platform = ["--tdx-firmware", "tdx.fd", "--acpi", ".", "--memory", f"{gib}GiB"]
    found = json.loads(measure(files, *IMAGE, *platform, "--json").stdout)
    firmware = tdx_firmware()
    secure_boot = [sha384(variable(GLOBAL, name)) for name in ("SecureBoot", "PK", "KEK")]
    secure_boot += [sha384(variable(SECURITY, name)) for name in ("db", "dbx")]
    acpi = [sha384((files / name).read_bytes()) for name in ("etc-table-loader", "etc-acpi-rsdp", "etc-acpi-tables")]
    separator = sha384(bytes(4))
    assert found["tdx"] == {
        "mrtd": mrtd(firmware),
        "rtmr0": chain(
            sha384(memory_list(gib << 30)), sha384(firmware[:0x8000]), *secure_boot, separator, *acpi,
            sha384(bytes(2)), sha384(BOOT0000),
        ),
        "rtmr1": chain(
            authenticode(kernel()), sha384(b"Calling EFI Application from Boot Option"), separator,
            sha384(b"Exit Boot Services Invocation"), sha384(b"Exit Boot Services Returned with Success"),
        ),
        "rtmr2": chain(
            sha384((LINE + " initrd=initrd\0").encode("utf-16-le")), sha384(b"an initrd"),
        ),
    }


@pytest.mark.parametrize("cpu", ["EPYC-v4", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin"])
def test_snp_digests_are_those_of_sev_snp_measure(files, cpu):
    firmware = FIXTURES / "ovmf_AmdSev_suffix.bin"
    machine = ["--snp-firmware", firmware, "--cpu", cpu, "--vcpus", "1,4,64"]
    found = json.loads(measure(files, *IMAGE, *machine, "--json").stdout)["snp"]
    for entry, vcpus in zip(found, (1, 4, 64), strict=True):
        expected = guest.snp_calc_launch_digest(
            vcpus, vcpu_types.CPU_SIGS[cpu], str(firmware), str(files / "kernel"), str(files / "initrd"),
            LINE, 1, "", vmm_types.VMMType.QEMU, dump_vmsa=False,
        )
        assert entry == {"cpu": cpu, "vcpus": vcpus, "measurement": expected.hex()}


def test_the_entries_are_a_policy(files):
    """What is written can be pasted: `obscura verify` reads it."""
    platform = ["--tdx-firmware", "tdx.fd", "--acpi", ".", "--memory", "2GiB", "--xfam", "e702060000000000", "--mrseam", "00" * 48]
    snp = ["--snp-firmware", FIXTURES / "ovmf_AmdSev_suffix.bin", "--cpu", "EPYC-v4", "--vcpus", "2"]
    measure(files, *IMAGE, *platform, *snp, "--output", "release.toml")
    text = (files / "release.toml").read_text()
    assert "[[tdx.platforms]]" in text and "[[tdx.images]]" in text and "[[snp.releases]]" in text
    assert hashlib.sha256(kernel()).hexdigest() in text and "no hardware" in text
    report = FIXTURES.parent / "simulated" / "report.json"
    command = [os.environ["OBSCURA_BIN"], "verify", "--policy", "release.toml", "--report", report]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True, timeout=60)
    assert done.returncode == 10, done.stderr


def test_a_log_that_differs_is_named(files):
    image = json.loads(measure(files, *IMAGE, "--json").stdout)
    log = [{"imr": event["register"], "digest": event["digest"]} for event in image["events"]]
    (files / "log.json").write_text(json.dumps(log))
    assert "no others" in measure(files, *IMAGE, "--log", "log.json").stdout
    log[-1]["digest"] = "00" * 48
    (files / "log.json").write_text(json.dumps(log))
    done = measure(files, *IMAGE, "--log", "log.json", code=10)
    assert "RTMR2 event 1, initrd: expected" in done.stdout


def test_bad_input_is_named(files):
    (files / "empty").write_bytes(b"")
    os.mkfifo(files / "pipe")
    kernel_of = lambda name: ["--kernel", name, "--initrd", "initrd", "--cmdline", "a"]
    tdx = lambda name, memory: ["--tdx-firmware", name, "--acpi", ".", "--memory", memory]
    for args, code, says in [
        (kernel_of("empty"), 30, "the kernel is empty"),
        (kernel_of("initrd"), 30, "begin with MZ"),
        (kernel_of("pipe"), 1, "not a regular file"),
        (kernel_of("nowhere"), 1, "cannot read the kernel"),
        ([*kernel_of("kernel")[:4], "--cmdline", "a\n"], 30, "command line"),
        (tdx("kernel", "2GiB"), 30, "firmware"),
        (tdx("tdx.fd", "8MiB"), 30, "memory"),
        (tdx("tdx.fd", "2GB"), 30, "whole number of MiB"),
        ([], 1, "nothing to measure"),
        ([*IMAGE, "--snp-firmware", FIXTURES / "ovmf_OvmfX64_suffix.bin", "--cpu", "EPYC", "--vcpus", "1"], 30, "hash"),
        ([*IMAGE, "--snp-firmware", "tdx.fd", "--cpu", "epyc", "--vcpus", "1"], 2, "EPYC-Turin-v2"),
        ([*IMAGE, "--snp-firmware", "tdx.fd", "--cpu", "EPYC", "--vcpus", "0"], 2, "vCPUs"),
        ([*IMAGE, "--log", "kernel"], 30, "event 0 of the log"),
    ]:
        assert says in measure(files, *args, code=code).stderr, args
