"""Carries a session's calls by httpx or httpx2, blocking or not; and stands in for the network of an OpenAI client.

Calls go through a transport of that library, below its redirects, cookies, decompression and environment: what
is sent is what is written here.
"""

from __future__ import annotations

import functools
import importlib
import json
import ssl
import threading
from importlib import metadata
from types import ModuleType
from typing import Any, AsyncIterator, Iterator, Mapping
from urllib.parse import urlsplit

from ._errors import AnswerError, ConfigurationError, ConnectionError, NodeUntrustedError, ObscuraError, RefusedError
from ._session import Answer, Call, Events, Exchanged, MAX_WORDS_BYTES, Session, StaleKey, expect_type, untrusted

TIMEOUT = {"connect": 10.0, "read": 600.0, "write": 60.0, "pool": 60.0}
PATH = "/v1/images/generations"
PASSED = ("retry-after", "x-request-id", "x-should-retry")


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
    return http.Request(call.method, url + call.path, headers=headers, content=call.content, extensions={"timeout": dict(timeout)})


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


class Carrier:
    """Blocking."""

    def __init__(self, session: Session, http: ModuleType, verify: Any, transport: Any = None):
        self.session, self.http = session, http
        self._inner = transport if transport is not None else http.HTTPTransport(verify=verify, trust_env=False)
        self._asking = threading.Lock()

    def attest(self) -> Any:
        with self._asking:
            return self._run(self.session.attest())

    def exchange(self, request: Mapping[str, Any], authorization: str | None = None, timeout: Any = None) -> Exchanged:
        for retries in (1, 0):
            attested = self._recipient()
            try:
                return self._run(self.session.exchange(attested, request, authorization, timeout))
            except StaleKey:
                if not retries:
                    raise
        raise AssertionError("the second answer returns or raises")

    def close(self) -> None:
        self._inner.close()

    def events(self, exchanged: Exchanged) -> Iterator[dict[str, Any]]:
        """The events of an answer. Whoever stops reading, or finds a fault, ends the connection."""
        events, stream = _stream(exchanged)
        try:
            expect_type(exchanged.headers, "text/event-stream")
            for chunk in self._chunks(stream):
                yield from events.feed(chunk)
                if events.ended:
                    return
            events.close()
        finally:
            stream.close()

    def _recipient(self) -> Any:
        attested = self.session.recipient()
        if attested is None:
            with self._asking:
                # Another thread may have asked meanwhile.
                attested = self.session.recipient()
                if attested is None:
                    appraisal = self._run(self.session.attest())
                    attested = appraisal.attested
                    if attested is None:
                        raise untrusted(appraisal)
        return attested

    def _run(self, steps: Any) -> Any:
        try:
            call = next(steps)
            while True:
                call = steps.send(self._send(call))
        except StopIteration as done:
            return done.value

    def _send(self, call: Call) -> Answer:
        try:
            response = self._inner.handle_request(_request(self.http, self.session.url, call))
        except self.http.TransportError as error:
            raise _unreachable(error) from error
        unread = False
        try:
            answer = _answer(response)
            unread = call.streams and answer.status == 200
            if not unread:
                body = bytearray()
                for chunk in self._chunks(response.stream):
                    body += chunk
                    _room(len(body), answer, call)
                answer.body = bytes(body)
            return answer
        finally:
            if not unread:
                response.stream.close()

    def _chunks(self, stream: Any) -> Iterator[bytes]:
        try:
            yield from stream
        except self.http.TransportError as error:
            raise _broke(error) from error


class AsyncCarrier:
    """The same for `async`."""

    def __init__(self, session: Session, http: ModuleType, verify: Any, transport: Any = None):
        import anyio  # which both libraries need

        self.session, self.http = session, http
        self._inner = transport if transport is not None else http.AsyncHTTPTransport(verify=verify, trust_env=False)
        self._asking = anyio.Lock()
        self._shield = functools.partial(anyio.CancelScope, shield=True)

    async def attest(self) -> Any:
        async with self._asking:
            return await self._run(self.session.attest())

    async def exchange(self, request: Mapping[str, Any], authorization: str | None = None, timeout: Any = None) -> Exchanged:
        for retries in (1, 0):
            attested = await self._recipient()
            try:
                return await self._run(self.session.exchange(attested, request, authorization, timeout))
            except StaleKey:
                if not retries:
                    raise
        raise AssertionError("the second answer returns or raises")

    async def close(self) -> None:
        await self._inner.aclose()

    async def events(self, exchanged: Exchanged) -> AsyncIterator[dict[str, Any]]:
        events, stream = _stream(exchanged)
        try:
            expect_type(exchanged.headers, "text/event-stream")
            async for chunk in self._chunks(stream):
                for event in events.feed(chunk):
                    yield event
                if events.ended:
                    return
            events.close()
        finally:
            with self._shield():
                await stream.aclose()

    async def _recipient(self) -> Any:
        attested = self.session.recipient()
        if attested is None:
            async with self._asking:
                attested = self.session.recipient()
                if attested is None:
                    appraisal = await self._run(self.session.attest())
                    attested = appraisal.attested
                    if attested is None:
                        raise untrusted(appraisal)
        return attested

    async def _run(self, steps: Any) -> Any:
        try:
            call = next(steps)
            while True:
                call = steps.send(await self._send(call))
        except StopIteration as done:
            return done.value

    async def _send(self, call: Call) -> Answer:
        try:
            response = await self._inner.handle_async_request(_request(self.http, self.session.url, call))
        except self.http.TransportError as error:
            raise _unreachable(error) from error
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
                with self._shield():
                    await response.stream.aclose()

    async def _chunks(self, stream: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in stream:
                yield chunk
        except self.http.TransportError as error:
            raise _broke(error) from error


def _stream(exchanged: Exchanged) -> tuple[Events, Any]:
    assert exchanged.events is not None, "asked with `stream`"
    return exchanged.events, exchanged.stream


def _unreachable(error: Exception) -> ConnectionError:
    return ConnectionError(f"the node cannot be reached: {type(error).__name__}")


def _broke(error: Exception) -> ConnectionError:
    return ConnectionError(f"the connection to the node broke: {type(error).__name__}")


# What an OpenAI client asks, and is told.


def asked(session: Session, request: Any, content: bytes) -> dict[str, Any] | tuple[int, str | None, str]:
    """The image request; or why nothing is sent: status, code and message."""
    # Compared as texts, path undecoded: what is not byte for byte this route is not it.
    url = str(request.url)
    if request.method != "POST" or url != session.url + PATH:
        path = urlsplit(url).path
        return 404, "not_sealed", f"{request.method} {path} is nothing that is sealed, and was not sent: POST {session.url}{PATH} is"
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return 400, None, "the body is not a JSON object, and was not sent"
    return body


def told(exchanged: Exchanged, response_format: object) -> tuple[int, dict[str, str], bytes]:
    """An answer's status, headers and body. Images came once, as URLs that hold them: they are told as the caller asked."""
    body = dict(exchanged.body or {})
    if response_format != "url":
        body["data"] = [
            {"b64_json": entry.get("b64_json") or entry["url"].partition(",")[2]} | {k: v for k, v in entry.items() if k not in ("url", "b64_json")}
            for entry in body["data"]
        ]
    return 200, passed(exchanged.headers, "application/json"), json.dumps(body).encode()


def passed(headers: Mapping[str, str], kind: str) -> dict[str, str]:
    return {"content-type": kind} | {name: headers[name] for name in PASSED if name in headers}


def failure(status: int, code: str | None, message: str, kind: str = "invalid_request_error") -> tuple[int, dict[str, str], bytes]:
    """To ask again would not help."""
    error = {"message": message, "type": kind, "code": code, "param": None}
    return status, {"content-type": "application/json", "x-should-retry": "false"}, json.dumps({"error": error}).encode()


def told_error(error: ObscuraError) -> tuple[int, dict[str, str], bytes] | None:
    """In OpenAI's words; nothing where it is the network's, which the library's own errors speak of."""
    if isinstance(error, RefusedError):
        words = {"message": error.reason, "type": error.type, "code": error.code, "param": error.param}
        return error.status, passed(error.headers, "application/json"), json.dumps({"error": words}).encode()
    if isinstance(error, NodeUntrustedError):
        return failure(502, "node_untrusted", str(error), "api_error")
    if isinstance(error, AnswerError):
        return failure(502, "answer_untrusted", str(error), "api_error")
    if isinstance(error, ConfigurationError):
        return failure(400, "configuration", str(error))
    return None


def line(event: Mapping[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


@functools.cache
def transports(http: ModuleType) -> tuple[type, type]:
    """The two transports, as classes of this library."""

    class Stream(http.SyncByteStream):  # type: ignore[name-defined]
        def __init__(self, exchanged: Exchanged, carrier: Carrier):
            self._events = carrier.events(exchanged)
            self._body = exchanged.stream

        def __iter__(self) -> Iterator[bytes]:
            try:
                for event in self._events:
                    yield line(event)
            except ConnectionError as error:
                raise http.ReadError(str(error)) from error

        def close(self) -> None:
            # A generator that nobody began does not close what it was to read.
            self._events.close()  # type: ignore[attr-defined]
            self._body.close()

    class AsyncStream(http.AsyncByteStream):  # type: ignore[name-defined]
        def __init__(self, exchanged: Exchanged, carrier: AsyncCarrier):
            self._events = carrier.events(exchanged)
            self._body = exchanged.stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for event in self._events:
                    yield line(event)
            except ConnectionError as error:
                raise http.ReadError(str(error)) from error

        async def aclose(self) -> None:
            # A generator that nobody began does not close what it was to read.
            await self._events.aclose()  # type: ignore[attr-defined]
            await self._body.aclose()

    class Transport(http.BaseTransport):  # type: ignore[name-defined]
        """Seals image requests; answers everything else itself."""

        def __init__(self, carrier: Carrier):
            self._carrier = carrier

        def handle_request(self, request: Any) -> Any:
            body = asked(self._carrier.session, request, request.read())
            if isinstance(body, tuple):
                return _response(http, failure(*body))
            response_format = body.get("response_format")
            if response_format == "b64_json":
                del body["response_format"]
            how = request.headers.get("authorization"), request.extensions.get("timeout")
            try:
                exchanged = self._carrier.exchange(body, *how)
            except ObscuraError as error:
                if (words := told_error(error)) is not None:
                    return _response(http, words)
                raise http.ConnectError(str(error), request=request) from error
            if exchanged.events is None:
                return _response(http, told(exchanged, response_format))
            stream = Stream(exchanged, self._carrier)
            return http.Response(200, headers=passed(exchanged.headers, "text/event-stream"), stream=stream)

        def close(self) -> None:
            self._carrier.close()

    class AsyncTransport(http.AsyncBaseTransport):  # type: ignore[name-defined]
        """The same for `async`."""

        def __init__(self, carrier: AsyncCarrier):
            self._carrier = carrier

        async def handle_async_request(self, request: Any) -> Any:
            body = asked(self._carrier.session, request, await request.aread())
            if isinstance(body, tuple):
                return _response(http, failure(*body))
            response_format = body.get("response_format")
            if response_format == "b64_json":
                del body["response_format"]
            how = request.headers.get("authorization"), request.extensions.get("timeout")
            try:
                exchanged = await self._carrier.exchange(body, *how)
            except ObscuraError as error:
                if (words := told_error(error)) is not None:
                    return _response(http, words)
                raise http.ConnectError(str(error), request=request) from error
            if exchanged.events is None:
                return _response(http, told(exchanged, response_format))
            stream = AsyncStream(exchanged, self._carrier)
            return http.Response(200, headers=passed(exchanged.headers, "text/event-stream"), stream=stream)

        async def aclose(self) -> None:
            await self._carrier.close()

    return Transport, AsyncTransport


def _response(http: ModuleType, words: tuple[int, dict[str, str], bytes]) -> Any:
    status, headers, content = words
    return http.Response(status, headers=headers, content=content)
