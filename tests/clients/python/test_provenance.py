"""Images that tell where they are from, read by other people's code: PyPI's c2pa-python and cryptography."""

import base64
import hashlib
import io
import json
import os
import subprocess

import c2pa
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from PIL import Image

from conftest import MODEL, serve

PROMPT = "a green circle on a blue field"
SALT = "5a" * 32
FORMATS = ["png", "jpeg", "webp"]


@pytest.fixture(scope="module")
def signing_node():
    with serve("--set", "provenance=c2pa") as (_, url):
        yield url


def draw(url, output_format, **more):
    body = {
        "model": MODEL, "prompt": PROMPT, "size": "64x64", "steps": 1, "seed": 3, "response_format": "b64_json",
        "output_format": output_format, **more,
    }
    if more.get("provenance") != "none":
        body["provenance_salt"] = SALT
    answer = httpx.post(f"{url}/v1/images/generations", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][0]


def judged(file, output_format):
    """The manifest, and the codes of what other people's code found."""
    with c2pa.Reader(f"image/{output_format}", io.BytesIO(file)) as reader:
        store = json.loads(reader.json())
    results = store["validation_results"]["activeManifest"]
    codes = {kind: {found["code"] for found in results[kind]} for kind in ("success", "failure")}
    return store["validation_state"], store["manifests"][store["active_manifest"]], codes


@pytest.mark.parametrize("output_format", FORMATS)
def test_another_tool_finds_the_manifest_valid_and_the_image_whole(signing_node, output_format):
    drawn = draw(signing_node, output_format)
    file = base64.b64decode(drawn["b64_json"])
    state, manifest, codes = judged(file, output_format)
    assert state == "Valid"
    assert codes["failure"] == {"signingCredential.untrusted"}, "no authority vouches for a node: evidence does"
    assert {"claimSignature.validated", "assertion.dataHash.match"} <= codes["success"]
    assert manifest["claim_version"] == 2 and manifest["signature_info"]["alg"] == "Es256"
    said = {assertion["label"]: assertion["data"] for assertion in manifest["assertions"]}
    [action] = said["c2pa.actions.v2"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")

    # What it says of the node is what the evidence says.
    statement = said["obscura.generation"]
    report = httpx.get(f"{signing_node}/v1/attestation").json()
    digest = lambda section: hashlib.sha256(base64.b64decode(report[section])).hexdigest()
    assert statement["keyset_sha256"] == digest("keyset")
    assert statement["model_manifest_sha256"] == digest("model_manifest")
    quote = base64.b64decode(report["quote"])
    assert statement["measurements"][0] == quote[184:232].hex() and statement["platform"] == "simulated"
    asked = {"guidance": None, "prompt": PROMPT, "seed": "3", "size": "64x64", "steps": 1}
    canonical = json.dumps(asked, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    commitment = hashlib.sha256(b"obscura/commitment/v1\0" + bytes.fromhex(SALT) + canonical).hexdigest()
    assert statement["commitment_sha256"] == commitment

    # Nothing else is in the file, and the pixels are those of a file without.
    plain = base64.b64decode(draw(signing_node, output_format, provenance="none")["b64_json"])
    assert len(file) - len(plain) < 4096 and b"green" not in file
    with Image.open(io.BytesIO(file)) as ours, Image.open(io.BytesIO(plain)) as theirs:
        assert ours.tobytes() == theirs.tobytes()
        assert not getattr(ours, "text", None)


@pytest.mark.parametrize("output_format", FORMATS)
def test_another_tool_finds_a_changed_image_invalid(signing_node, output_format):
    file = bytearray(base64.b64decode(draw(signing_node, output_format)["b64_json"]))
    # Of a PNG in its end chunk's sum, which no decoder asks for; of a JPEG in its last scan; of a WebP in its pixels.
    file[{"png": -1, "jpeg": -3, "webp": 60}[output_format]] ^= 1
    state, _, codes = judged(bytes(file), output_format)
    assert state == "Invalid" and "assertion.dataHash.mismatch" in codes["failure"]


def test_ours_and_theirs_agree_on_a_private_image(signing_node, tmp_path):
    image = tmp_path / "circle.png"
    command = [os.environ["OBSCURA_BIN"], "generate", PROMPT, "--node", signing_node, "--accept-simulated",
               "--size", "64x64", "--steps", "1", "--provenance", "c2pa", "--output", str(image)]
    subprocess.run(command, check=True, capture_output=True)
    assert judged(image.read_bytes(), "png")[0] == "Valid"
    command = [os.environ["OBSCURA_BIN"], "verify", signing_node, "--image", str(image), "--accept-simulated"]
    assert subprocess.run(command, capture_output=True).returncode == 0


def cbor(data, at=0):
    """One value of what receipts are made of (RFC 8949), and where it ends."""
    kind, length = data[at] >> 5, data[at] & 31
    at += 1
    if length >= 24:
        bytes_of_length = 1 << (length - 24)
        length, at = int.from_bytes(data[at:at + bytes_of_length], "big"), at + bytes_of_length
    if kind == 0:
        return length, at
    if kind == 1:
        return -1 - length, at
    if kind in (2, 3):
        text = data[at:at + length]
        return (text if kind == 2 else text.decode()), at + length
    if kind == 6:
        return cbor(data, at)
    values = []
    for _ in range(length * (2 if kind == 5 else 1)):
        value, at = cbor(data, at)
        values.append(value)
    return (values if kind == 4 else dict(zip(values[::2], values[1::2]))), at


def test_a_receipt_is_signed_by_the_attested_key(signing_node):
    drawn = draw(signing_node, "png", provenance="receipt")
    receipt = base64.b64decode(drawn["provenance"]["receipt"])
    (protected, unprotected, payload, signature), end = cbor(receipt)
    assert end == len(receipt) and unprotected == {}
    headers, _ = cbor(protected)
    keyset = json.loads(base64.b64decode(httpx.get(f"{signing_node}/v1/attestation").json()["keyset"]))
    assert headers == {1: -8, 3: "application/vnd.obscura.receipt+cbor", 4: bytes.fromhex(keyset["ed25519"])}
    string = lambda text: bytes([0x58, len(text)]) if len(text) < 256 else b"\x59" + len(text).to_bytes(2, "big")
    signed = b"\x84\x6aSignature1" + string(protected) + protected + b"\x40" + string(payload) + payload
    Ed25519PublicKey.from_public_bytes(headers[4]).verify(signature, signed)
    said, _ = cbor(payload)
    assert said["file_sha256"] == hashlib.sha256(base64.b64decode(drawn["b64_json"])).hexdigest()
    with Image.open(io.BytesIO(base64.b64decode(drawn["b64_json"]))) as image:
        pixels = b"obscura/pixels/v1\0" + (64).to_bytes(4, "big") * 2 + image.tobytes()
    assert said["pixels_sha256"] == hashlib.sha256(pixels).hexdigest()
