"""The list of what is linked in: a CycloneDX document by its schema, and complete."""

import json
import subprocess
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[3]


def test_sbom():
    done = subprocess.run([ROOT / "scripts/sbom.py"], check=True, stdout=subprocess.PIPE, text=True)
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout)
    assert fault is None, fault
    document = json.loads(done.stdout)
    parts = {part["name"]: part for part in document["components"]}
    assert {"aes-gcm", "axum", "candle-core", "obscura-seal"} <= parts.keys()
    assert "criterion" not in parts, "what only tests need is not linked in"
    assert parts["swagger-ui-dist"]["licenses"] == [{"expression": "Apache-2.0"}], "vendored files are named too"
    known = {part["bom-ref"] for part in document["components"]} | {document["metadata"]["component"]["bom-ref"]}
    assert {node["ref"] for node in document["dependencies"]} == known
    foreign = [part for part in parts.values() if "hashes" not in part]
    assert all(part["version"] == "0.1.0" for part in foreign), "every package from elsewhere has its digest"
