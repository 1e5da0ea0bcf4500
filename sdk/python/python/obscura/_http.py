"""Carries a session's calls by httpx or httpx2, blocking or not.

Calls go through a transport of that library, below its redirects, cookies, decompression and environment: what
is sent is what is written here. It is written once, for `async`; where a transport blocks, its coroutines never
wait, and are run to their end on the spot.
"""

from __future__ import annotations

import importlib
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from importlib import metadata
from types import ModuleType
from typing import Any, TypeVar

from ._errors import ConfigurationError, ConnectionError, NodeUntrustedError
from ._session import MAX_WORDS_BYTES, Answer, Call, Exchanged, Session, StaleKey, expect_type

T = TypeVar("T")
TIMEOUT = {"connect": 10.0, "read": 600.0, "write": 60.0, "pool": 60.0}


def library(name: str | None) -> ModuleType:
    """httpx or httpx2: the one named, the one that the installed `openai` uses, or the one that is there."""
    if name not in (None, "httpx", "httpx2"):
        raise ConfigurationError("the HTTP library is httpx or httpx2")
    for choice in [name] if name else [_openais(), "httpx2", "httpx"]:
        try:
            return importlib.import_module(choice or "")
        except (ImportError, ValueError):
            continue
    raise ConfigurationError(f"{name} is not installed" if name else "neither httpx nor httpx2 is installed")


def _openais() -> str | None:
    try:
        required = metadata.requires("openai") or []
    except metadata.PackageNotFoundError:
        return None
    return "httpx2" if any(text.startswith("httpx2") and "extra ==" not in text for text in required) else "httpx"


def context(verify: ssl.SSLContext | None) -> Any:
    """How TLS judges the node's certificate. One that is not judged would pass for one that was."""
    if verify is None:
        return True
    if verify.verify_mode != ssl.CERT_REQUIRED or not verify.check_hostname:
        raise ConfigurationError("a TLS context that accepts any certificate proves nothing")
    return verify


def _request(http: ModuleType, url: str, call: Call) -> Any:
    headers = {"accept-encoding": "identity", "user-agent": "obscura-python", **call.headers}
    timeout = call.timeout if isinstance(call.timeout, Mapping) else TIMEOUT
    if isinstance(call.timeout, float):
        timeout = {**TIMEOUT, "read": call.timeout}
    return http.Request(
        call.method, url + call.path, headers=headers, content=call.content, extensions={"timeout": dict(timeout)}
    )


def _answer(response: Any) -> Answer:
    """The head of what came back, and whose certificate it came from."""
    if 300 <= response.status_code < 400:
        raise ConnectionError("the node wanted to send this client elsewhere")
    stream = response.extensions.get("network_stream")
    tls = stream.get_extra_info("ssl_object") if stream is not None else None
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    return Answer(response.status_code, dict(response.headers), certificate=certificate, stream=response.stream)


def _room(found: int, answer: Answer, call: Call) -> None:
    limit = call.max_bytes if answer.status == 200 else MAX_WORDS_BYTES
    if found > limit:
        raise ConnectionError(f"the node's answer is longer than {limit} bytes")


class AsyncCarrier:
    """For `async` programs."""

    def __init__(self, session: Session, http: ModuleType, verify: Any, network: Any = None):
        self.session, self.http = session, http
        self._network = network or _Async(http.AsyncHTTPTransport(verify=verify, trust_env=False))
        self._closed = False

    async def attest(self) -> Any:
        async with self._network.asking:
            return await self._run(self.session.attest())

    async def exchange(
        self, operation: str, request: Mapping[str, Any], authorization: str | None = None, timeout: Any = None
    ) -> Exchanged:
        for retries in (1, 0):
            attested = await self._recipient()
            try:
                return await self._run(self.session.exchange(attested, operation, request, authorization, timeout))
            except StaleKey:
                if not retries:
                    raise
        raise AssertionError("the second answer returns or raises")

    async def events(self, exchanged: Exchanged) -> AsyncIterator[dict[str, Any]]:
        """The events of an answer. Whoever stops reading, or finds a fault, ends the connection."""
        events, stream = exchanged.events, exchanged.stream
        try:
            expect_type(exchanged.headers, "text/event-stream")
            async for chunk in self._chunks(stream):
                for event in events.feed(chunk):
                    yield event
                if events.ended:
                    return
            events.close()
        finally:
            await self.leave(exchanged)

    async def leave(self, exchanged: Exchanged) -> None:
        """Ends the connection that an answer comes by."""
        await self._network.leave(exchanged.stream)

    async def close(self) -> None:
        self._closed = True
        await self._network.close()

    async def _recipient(self) -> Any:
        attested = self.session.recipient()
        if attested is None:
            async with self._network.asking:
                # Another thread or task may have asked meanwhile.
                attested = self.session.recipient()
                if attested is None:
                    appraisal = await self._run(self.session.attest())
                    if (attested := appraisal.attested) is None:
                        raise NodeUntrustedError(appraisal.checks)
        return attested

    async def _run(self, steps: Any) -> Any:
        try:
            call = next(steps)
            while True:
                call = steps.send(await self._send(call))
        except StopIteration as done:
            return done.value

    async def _send(self, call: Call) -> Answer:
        # The libraries' transports would connect anew, and nobody would close that.
        if self._closed:
            raise ConfigurationError("this node was closed: make another")
        try:
            response = await self._network.send(_request(self.http, self.session.url, call))
        except self.http.TransportError as error:
            raise _failed("the node cannot be reached", error) from error
        unread = False
        try:
            answer = _answer(response)
            unread = call.streams and answer.status == 200
            if not unread:
                body = bytearray()
                async for chunk in self._chunks(response.stream):
                    body += chunk
                    _room(len(body), answer, call)
                answer.body = bytes(body)
            return answer
        finally:
            if not unread:
                await self._network.leave(response.stream)

    async def _chunks(self, stream: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._network.chunks(stream):
                yield chunk
        except self.http.TransportError as error:
            raise _failed("the connection to the node broke", error) from error


class Carrier:
    """The same for programs that block. May be used by many threads."""

    def __init__(self, session: Session, http: ModuleType, verify: Any):
        network = _Blocking(http.HTTPTransport(verify=verify, trust_env=False))
        self.inner = AsyncCarrier(session, http, verify, network)

    def attest(self) -> Any:
        return run(self.inner.attest())

    def exchange(self, operation: str, request: Mapping[str, Any]) -> Exchanged:
        return run(self.inner.exchange(operation, request))

    def events(self, exchanged: Exchanged) -> Iterator[dict[str, Any]]:
        events = self.inner.events(exchanged)
        try:
            while True:
                try:
                    event = run(anext(events))
                except StopAsyncIteration:
                    return
                yield event
        finally:
            run(events.aclose())  # type: ignore[attr-defined]

    def close(self) -> None:
        run(self.inner.close())


def run(steps: Awaitable[T]) -> T:
    """Runs what never waits to its end."""
    try:
        next(steps.__await__())
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("a transport that blocks waits for nothing")


class _Async:
    """A transport that waits."""

    def __init__(self, transport: Any):
        import anyio  # which both libraries need

        self._transport, self._anyio = transport, anyio
        self.asking = anyio.Lock()

    async def send(self, request: Any) -> Any:
        return await self._transport.handle_async_request(request)

    async def chunks(self, stream: Any) -> AsyncIterator[bytes]:
        async for chunk in stream:
            yield chunk

    async def leave(self, stream: Any) -> None:
        with self._anyio.CancelScope(shield=True):
            await stream.aclose()

    async def close(self) -> None:
        await self._transport.aclose()


class _Blocking:
    """A transport that blocks, behind the same names."""

    def __init__(self, transport: Any):
        self._transport = transport
        self.asking = _ThreadLock()

    async def send(self, request: Any) -> Any:
        return self._transport.handle_request(request)

    async def chunks(self, stream: Any) -> AsyncIterator[bytes]:
        for chunk in stream:
            yield chunk

    async def leave(self, stream: Any) -> None:
        stream.close()

    async def close(self) -> None:
        self._transport.close()


class _ThreadLock:
    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


def _failed(what: str, error: Exception) -> ConnectionError:
    return ConnectionError(f"{what}: {type(error).__name__}")
