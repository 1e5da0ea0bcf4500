"""What hostile clients do, each for as long as it is let. They come from other addresses than the honest
ones, with a key of their own where one is needed."""

import asyncio
import collections
import itertools
import os
import random
import socket
import time

import wire

KEY = "attacker"
ADDRESSES = [f"127.0.1.{n}" for n in range(1, 9)]
# Between two attempts of one hostile client, so that what is measured is the node and not this process.
PAUSE_SECS = 0.02
BROKEN = (OSError, EOFError, TimeoutError, ValueError, IndexError)


class Attack:
    """What an attack has to work with."""

    def __init__(self, target, seconds):
        self.target, self.until = target, time.monotonic() + seconds
        self.count = collections.Counter()

    async def many(self, clients, attempt, pause_secs=PAUSE_SECS):
        """So many hostile clients; each attempts again and again, from one of the addresses."""

        async def one(number):
            source = ADDRESSES[number % len(ADDRESSES)]
            while (left := self.until - time.monotonic()) > 0:
                self.count["attempts"] += 1
                try:
                    await asyncio.wait_for(attempt(source, number), left)
                except BROKEN as error:
                    self.count[type(error).__name__] += 1
                await asyncio.sleep(pause_secs)

        await asyncio.gather(*(one(number) for number in range(clients)))

    async def hold(self, source, first_bytes):
        """Sends these bytes, and then nothing until the node closes the connection."""
        reader, writer = await wire.connect(self.target, source)
        try:
            writer.write(first_bytes)
            while await reader.read(65536):
                pass
        finally:
            writer.transport.abort()

    async def ask(self, source, request):
        """One request on a connection of its own; its status is counted."""
        reader, writer = await wire.connect(self.target, source)
        try:
            writer.write(request)
            status, _, _ = await wire.answer_of(reader)
            self.count[str(status)] += 1
        finally:
            writer.transport.abort()

    async def unread(self, source, first_bytes):
        """Sends these bytes and takes none of what comes, until the node closes the connection."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        connection.bind((source, 0))
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(connection, (self.target.host, self.target.port))
            await loop.sock_sendall(connection, first_bytes)
            while True:
                await asyncio.sleep(0.5)
                # A connection that the node has reset says so here.
                await loop.sock_sendall(connection, wire.frame(wire.PING, 0, 0, bytes(8)))
        finally:
            connection.close()

    def sealed(self, key=KEY, **fields):
        return wire.post(wire.GENERATE, wire.seal(self.target.node_key, **fields)[0], key)


async def slow_bodies(attack):
    """1,040 connections whose body is announced and does not come; half of them with a key."""
    def half(key):
        return wire.post(wire.LOCK, b"{", key, length=9)
    await attack.many(1040, lambda source, n: attack.hold(source, half([None, KEY][n % 2])), 0.2)


async def half_open(attack):
    """1,040 connections that stop in the middle of a head, or before."""
    beginnings = [b"", b"PRI * HT", b"GET /hea", b"POST / HTTP/1.1\r\nHost: loc"]
    await attack.many(1040, lambda source, n: attack.hold(source, beginnings[n % 4]), 0.2)


async def large_bodies(attack):
    """400 bodies of the largest size but for their last byte: 105 MB where there is room for 67."""
    body = wire.post(wire.LOCK, b" " * (wire.MAX_BODY_BYTES - 1), KEY, length=wire.MAX_BODY_BYTES)
    await attack.many(400, lambda source, n: attack.hold(source, body), 0.2)


async def dripping_bodies(attack):
    """200 bodies, a byte every tenth of a second."""
    async def drip(source, _):
        reader, writer = await wire.connect(attack.target, source)
        try:
            writer.write(wire.post(wire.LOCK, b"{", KEY, length=9000))
            while not reader.at_eof():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.1)
        finally:
            writer.transport.abort()
    await attack.many(200, drip)


async def stalled_streams(attack):
    """HTTP/2 connections without a window, each with 33 sealed streams of eight steps."""
    def first_bytes():
        fields = {"steps": 8, "stream": True, "progress": True, "partial_images": 3}
        sent = [wire.beginning(0)]
        for stream in range(1, 67, 2):
            body = attack.sealed(**fields).split(b"\r\n\r\n", 1)[1]
            headers = wire.head("POST", wire.GENERATE, content_type="application/json", authorization=f"Bearer {KEY}")
            sent.append(wire.frame(wire.HEADERS, wire.END_HEADERS, stream, headers))
            sent.append(wire.frame(wire.DATA, wire.END_STREAM, stream, body))
        return b"".join(sent)
    await attack.many(4, lambda source, _: attack.unread(source, first_bytes()))


async def unread_answers(attack):
    """HTTP/2 connections without a window, each with 60 requests for the longest answer without a key."""
    get = wire.head("GET", "/openapi.json")
    flags = wire.END_STREAM | wire.END_HEADERS
    requests = b"".join(wire.frame(wire.HEADERS, flags, stream, get) for stream in range(1, 121, 2))
    await attack.many(40, lambda source, _: attack.unread(source, wire.beginning(0) + requests))


async def full_queue(attack):
    """One client asks for 100 images at once, and again as soon as it is answered."""
    await attack.many(100, lambda source, _: attack.ask(source, attack.sealed(steps=8)))


async def small_jobs(attack):
    """Ten images of 16x16 a request, which once made the node believe that every image takes minutes."""
    await attack.many(4, lambda source, _: attack.ask(source, attack.sealed(size="16x16", n=10)))


async def hang_ups(attack):
    """Requests whose client is gone before, or while, its image is made."""
    async def gone(source, _):
        reader, writer = await wire.connect(attack.target, source)
        writer.write(attack.sealed(steps=8))
        await writer.drain()
        await asyncio.sleep(random.random() / 5)
        writer.transport.abort()
    await attack.many(30, gone)


async def quotes(attack):
    """100 verifiers at once, each with another nonce every time."""
    request = lambda: wire.get(f"/v1/attestation?nonce={os.urandom(32).hex()}")
    await attack.many(100, lambda source, _: attack.ask(source, request()))


async def replays(attack):
    """One recorded request, sent again and again."""
    recorded = attack.sealed()
    await attack.many(20, lambda source, _: attack.ask(source, recorded))


async def refusals(attack):
    """Sealed requests that break a rule: opened, refused, free of charge."""
    await attack.many(20, lambda source, _: attack.ask(source, attack.sealed(size="1x1")))


async def garbage(attack):
    """Envelopes that are none: noise, keys of low order, half a ciphertext, depth, a long text."""
    envelope = wire.seal(attack.target.node_key)[0]
    bodies = [
        os.urandom(5000),
        b"[" * 100_000,
        envelope | {"client_dh_public_key": wire.b64(bytes(32))},
        envelope | {"ciphertext": envelope["ciphertext"][:40]},
        envelope | {"ciphertext": wire.b64(os.urandom(180_000))},
        envelope | {"nonce": "A" * 100_000},
        envelope | {"node_dh_public_key": wire.b64(os.urandom(32))},
    ]
    requests = [wire.post(wire.GENERATE, body, KEY) for body in bodies]
    await attack.many(21, lambda source, n: attack.ask(source, requests[n % len(requests)]))


async def wrong_keys(attack):
    """Guessed keys before bodies of the largest size."""
    body = b" " * wire.MAX_BODY_BYTES
    request = lambda: wire.post(wire.GENERATE, body, os.urandom(16).hex())
    await attack.many(40, lambda source, _: attack.ask(source, request()))


async def odd_heads(attack):
    """Methods, paths and headers of many kilobytes."""
    heads = [b"A" * 30_000 + b" / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
             b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 9_000 + b"\r\n"]
    await attack.many(20, lambda source, n: attack.ask(source, heads[n % 3]))


async def rapid_resets(attack):
    """HTTP/2 streams that are opened and reset, 2,000 at a time (CVE-2023-44487)."""
    opened, cancel = wire.head("GET", "/openapi.json"), (8).to_bytes(4, "big")
    flags = wire.END_STREAM | wire.END_HEADERS
    flood = b"".join(
        wire.frame(wire.HEADERS, flags, stream, opened) + wire.frame(wire.RST_STREAM, 0, stream, cancel)
        for stream in range(1, 4001, 2)
    )
    await attack.many(10, lambda source, _: attack.hold(source, wire.beginning(65535) + flood))


async def endless_heads(attack):
    """HTTP/2 heads that go on in frame after frame (CVE-2024-27316)."""
    more = wire.frame(wire.CONTINUATION, 0, 1, (b"\0\1a\x64" + b"b" * 100) * 100)
    first = wire.beginning(65535) + wire.frame(wire.HEADERS, 0, 1, wire.head("GET", "/"))
    await attack.many(10, lambda source, _: attack.hold(source, first + more * 200))


async def control_frames(attack):
    """HTTP/2 frames that ask for an answer, from a client that reads none."""
    floods = itertools.cycle([wire.frame(wire.PING, 0, 0, b"7" * 8), wire.frame(wire.SETTINGS, 0, 0)])
    await attack.many(10, lambda source, _: attack.unread(source, wire.beginning(65535) + next(floods) * 100_000))


ALL = [
    slow_bodies, half_open, large_bodies, dripping_bodies, stalled_streams, unread_answers, full_queue, small_jobs,
    hang_ups, quotes, replays, refusals, garbage, wrong_keys, odd_heads, rapid_resets, endless_heads, control_frames,
]


def run(attack, target, seconds, results):
    """A process: one attack, for so long; puts what became of it into `results`."""
    state = Attack(target, seconds)
    asyncio.run(attack(state))
    results.put(("attempts", dict(state.count)))
