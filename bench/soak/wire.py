"""What goes over the connection: sealed requests, HTTP/1 messages, HTTP/2 frames."""

import asyncio
import base64
import hashlib
import json
import os
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MODEL = "obscura/demo"
GENERATE = "/v1/confidential/images/generations"
LOCK = "/v1/nodes/lock"
# What a node reads of a body at the most.
MAX_BODY_BYTES = 256 * 1024


@dataclass(frozen=True)
class Target:
    """A node, and its key."""

    host: str
    port: int
    health_port: int
    node_key: bytes = b""


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text):
    return base64.b64decode(text, validate=True)


def seal(node_key, **fields):
    """A sealed request: its envelope, and the cipher that opens its answer."""
    body = {"model": MODEL, "prompt": "a red house on a green field", "size": "32x32", "steps": 1} | fields
    plaintext = json.dumps(body).encode()
    secret, salt, nonce = X25519PrivateKey.generate(), os.urandom(16), os.urandom(12)
    shared = secret.exchange(X25519PublicKey.from_public_bytes(node_key))
    cipher = AESGCM(HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=b"").derive(shared))
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    envelope = {
        "ciphertext": b64(cipher.encrypt(nonce, plaintext, None)),
        "client_dh_public_key": b64(secret.public_key().public_bytes(*raw)),
        "model_name": MODEL,
        "node_dh_public_key": b64(node_key),
        "nonce": b64(nonce),
        "num_compute_units": None,
        "plaintext_body_hash": b64(hashlib.blake2b(plaintext, digest_size=32).digest()),
        "salt": b64(salt),
        "stack_small_id": 0,
        "stream": bool(body.get("stream")),
    }
    return envelope, cipher


def opened(answer, cipher):
    """What a sealed answer says."""
    envelope = json.loads(answer)
    field = lambda name: unb64(envelope[name])
    return json.loads(cipher.decrypt(field("nonce"), field("ciphertext"), None))


def post(path, body, key=None, length=None):
    """An HTTP/1 request. `length` is what its head says, where that is not the truth."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    bearer = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{bearer}"
    return f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def connect(target, source=None, port=None):
    """A connection, from another address of loopback where one is given."""
    local = (source, 0) if source else None
    return await asyncio.open_connection(target.host, port or target.port, local_addr=local, limit=1 << 20)


async def answer_of(reader):
    """Status, headers and body of an HTTP/1 answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(head[0].split()[1]), headers, body


# HTTP/2, RFC 9113: the frames that an attack needs.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def head(method, path, **headers):
    """Literals that are never indexed, in plain text (RFC 7541, 6.2.2)."""
    fields = {":method": method, ":scheme": "http", ":authority": "localhost", ":path": path}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    text = lambda value: bytes([len(value)]) + value.encode()
    return b"".join(b"\0" + text(name) + text(value) for name, value in fields.items())


def beginning(window_bytes):
    """The first bytes of a connection whose streams may be answered with so many bytes."""
    initial_window = b"\0\4" + window_bytes.to_bytes(4, "big")
    return PREFACE + frame(SETTINGS, 0, 0, initial_window)
