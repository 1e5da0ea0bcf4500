"""Writes wire/*.json: exchanges of docs/wire.md with known secrets, and what a client must make of each answer.

Nothing of this project computes them: hashlib, and the package `cryptography`. Run it with that package installed; what it
writes is the same each time, and tests of Rust and TypeScript read what is committed.
"""

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HERE = Path(__file__).resolve().parent / "wire"
RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
L = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19

CLIENT, NODE = bytes(range(1, 33)), bytes(range(65, 97))
SALT, NONCE, ANSWER_NONCE = bytes(range(16)), bytes(range(12)), bytes(range(100, 112))
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes([8]) * 32)
KEYSET, MANIFEST = bytes([0x21]) * 32, bytes([0x42]) * 32
IDENTITY = bytes([1]) + bytes(31)


def b64(data):
    return base64.b64encode(data).decode()


def blake(*parts):
    return hashlib.blake2b(b"".join(parts), digest_size=32).digest()


def public(key):
    return key.public_key().public_bytes(*RAW)


def derived(secret, peer, salt):
    shared = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(peer))
    return HKDF(hashes.SHA256(), 32, salt, b"").derive(shared)


def padded(length):
    length = max(length, 4096)
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask


BODY = b'{"model":"obscura/demo","prompt":"a cat","padding":"c2FsdA"}'.ljust(4096)
CLIENT_PUBLIC = public(X25519PrivateKey.from_private_bytes(CLIENT))
NODE_PUBLIC = public(X25519PrivateKey.from_private_bytes(NODE))
KEY = derived(CLIENT, NODE_PUBLIC, SALT)


def sealed(name, about, node, secret=CLIENT, salt=SALT, nonce=NONCE, body=BODY, accept=True):
    case = {"name": name, "about": about, "node_public": node.hex(), "client_secret": secret.hex(), "salt": salt.hex(), "nonce": nonce.hex(), "body": body.decode()}
    if not accept:
        return {**case, "expect": "refuse"}
    key = derived(secret, node, salt)
    envelope = {
        "ciphertext": b64(AESGCM(key).encrypt(nonce, body, None)), "nonce": b64(nonce), "salt": b64(salt),
        "client_dh_public_key": b64(public(X25519PrivateKey.from_private_bytes(secret))), "node_dh_public_key": b64(node),
        "plaintext_body_hash": b64(blake(body)),
    }
    return {**case, "expect": "accept", "envelope": envelope}


def low_order():
    """RFC 7748 §6.1 and the points behind it: encodings whose product with any scalar is zero, and ones that are not reduced."""
    little = lambda number: number.to_bytes(32, "little")
    eight = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
    other = bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")
    for name, point in [
        ("zero", little(0)), ("one", little(1)), ("order-8", eight), ("order-8-other", other), ("p-minus-1", little(P - 1)),
        ("p", little(P)), ("p-plus-1", little(P + 1)), ("largest", little(2**255 - 1)), ("high-bit", little(9 + 2**255)), ("all-ones", bytes([255]) * 32),
    ]:
        yield sealed(f"node-key-{name}", "A node's key of low order, or not reduced", point, accept=False)


def seals():
    yield sealed("padded", "A body as clients pad it", NODE_PUBLIC)
    yield sealed("short", "One byte", NODE_PUBLIC, body=b" ")
    yield sealed("empty", "Nothing", NODE_PUBLIC, body=b"")
    yield sealed("long", "Two blocks of hashes and more", NODE_PUBLIC, body=b"x" * 9001)
    yield sealed("unicode", "Text beyond ASCII", NODE_PUBLIC, body="{\"prompt\":\"ein Fuchs, 狐 🦊\"}".encode())
    yield sealed("clamped", "A secret whose bits X25519 sets and clears", NODE_PUBLIC, secret=bytes([255]) * 32)
    yield from low_order()


def answer(body=b'{"created":1,"data":[{"url":"data:image/png;base64,AA=="}]}', signer=SIGNER, nonce=ANSWER_NONCE, **changed):
    body = body.ljust(padded(len(body)))
    use = {"key": KEY, "request_hash": blake(BODY), "client": CLIENT_PUBLIC, "node": NODE_PUBLIC, "manifest": MANIFEST, "keyset": KEYSET, "version": b"\1", "domain": b"obscura receipt\0", **changed}
    response_hash = blake(body)
    digest = blake(use["version"], use["request_hash"], response_hash, use["client"], use["node"], use["manifest"], use["keyset"])
    return {
        "ciphertext": b64(AESGCM(use["key"]).encrypt(nonce, body, None)), "nonce": b64(nonce), "response_hash": b64(response_hash),
        "signature": b64(b"\0" + signer.sign(response_hash) + public(signer)), "receipt": b64(signer.sign(use["domain"] + digest)),
    }


def flipped(text, at):
    data = bytearray(base64.b64decode(text))
    data[at] ^= 1
    return b64(bytes(data))


def malleable(signature):
    """S + L: the same equation holds, and RFC 8032 §5.1.7 refuses it."""
    s = int.from_bytes(signature[32:], "little") + L
    return signature[:32] + s.to_bytes(32, "little")


D = -121665 * pow(121666, -1, P) % P
BASE = (15112221349535400772501151409588531511454012693041857206046113283949847762202, 4 * pow(5, -1, P) % P)
# Of order 8.
EIGHTH = (0x1FD5B9A006394A28E933993238DE4ABB5C193C7013E5E238DEA14646C545D14A, 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7)


def add(p, q):
    """RFC 8032 §5.1.4, in affine coordinates."""
    (a, b), (c, d) = p, q
    t = D * a * c * b * d % P
    return (a * d + b * c) * pow(1 + t, -1, P) % P, (b * d + a * c) * pow(1 - t, -1, P) % P


def times(n, p):
    found = (0, 1)
    while n:
        found, p, n = add(found, p) if n & 1 else found, add(p, p), n >> 1
    return found


def encoded(p):
    return (p[1] | (p[0] & 1) << 255).to_bytes(32, "little")


def challenge(r, key, message):
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L


def cofactored(message):
    """By a key that has a part of small order: 8SB = 8R + 8kA holds, SB = R + kA does not."""
    secret, key = 12345, encoded(add(times(12345, BASE), EIGHTH))
    nonce = next(n for n in range(1, 99) if challenge(encoded(times(n, BASE)), key, message) % 8)
    r = encoded(times(nonce, BASE))
    return r + ((nonce + challenge(r, key, message) * secret) % L).to_bytes(32, "little") + key


def eighth(message):
    """By a key of order 8: SB = R + kA holds, and says nothing, as anybody can make it hold."""
    key = encoded(EIGHTH)
    nonce = next(n for n in range(1, 99) if challenge(encoded(times(n, BASE)), key, message) % 8 == 0)
    return encoded(times(nonce, BASE)) + nonce.to_bytes(32, "little") + key


def opens():
    good = answer()
    signature, receipt = base64.b64decode(good["signature"]), base64.b64decode(good["receipt"])
    without = lambda name: {key: value for key, value in good.items() if key != name}
    yield "whole", "Accepted", good, "accept"
    yield "unpadded-usage", "Fields that a client does not know are no matter", {**good, "usage": {"total_tokens": 1}, "more": 1}, "accept"
    yield "long", "Accepted, of many blocks", answer(b'{"data":"' + b"x" * 70_000 + b'"}'), "accept"
    yield "ciphertext-first", "Its first bit", {**good, "ciphertext": flipped(good["ciphertext"], 0)}, "decryption"
    yield "ciphertext-last", "Its tag's last bit", {**good, "ciphertext": flipped(good["ciphertext"], -1)}, "decryption"
    yield "ciphertext-short", "It ends early", {**good, "ciphertext": b64(base64.b64decode(good["ciphertext"])[:-1])}, "decryption"
    yield "ciphertext-tag-alone", "Shorter than a tag", {**good, "ciphertext": b64(bytes(15))}, "decryption"
    yield "ciphertext-empty", "Nothing", {**good, "ciphertext": ""}, "decryption"
    yield "ciphertext-line", "Base64 with a line's end", {**good, "ciphertext": good["ciphertext"] + "\n"}, "malformed"
    yield "ciphertext-url", "Base64 of the other alphabet", {**good, "ciphertext": good["ciphertext"].replace("/", "_").replace("+", "-")}, "malformed"
    yield "other-key", "Sealed with another key", answer(key=bytes(32)), "decryption"
    yield "nonce-flipped", "Another nonce", {**good, "nonce": flipped(good["nonce"], 0)}, "decryption"
    yield "nonce-long", "13 bytes of nonce", {**good, "nonce": b64(bytes(13))}, "malformed"
    yield "nonce-short", "11 bytes of nonce", {**good, "nonce": b64(bytes(11))}, "malformed"
    yield "reflected", "The request's own nonce", answer(nonce=NONCE), "reflected"
    yield "hash-flipped", "Another hash", {**good, "response_hash": flipped(good["response_hash"], 31)}, "hash"
    yield "hash-long", "33 bytes of hash", {**good, "response_hash": b64(bytes(33))}, "malformed"
    yield "hash-not-canonical", "Base64 whose last bits are not zero", {**good, "response_hash": good["response_hash"][:-2] + chr(ord(good["response_hash"][-2]) + 1) + "="}, "malformed"
    yield "signature-flipped", "A bit of it", {**good, "signature": flipped(good["signature"], 20)}, "signature"
    yield "signature-key-flipped", "A bit of the key it carries", {**good, "signature": flipped(good["signature"], 70)}, "signature"
    yield "signature-scheme", "A scheme that is not known", {**good, "signature": flipped(good["signature"], 0)}, "signature"
    yield "signature-short", "96 bytes", {**good, "signature": b64(signature[:-1])}, "signature"
    yield "signature-long", "98 bytes", {**good, "signature": b64(signature + b"\0")}, "signature"
    yield "signature-malleable", "S + L", {**good, "signature": b64(b"\0" + malleable(signature[1:65]) + signature[65:])}, "signature"
    yield "signature-small-order", "A key of small order, which signs everything", {**good, "signature": b64(b"\0" + IDENTITY + bytes(32) + IDENTITY)}, "signature"
    response_hash = base64.b64decode(good["response_hash"])
    yield "signature-order-8", "A key of order 8, under which anybody's signature holds", {**good, "signature": b64(b"\0" + eighth(response_hash))}, "signature"
    yield "signature-cofactored", "It holds when it is multiplied by the cofactor, and not as it is", {**good, "signature": b64(b"\0" + cofactored(response_hash))}, "signature"
    yield "signature-of-another", "A stranger's key signed", answer(signer=STRANGER), "signer"
    yield "receipt-missing", "There is none", without("receipt"), "receipt_missing"
    yield "receipt-null", "It is null", {**good, "receipt": None}, "receipt_missing"
    yield "receipt-flipped", "A bit of it", {**good, "receipt": flipped(good["receipt"], 0)}, "receipt"
    yield "receipt-malleable", "S + L", {**good, "receipt": b64(malleable(receipt))}, "receipt"
    yield "receipt-short", "63 bytes", {**good, "receipt": b64(receipt[:-1])}, "malformed"
    for name, change in [
        ("request", {"request_hash": bytes(32)}), ("client", {"client": bytes(32)}), ("node", {"node": bytes(32)}),
        ("model", {"manifest": KEYSET}), ("keyset", {"keyset": MANIFEST}), ("version", {"version": b"\2"}), ("domain", {"domain": b"obscura recaipt\0"}),
    ]:
        yield f"receipt-other-{name}", f"The receipt is of another {name}", answer(**change), "receipt"


def event(number, kind="image_generation.partial_image", final=False, **fields):
    body = {"type": kind, "sequence_number": number, "final": final, "b64_json": "AA==", "index": 0, **fields}
    return answer(json.dumps(body).encode(), nonce=bytes([number]) * 12)


def streams():
    done = "image_generation.completed"
    good = [event(0), event(1), event(2), event(3, done, True)]
    a, b, c, d = good
    yield "whole", "Accepted", good, "accept"
    yield "one", "One event, the last", [event(0, done, True)], "accept"
    yield "after-the-end", "What follows the last event is not read", [*good, a], "accept"
    yield "first-missing", "", [b, c, d], "order"
    yield "one-missing", "", [a, c, d], "order"
    yield "swapped", "", [a, c, b, d], "order"
    yield "repeated", "", [a, b, b, c, d], "order"
    yield "reversed", "", [d, c, b, a], "order"
    yield "from-one", "Numbers that begin with one", [event(1), event(2, done, True)], "order"
    yield "last-missing", "", [a, b, c], "cut"
    yield "nothing", "No event at all", [], "cut"
    yield "touched", "", [a, {**b, "ciphertext": flipped(b["ciphertext"], 9)}, c, d], "decryption"
    yield "foreign", "An event of another exchange", [a, answer(b"{}", key=bytes(32)), c, d], "decryption"
    yield "unreceipted", "One comes without its receipt", [a, {k: v for k, v in b.items() if k != "receipt"}, c, d], "receipt_missing"
    yield "another-signer", "One is signed by a stranger", [a, answer(b'{"type":"image_generation.progress","sequence_number":1,"final":false,"step":1,"steps":2}', signer=STRANGER), c, d], "signer"
    yield "reflected", "One carries the request's nonce", [answer(b"{}", nonce=NONCE), b, c, d], "reflected"


def write(name, about, cases, **shared):
    (HERE / f"{name}.json").write_text(json.dumps({"about": about, **shared, "cases": cases}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    lengths = [0, 1, 4095, 4096, 4097, 4351, 4352, 4353, 8191, 8192, 8193, 65_535, 65_536, 65_537, 67_584, 67_585, 1_000_000, 3_000_000, 3_014_656, 3_014_657, 100_000_000]
    write("padding", "Lengths of bodies, and what they are padded to", [{"bytes": n, "padded": padded(n)} for n in lengths])
    write("seal", "What a client sends, with known secrets: hex, and base64 in envelopes", list(seals()))
    exchange = {
        "exchange": {"node_public": NODE_PUBLIC.hex(), "client_secret": CLIENT.hex(), "salt": SALT.hex(), "nonce": NONCE.hex(), "body": BODY.decode()},
        "attested": {"signing_key": public(SIGNER).hex(), "keyset_digest": KEYSET.hex(), "model_manifest": MANIFEST.hex()},
    }
    fields = ("name", "about", "answer", "expect")
    write("open", "Answers to one exchange", [dict(zip(fields, case)) for case in opens()], **exchange)
    fields = ("name", "about", "answers", "expect")
    write("stream", "Events of one exchange, in the order in which they come", [dict(zip(fields, case)) for case in streams()], **exchange)
