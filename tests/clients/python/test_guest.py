"""The guest's image: its builder and its lock file. No boot: that is `scripts/guest.sh`."""

import hashlib
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build", ROOT / "attestation/image/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("blocks, levels", [(1, 1), (128, 1), (129, 2), (128 * 128, 2), (128 * 128 + 1, 3)])
def test_a_block_leads_to_the_root(build, tmp_path, blocks, levels):
    data = b"".join(index.to_bytes(4, "big") * 1024 for index in range(blocks))
    image = tmp_path / "root.img"
    image.write_bytes(data)
    named, start, salt, root = build.add_tree(image).split(":")
    assert (int(named), int(start)) == (blocks, blocks)
    disk, salt = image.read_bytes(), bytes.fromhex(salt)
    # As the kernel walks: levels lie behind the data, the top one first, 128 digests a block.
    sizes = [blocks]
    while len(sizes) <= levels:
        sizes.append(-(-sizes[-1] // 128))
    assert sizes[-1] == 1 and len(disk) == 4096 * (blocks + sum(sizes[1:]))
    for index in {0, blocks // 2, blocks - 1}:
        digest, at = hashlib.sha256(salt + disk[4096 * index :][:4096]).digest(), index
        for level in range(1, levels + 1):
            offset = 4096 * (blocks + sum(sizes[level + 1 :]) + at // 128)
            block = disk[offset : offset + 4096]
            assert block[32 * (at % 128) :][:32] == digest
            digest, at = hashlib.sha256(salt + block).digest(), at // 128
        assert digest.hex() == root


def test_an_archive_holds_nothing_of_this_machine(build):
    archive = build.cpio([("dev", 0o040755, b""), ("init", 0o100755, b"abc")])
    assert len(archive) % 512 == 0 and archive == build.cpio([("dev", 0o040755, b""), ("init", 0o100755, b"abc")])
    at, found = 0, []
    while not found or found[-1][0] != "TRAILER!!!":
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        content = at + 110 + fields[11]
        content += -content % 4
        assert fields[2:4] == [0, 0] and fields[5] == 0, "owners and time"
        found.append((name, archive[content : content + fields[6]]))
        at = content + fields[6] + -fields[6] % 4
    assert found[:2] == [("dev", b""), ("init", b"abc")]


def test_a_program_that_is_not_static_is_known(build):
    with pytest.raises(SystemExit):
        build.interpreter(b"#!/bin/sh\n")
    python = Path("/proc/self/exe").read_bytes()
    assert build.interpreter(python).startswith("/lib")


def test_the_measured_configuration_is_what_policies_expect():
    measured = tomllib.loads((ROOT / "attestation/image/node.toml").read_text())
    assert measured["tee"] == "auto" and measured["sandbox"] == "on" and measured["log"] == "info"
    assert measured["allow_plaintext"] is False and "otlp_endpoint" not in measured


def test_every_input_is_locked_once():
    inputs = tomllib.loads((ROOT / "attestation/image/lock.toml").read_text())["inputs"]
    assert len({name for name, *_ in inputs}) == len(inputs) > 200
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for *_, sha256 in inputs)
