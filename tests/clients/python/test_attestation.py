"""Attestation, checked with other people's code: PyPI's dcap-qvl, cryptography, the standard library.

What `attest` accepts of the published samples, these accept; what the simulator makes, they refuse.
"""

import base64
import hashlib
import importlib.util
import json
import pathlib

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ROOT = pathlib.Path(__file__).parents[3]
FIXTURES = ROOT / "tests" / "fixtures" / "attestation"
SIMULATED = json.loads((FIXTURES / "simulated" / "report.json").read_text())
# The report's own time.
SIMULATED_AT = 1_800_000_000


def unb64(text):
    return base64.b64decode(text, validate=True)


def section(name):
    return unb64(SIMULATED[name])


def quote(name):
    collateral = (FIXTURES / "tdx" / f"{name}.collateral.json").read_text()
    return (FIXTURES / "tdx" / f"{name}.quote").read_bytes(), collateral


def verify_tdx(raw, collateral, now):
    return dcap_qvl.verify(raw, dcap_qvl.QuoteCollateralV3.from_json(collateral), now)


@pytest.mark.parametrize(
    "name, first, last",
    [("v4", 1_750_329_147, 1_752_919_234), ("v5-td15ex", 1_791_418_186, 1_794_008_711)],
)
def test_dcap_qvl_accepts_the_same_quotes_at_the_same_times(name, first, last):
    raw, collateral = quote(name)
    for now in (first, last):
        assert verify_tdx(raw, collateral, now).status == "UpToDate"
    for now in (first - 1, last + 1):
        with pytest.raises(ValueError):
            verify_tdx(raw, collateral, now)


def test_dcap_qvl_refuses_the_outdated_quote_and_the_simulator():
    raw, collateral = quote("outdated")
    with pytest.raises(ValueError):
        verify_tdx(raw, collateral, 1_772_000_000)
    with pytest.raises(ValueError):
        verify_tdx(section("quote"), section("collateral").decode(), SIMULATED_AT)


def test_the_simulators_quotes_have_the_true_format():
    root = (FIXTURES / "simulated" / "root.der").read_bytes()
    collateral = dcap_qvl.QuoteCollateralV3.from_json(section("collateral").decode())
    verified = dcap_qvl.verify_with_root_ca(section("quote"), collateral, root, SIMULATED_AT)
    assert verified.status == "UpToDate"
    common = x509.load_der_x509_certificate(root).subject.rfc4514_string()
    assert common == "CN=SIMULATED - NOT A TEE"


def nonce_root(nonce, path):
    """From a verifier's nonce to the root of the tree that one quote binds."""
    index, siblings = path["index"], [bytes.fromhex(sibling) for sibling in path["siblings"]]
    assert len(siblings) <= 16 and index >> len(siblings) == 0
    node = hashlib.sha256(b"\x00" + bytes.fromhex(path["blind"]) + nonce).digest()
    for height, sibling in enumerate(siblings):
        pair = sibling + node if index >> height & 1 else node + sibling
        node = hashlib.sha256(b"\x01" + pair).digest()
    return node


def test_a_report_binds_what_it_says():
    assert SIMULATED["binding"] == "obscura/report-data/v2"
    keyset, manifest = section("keyset"), section("model_manifest")
    bound = nonce_root(bytes.fromhex(SIMULATED["nonce"]), SIMULATED["nonce_path"])
    for part in (keyset, manifest, section("device_evidence")):
        bound += hashlib.sha256(part).digest()
    report_data = hashlib.sha512(b"obscura/report-data/v2\0" + bound).digest()
    # A TDX quote of version 4: 48 bytes of header, and the last 64 of 584 bytes of report.
    assert section("quote")[48 + 520 : 48 + 584] == report_data
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(json.loads(keyset)["ed25519"]))
    public.verify(section("possession"), b"obscura/keyset/v1\0" + keyset)


def test_every_committed_path_leads_to_its_root():
    cases = json.loads((FIXTURES / "binding.json").read_text())["cases"]
    assert any(case["nonce_path"]["siblings"] for case in cases)
    for case in cases:
        nonce = bytes.fromhex(case["nonce"])
        assert nonce_root(nonce, case["nonce_path"]).hex() == case["nonce_root"]
        other = bytes([nonce[0] ^ 1]) + nonce[1:]
        assert nonce_root(other, case["nonce_path"]).hex() != case["nonce_root"]


def test_the_event_log_replays_and_holds_the_model():
    register, models = bytes(48), []
    for event in json.loads(section("event_log")):
        name, payload = event["name"].encode(), bytes.fromhex(event["payload"])
        message = b"obscura/event/v1\0" + len(name).to_bytes(4, "little") + name + payload
        digest = hashlib.sha384(message).digest()
        assert digest.hex() == event["digest"]
        register = hashlib.sha384(register + digest).digest()
        models += [payload] if event["name"] == "model-manifest" else []
    assert section("quote")[48 + 472 : 48 + 520] == register
    assert models == [hashlib.sha256(section("model_manifest")).digest()]


def test_the_committed_vectors_are_the_generators():
    spec = importlib.util.spec_from_file_location("make_binding", FIXTURES / "make_binding.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert json.loads((FIXTURES / "binding.json").read_text())["cases"] == generator.CASES


def gpus():
    yield (
        (FIXTURES / "gpu" / "hopper.report").read_bytes(),
        (FIXTURES / "gpu" / "hopper.chain.pem").read_bytes(),
    )
    live = json.loads((FIXTURES / "live" / "near-report.json").read_text())
    payload = json.loads(live["model_attestations"][0]["nvidia_payload"])
    for gpu in payload["evidence_list"]:
        yield unb64(gpu["evidence"]), unb64(gpu["certificate"]).rstrip(b"\0")


def test_gpu_reports_lead_to_nvidias_root():
    root_pem = (ROOT / "attestation" / "roots" / "nvidia-device-identity.pem").read_bytes()
    root = x509.load_pem_x509_certificate(root_pem)
    reports = list(gpus())
    assert len(reports) == 9
    for report, pem in reports:
        chain = x509.load_pem_x509_certificates(pem)
        assert chain[-1] == root
        for certificate, issuer in zip(chain, chain[1:] + [root]):
            certificate.verify_directly_issued_by(issuer)
        signed, signature = report[:-96], report[-96:]
        r, s = (int.from_bytes(half, "big") for half in (signature[:48], signature[48:]))
        algorithm = ec.ECDSA(hashes.SHA384())
        chain[0].public_key().verify(utils.encode_dss_signature(r, s), signed, algorithm)
        with pytest.raises(InvalidSignature):
            touched = bytes([signed[0] ^ 1]) + signed[1:]
            chain[0].public_key().verify(utils.encode_dss_signature(r, s), touched, algorithm)
