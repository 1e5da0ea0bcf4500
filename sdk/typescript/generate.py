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
# Base64 that AMD's names and keys begin with.
AMD_NAME = (
    "MHsxFDASBgNVBAsMC0VuZ2luZWVyaW5nMQswCQYDVQQGEwJVUzEUMBIGA1UEBwwLU2FudGEgQ2xh"
    "cmExCzAJBgNVBAgMAkNBMR8wHQYDVQQKDBZBZHZhbmNlZCBNaWNybyBEZXZpY2VzMRIwEAYDVQQD"
)
RSA_4096 = "MIICIjANBgkqhkiG9w0BAQEFAAOCAg8AMIICCgKCAgEA"


def pem(name):
    bodies = re.findall(r"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----", (ROOTS / name).read_text())
    assert len(bodies) == 1, name
    return base64.b64decode("".join(bodies[0].split()))


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


def seconds(tag, text):
    form = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}[tag]
    return int(datetime.strptime(text.decode(), form).replace(tzinfo=UTC).timestamp())


def trust_anchor(der):
    """What is believed of a certificate that is pinned: its name and key (RFC 5280 §6.1.1 (d)), number and time."""
    ((_, certificate, _),) = values(der)
    (_, body, _), *_ = values(certificate)
    _, (_, serial, _), _, _, (_, validity, _), (_, _, subject), (_, _, spki), *_ = values(body)
    start, end = (seconds(tag, text) for tag, text, _ in values(validity))
    fields = f'serial: "{serial.hex()}", from: {start}, until: {end}'
    return f"{{ subject: {shared('AMD_NAME', AMD_NAME, subject)}, {fields}, spki: {shared('RSA_4096', RSA_4096, spki)} }}"


def shared(name, prefix, der):
    """Base64 as TypeScript, without a beginning that has a name there."""
    text = base64.b64encode(der).decode()
    return f'{name} + "{text[len(prefix) :]}"' if text.startswith(prefix) else f'"{text}"'


def titles():
    rust = (REPO / "crates/attest/src/verify/check.rs").read_text()
    return "".join(f'  "{id}": "{title}",\n' for id, title in re.findall(r'= "([^"]+)", "([^"]+)";', rust))


def written():
    generations = ["milan", "genoa", "turin"]
    amd = "".join(
        f'  {{ generation: "{name}", ark: {trust_anchor(pem(f"amd-ark-{name}.pem"))}, ask: {trust_anchor(pem(f"amd-ask-{name}.pem"))} }},\n'
        for name in generations
    )
    simulated = REPO / "tests/fixtures/attestation/simulated/root.der"
    return f"""// Written by generate.py from attestation/ and crates/attest. Not to be edited.

/** attestation/policy.toml. */
export const POLICY = {policy("policy.toml")};

/** attestation/simulated.toml: the rules for simulated nodes, for those who ask for them. */
export const SIMULATED_POLICY = {policy("simulated.toml")};

/** Intel SGX Root CA. Names and keys are base64 of DER, serial numbers hex. */
export const INTEL = {trust_anchor((ROOTS / "intel-sgx-root.der").read_bytes())};

/** What simulated quotes lead to: «SIMULATED - NOT A TEE». Its key is published. */
export const SIMULATED = {trust_anchor(simulated.read_bytes())};

/** NVIDIA Device Identity CA. */
export const NVIDIA = {trust_anchor(pem("nvidia-device-identity.pem"))};

/** Every check there is, by its id: crates/attest/src/verify/check.rs. */
export const TITLES = {{
{titles()}}} as const;

/** How AMD's names begin, and how an RSA key of 4,096 bits does. */
const AMD_NAME = "{AMD_NAME}";
const RSA_4096 = "{RSA_4096}";

/** AMD's root and signing keys, by generation of processors. */
export const AMD = [
{amd}];
"""


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if TARGET.read_text() != written():
            sys.exit(f"{TARGET} is not what generate.py writes: run it")
    else:
        TARGET.write_text(written())
