"""A confidential image node as one would write it in an afternoon: FastAPI, PyCryptodome, Pillow.

It opens a request, draws nothing, and seals one picture that was made before, as
`crates/node/benches/requests.rs` has ours do. No replay cache, no padding, no queue, no evidence.

    pip install fastapi uvicorn pycryptodome pillow
    uvicorn --app-dir bench/serving peer:app --port 8090 --log-level warning --workers 2
    PEER=http://127.0.0.1:8090 cargo bench -p obscura-node --bench requests

`SIZE` is the picture's, 64x64 unless it says otherwise.
"""

import hashlib
import io
import os
import time
from base64 import b64decode, b64encode

from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.DH import import_x25519_public_key, key_agreement
from Crypto.Protocol.KDF import HKDF
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from fastapi import FastAPI
from PIL import Image

WIDTH, HEIGHT = map(int, os.environ.get("SIZE", "64x64").split("x"))


def grainy(width, height):
    """As hard to compress as the picture of our own benchmark: shapes under fine grain."""
    state, values = 1, bytearray()
    for y in range(height):
        for x in range(width):
            for base in (x // 5, y // 5, (x + y) // 9):
                state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
                values.append(min(255, (base & 255) + (state >> 28)))
    return Image.frombytes("RGB", (width, height), bytes(values))


app = FastAPI()
# The same key in every worker.
exchange = ECC.construct(curve="curve25519", seed=bytes(range(32)))
signing = ECC.construct(curve="ed25519", seed=bytes(range(32)))
public = exchange.public_key().export_key(format="raw")
picture = grainy(WIDTH, HEIGHT)


@app.post("/v1/nodes/lock")
def lock(_: dict):
    return {"public_key": b64encode(public).decode(), "node_small_id": 0, "stack_small_id": 0}


@app.post("/v1/confidential/images/generations")
def generate(envelope: dict):
    field = {name: b64decode(envelope[name]) for name in
             ("ciphertext", "nonce", "salt", "client_dh_public_key", "plaintext_body_hash")}
    client = import_x25519_public_key(field["client_dh_public_key"])
    key = key_agreement(static_priv=exchange, static_pub=client,
                        kdf=lambda secret: HKDF(secret, 32, field["salt"], SHA256))
    sealed, tag = field["ciphertext"][:-16], field["ciphertext"][-16:]
    body = AES.new(key, AES.MODE_GCM, nonce=field["nonce"]).decrypt_and_verify(sealed, tag)
    assert hashlib.blake2b(body, digest_size=32).digest() == field["plaintext_body_hash"]

    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    url = "data:image/png;base64," + b64encode(file.getvalue()).decode()
    answer = ('{"created": %d, "data": [{"url": "%s"}]}' % (time.time(), url)).encode()
    nonce = os.urandom(12)
    sealed, tag = AES.new(key, AES.MODE_GCM, nonce=nonce).encrypt_and_digest(answer)
    digest = hashlib.blake2b(answer, digest_size=32).digest()
    signature = eddsa.new(signing, "rfc8032").sign(digest)
    verifying = signing.public_key().export_key(format="raw")
    return {
        "ciphertext": b64encode(sealed + tag).decode(),
        "nonce": b64encode(nonce).decode(),
        "response_hash": b64encode(digest).decode(),
        "signature": b64encode(b"\0" + signature + verifying).decode(),
    }
