"""The configurations that are shipped, and the policies that are: each of the former is trusted by one of the latter. The
digests are computed here from attestation/README.md's description, and by the program where there is one."""

import hashlib
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEFAULTS = {"allow_plaintext": False, "device": "auto", "gpu_evidence": False, "log": "info", "otlp_endpoint": "", "sandbox": "auto", "tls": "off"}
DEVICES = {"cpu": "cpu", "auto": "auto"}


def evidence(text):
    """What a node with these settings tells of them."""
    said = {**DEFAULTS, **{name: value for name, value in tomllib.loads(text).items() if name in DEFAULTS}}
    said["otlp"] = said.pop("otlp_endpoint") != ""
    devices = {DEVICES.get(device.strip(), "gpu") for device in said["device"].split(",")}
    said["device"] = ",".join(sorted(devices))
    return "obscura/configuration/v1\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in sorted(said.items()))


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def policy(name):
    return tomllib.loads((ROOT / "attestation" / name).read_text())


def in_config_map():
    for document in yaml.safe_load_all((ROOT / "deploy/kubernetes/configuration.yaml").read_text()):
        if document["metadata"]["name"] == "node":
            return document["data"]["obscura.toml"]


def in_documentation():
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/operating.md").read_text(), re.S)
    return text


SHIPPED = {
    "deploy/kubernetes/configuration.yaml": (in_config_map, ["policy.toml", "staging.toml"]),
    "docs/operating.md": (in_documentation, ["policy.toml", "staging.toml"]),
    "attestation/image/node.toml": ((ROOT / "attestation/image/node.toml").read_text, ["staging-cpu.toml"]),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_policy_trusts_what_is_shipped(name):
    read, trusting = SHIPPED[name]
    digest = sha256(evidence(read()))
    policies = sorted(path.name for path in (ROOT / "attestation").glob("*.toml") if path.name != "simulated.toml")
    assert [name for name in policies if digest in policy(name)["configuration"]["digests"]] == trusting


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.skipif("OBSCURA_BIN" not in os.environ, reason="needs the program")
def test_the_program_says_the_same(name, tmp_path):
    read, _ = SHIPPED[name]
    # A placeholder's digest is no digest: the program refuses it.
    text = re.sub(r"(?m)^api_keys_sha256.*$", "", read())
    (tmp_path / "node.toml").write_text(text)
    said = subprocess.run(
        [os.environ["OBSCURA_BIN"], "config", "evidence", "--config", str(tmp_path / "node.toml")],
        check=True, capture_output=True, text=True,
    )
    assert said.stdout == evidence(text)


def test_the_documentation_shows_such_a_text():
    (shown,) = re.findall(r"(?m)^obscura/configuration/v1\n(?:.+ = .+\n)+", (ROOT / "attestation/README.md").read_text())
    assert sha256(shown) in policy("policy.toml")["configuration"]["digests"]


def test_what_has_no_gpu_is_trusted_by_its_own_policy_alone():
    """Which differs from the others in nothing else, so that no node with a GPU is trusted more easily."""
    production, staging, cpu = policy("policy.toml"), policy("staging.toml"), policy("staging-cpu.toml")
    assert (staging["gpu"]["evidence"], cpu["gpu"].pop("evidence")) == ("required", "optional")
    assert len(cpu["configuration"]["digests"]) == 1
    assert not set(cpu["configuration"].pop("digests")) & set(staging["configuration"].pop("digests"))
    del staging["gpu"]["evidence"]
    for entries in (staging, cpu):
        for platform, lists in {"tdx": ("platforms", "images"), "snp": ("releases",)}.items():
            for name in lists:
                assert isinstance(entries[platform].pop(name), list)
        entries["model"].pop("manifests")
    assert staging == cpu
    del production["configuration"]["digests"], production["gpu"]["evidence"], production["model"]["manifests"]
    del production["tdx"]["releases"], production["snp"]["releases"]
    assert production == staging
