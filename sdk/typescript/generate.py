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
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
ROOTS = REPO / "attestation" / "roots"
TARGET = HERE / "src" / "data.ts"


def pem(name):
    text = (ROOTS / name).read_text()
    bodies = re.findall(r"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----", text)
    assert len(bodies) == 1, name
    return "".join(bodies[0].split())


def policy(name):
    text = (REPO / "attestation" / name).read_text()
    return json.dumps(tomllib.loads(text), indent=1)


def der(path):
    return base64.b64encode(path.read_bytes()).decode()


def titles():
    rust = (REPO / "crates/attest/src/verify/check.rs").read_text()
    return "".join(f'  "{id}": "{title}",\n' for id, title in re.findall(r'= "([^"]+)", "([^"]+)";', rust))


def written():
    generations = ["milan", "genoa", "turin"]
    amd = "".join(
        f'  {{ generation: "{name}", ark: "{pem(f"amd-ark-{name}.pem")}", ask: "{pem(f"amd-ask-{name}.pem")}" }},\n'
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
