#!/usr/bin/env python3
"""Writes src/data.ts: policies and roots of ../../attestation, the simulator's root, and the checks' names.

    generate.py           writes the file
    generate.py --check   fails where the committed file is not what would be written
"""

import base64
import json
import re
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
ROOTS = REPO / "attestation" / "roots"
TARGET = HERE / "src" / "data.ts"
# What AMD's names and keys have in common, from their beginning.
AMD_NAME = bytes.fromhex("307b31143012060355040b0c0b456e67696e656572696e67310b30090603550406130255533114301206035504070c0b53616e746120436c617261310b300906035504080c024341311f301d060355040a0c16416476616e636564204d6963726f20446576696365733112301006035504030c09")
RSA_4096 = bytes.fromhex("30820222300d06092a864886f70d01010105000382020f003082020a0282020100")


def pem(name):
    text = (ROOTS / name).read_text()
    bodies = re.findall(r"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----", text)
    assert len(bodies) == 1, name
    return "".join(bodies[0].split())


def policy(name):
    text = (REPO / "attestation" / name).read_text()
    rules = json.dumps(tomllib.loads(text), indent=1)
    return re.sub(r'"(0{16,})"', lambda zeros: f'"0".repeat({len(zeros[1])})', rules)


def values(der):
    """The values that follow one another in DER: tag, content, and all of it."""
    while der:
        count = der[1] & 0x7F if der[1] & 0x80 else 0
        start = 2 + count
        length = int.from_bytes(der[2:start]) if count else der[1]
        yield der[0], der[start : start + length], der[: start + length]
        der = der[start + length :]


def trust_anchor(name):
    """What is needed of a certificate whose key is pinned (RFC 5280 §6.1.1 (d)), and its serial number."""
    (_, certificate, _), = values(base64.b64decode(pem(name)))
    (_, body, _), *_ = values(certificate)
    _, (_, serial, _), _, _, (_, validity, _), (_, _, subject), (_, _, spki), *_ = values(body)
    start, end = (
        int(datetime.strptime(text.decode(), "%y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())
        for tag, text, _ in values(validity)
        if tag == 0x17
    )
    assert subject.startswith(AMD_NAME) and spki.startswith(RSA_4096), name
    key = base64.b64encode(spki[len(RSA_4096) :]).decode()
    letters = subject[len(AMD_NAME) :].decode()
    return f'{{ name: "{letters}", serial: "{serial.hex()}", from: {start}, until: {end}, key: "{key}" }}'


def der(path):
    return base64.b64encode(path.read_bytes()).decode()


def titles():
    rust = (REPO / "crates/attest/src/verify/check.rs").read_text()
    return "".join(f'  "{id}": "{title}",\n' for id, title in re.findall(r'= "([^"]+)", "([^"]+)";', rust))


def written():
    generations = ["milan", "genoa", "turin"]
    amd = "".join(
        f'  {{ generation: "{name}", ark: {trust_anchor(f"amd-ark-{name}.pem")}, ask: {trust_anchor(f"amd-ask-{name}.pem")} }},\n'
        for name in generations
    )
    simulated = REPO / "tests/fixtures/attestation/simulated/root.der"
    return f"""// Written by generate.py from attestation/ and crates/attest. Not to be edited.

/** attestation/policy.toml. */
export const POLICY = {policy("policy.toml")};

/** attestation/simulated.toml: the rules for simulated nodes, for those who ask for them. */
export const SIMULATED_POLICY = {policy("simulated.toml")};

/** Intel SGX Root CA: base64 of DER. */
export const INTEL = "{der(ROOTS / "intel-sgx-root.der")}";

/** What simulated quotes lead to: «SIMULATED - NOT A TEE». Its key is published. */
export const SIMULATED = "{der(simulated)}";

/** NVIDIA Device Identity CA. */
export const NVIDIA = "{pem("nvidia-device-identity.pem")}";

/** Every check there is, by its id: crates/attest/src/verify/check.rs. */
export const TITLES = {{
{titles()}}} as const;

/** DER in hex: every name of AMD's before its last nine letters. */
export const AMD_NAME = "{AMD_NAME.hex()}";

/** A SubjectPublicKeyInfo of RSA, 4,096 bits, before its modulus: base64 of DER. */
export const RSA_4096 = "{base64.b64encode(RSA_4096).decode()}";

/** AMD's root and signing keys, by generation of processors: what their certificates say that is needed of them. */
export const AMD = [
{amd}];
"""


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if TARGET.read_text() != written():
            sys.exit(f"{TARGET} is not what generate.py writes: run it")
    else:
        TARGET.write_text(written())
