"""The wire written a second time, with Python's `cryptography`: nothing of ours on this side."""

import base64
import hashlib
import json
import os

import httpx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from conftest import MODEL


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text):
    return base64.b64decode(text, validate=True)


def blake2b(data):
    return hashlib.blake2b(data, digest_size=32).digest()


def raw(public_key):
    return public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


class Exchange:
    """One sealed request, and the key that opens its response."""

    def __init__(self, node, body):
        lock = httpx.post(f"{node}/v1/nodes/lock", json={"model": MODEL}).json()
        node_key, secret, salt = unb64(lock["public_key"]), X25519PrivateKey.generate(), os.urandom(16)
        self.nonce = os.urandom(12)
        shared = secret.exchange(X25519PublicKey.from_public_bytes(node_key))
        key = HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=b"").derive(shared)
        self.cipher = AESGCM(key)
        plaintext = json.dumps(body).encode()
        self.envelope = {
            "ciphertext": b64(self.cipher.encrypt(self.nonce, plaintext, None)),
            "client_dh_public_key": b64(raw(secret.public_key())),
            "model_name": MODEL,
            "node_dh_public_key": b64(node_key),
            "nonce": b64(self.nonce),
            "num_compute_units": None,
            "plaintext_body_hash": b64(blake2b(plaintext)),
            "salt": b64(salt),
            "stack_small_id": lock["stack_small_id"],
            "stream": False,
        }
        self.answer = httpx.post(
            f"{node}/v1/confidential/images/generations", json=self.envelope, timeout=60
        )

    def open(self):
        """Decrypts the response and checks its hash and its signature."""
        sealed = self.answer.json()
        assert unb64(sealed["nonce"]) != self.nonce
        plaintext = self.cipher.decrypt(unb64(sealed["nonce"]), unb64(sealed["ciphertext"]), None)
        digest = blake2b(plaintext)
        assert unb64(sealed["response_hash"]) == digest
        signature = unb64(sealed["signature"])
        assert len(signature) == 97 and signature[0] == 0
        Ed25519PublicKey.from_public_bytes(signature[65:]).verify(signature[1:65], digest)
        return json.loads(plaintext)


def test_opens_and_verifies(node):
    exchange = Exchange(node, {"model": MODEL, "prompt": "a lake", "size": "128x64", "seed": 5})
    assert exchange.answer.status_code == 200
    body = exchange.open()
    assert body["seed"] == 5 and len(body["data"]) == 1
    usage = exchange.answer.json()["usage"]
    assert usage["completion_tokens"] == (128 // 16) * (64 // 16)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert set(usage) == {
        "prompt_tokens", "completion_tokens", "total_tokens",
        "completion_tokens_details", "prompt_tokens_details",
    }


def test_response_format_decides_on_b64_json(node):
    request = {"model": MODEL, "prompt": "a lake", "size": "64x64"}
    [entry] = Exchange(node, request | {"response_format": "b64_json"}).open()["data"]
    assert entry["url"] == "data:image/png;base64," + entry["b64_json"]
    [entry] = Exchange(node, request | {"response_format": "url"}).open()["data"]
    assert "b64_json" not in entry


def test_the_same_seed_gives_the_same_picture(node):
    request = {"model": MODEL, "prompt": "a lake", "size": "64x64", "seed": 7}
    first, second = Exchange(node, request).open(), Exchange(node, request).open()
    assert first["data"] == second["data"]


def test_a_broken_rule_is_told_to_the_client_alone(node):
    exchange = Exchange(node, {"model": MODEL, "prompt": "a lake", "n": 0})
    assert exchange.answer.status_code == 400
    assert "`n`" not in exchange.answer.text
    assert exchange.answer.json()["error"]["type"] == "invalid_request_error"
    assert exchange.open()["error"]["param"] == "n"


def test_a_second_copy_is_refused(node):
    exchange = Exchange(node, {"model": MODEL, "prompt": "a lake", "size": "64x64"})
    assert exchange.answer.status_code == 200
    again = httpx.post(f"{node}/v1/confidential/images/generations", json=exchange.envelope)
    assert again.status_code == 409
