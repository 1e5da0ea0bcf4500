"""Clients that do what clients do, and the probe that looks after the node meanwhile."""

import asyncio
import collections
import json
import os
import socket
import time

import wire

CLIENTS = 64
VERIFIERS = 2
# Clients share a few keys, as the users of a few applications do.
KEYS = [f"honest-{n}" for n in range(4)]
# As long as a node may take for a request (`deadline_secs`): whoever waits longer has lost.
TIMEOUT_SECS = 600
PROBE_PAUSE_SECS = 0.02


def run(target, seconds, results):
    """A process: all clients, for so long; puts what became of their requests into `results`."""
    results.put(("honest", asyncio.run(crowd(target, seconds))))


async def crowd(target, seconds):
    tally = {"served": 0, "told_to_wait": 0, "verified": 0, "lost": collections.Counter(), "took": []}
    until = time.monotonic() + seconds
    clients = [client(target, KEYS[n % len(KEYS)], until, tally) for n in range(CLIENTS)]
    verifiers = [verifier(target, until, tally) for _ in range(VERIFIERS)]
    await asyncio.gather(*clients, *verifiers)
    took = sorted(tally.pop("took"))
    at = lambda share: took[int(share * (len(took) - 1))] if took else None
    lost = tally.pop("lost")
    return tally | {"lost": sum(lost.values()), "lost_to": dict(lost), "p50_secs": at(0.5), "p99_secs": at(0.99)}


async def client(target, key, until, tally):
    """One sealed request after the other, on one connection for as long as it lasts."""
    connection = Connection(target)
    while time.monotonic() < until:
        envelope, cipher = wire.seal(target.node_key)
        started = time.monotonic()
        body = await until_answered(connection, wire.post(wire.GENERATE, envelope, key), tally)
        if body is None:
            continue
        if len(wire.opened(body, cipher)["data"]) == 1:
            tally["served"] += 1
            tally["took"].append(time.monotonic() - started)
        else:
            tally["lost"]["no image"] += 1
    connection.close()


async def verifier(target, until, tally):
    """Asks for evidence with a nonce of its own, about once a second."""
    connection = Connection(target)
    while time.monotonic() < until:
        nonce = os.urandom(32).hex()
        body = await until_answered(connection, wire.get(f"/v1/attestation?nonce={nonce}"), tally)
        if body is not None and json.loads(body)["nonce"] == nonce:
            tally["verified"] += 1
        elif body is not None:
            tally["lost"]["another's nonce"] += 1
        await asyncio.sleep(1)
    connection.close()


async def until_answered(connection, request, tally):
    """The body of a success; `None` where the request is lost. Who is told to come back, comes back."""
    deadline = time.monotonic() + TIMEOUT_SECS
    while time.monotonic() < deadline:
        try:
            status, headers, body = await asyncio.wait_for(connection.ask(request), TIMEOUT_SECS)
        except (OSError, EOFError, TimeoutError) as error:
            tally["lost"][type(error).__name__] += 1
            connection.close()
            return None
        if status == 200:
            return body
        if "retry-after" not in headers:
            tally["lost"][str(status)] += 1
            return None
        tally["told_to_wait"] += 1
        await asyncio.sleep(min(int(headers["retry-after"]), 1))
    tally["lost"]["told to wait for too long"] += 1
    return None


class Connection:
    def __init__(self, target):
        self.target, self.open = target, None

    async def ask(self, request):
        kept = self.open is not None
        try:
            return await self.exchange(request)
        except (OSError, EOFError):
            # A node may close a connection that is idle, and cannot say so in time. What does no harm twice is asked
            # again on a new one, as HTTP's clients do (RFC 9112, 9.3.1).
            if not (kept and request.startswith(b"GET ")):
                raise
            self.close()
            return await self.exchange(request)

    async def exchange(self, request):
        self.open = self.open or await wire.connect(self.target)
        reader, writer = self.open
        writer.write(request)
        status, headers, body = await wire.answer_of(reader)
        if headers.get("connection") == "close":
            self.close()
        return status, headers, body

    def close(self):
        if self.open:
            self.open[1].close()
        self.open = None


def probe(target, seconds, results):
    """A process: looks at `/healthz` on its listener, as an orchestrator does, on a new connection each."""
    took, failed = [], 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.monotonic()
        try:
            with socket.create_connection((target.host, target.health_port), timeout=5) as connection:
                connection.sendall(wire.get("/healthz"))
                failed += not connection.recv(1024).startswith(b"HTTP/1.1 200")
        except OSError:
            failed += 1
        took.append(time.monotonic() - started)
        time.sleep(PROBE_PAUSE_SECS)
    took.sort()
    at = lambda share: 1000 * took[int(share * (len(took) - 1))]
    result = {"probes": len(took), "failed": failed, "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1)}
    results.put(("probe", result))
