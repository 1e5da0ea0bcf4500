"""Stands in for the network of an OpenAI client: `OpenAI(http_client=obscura.client(N))`."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ._errors import AnswerError, ConfigurationError, ConnectionError, NodeUntrustedError, ObscuraError, RefusedError
from ._http import AsyncCarrier, Carrier, run
from ._images import form_request
from ._session import OPERATIONS, Exchanged, Session

PATHS = {f"/v1/images/{operation}": operation for operation in OPERATIONS}
PASSED = ("retry-after", "x-request-id", "x-should-retry")


class NotSealed(NamedTuple):
    """Why nothing is sent."""

    status: int
    code: str | None
    message: str


def asked(session: Session, request: Any, content: bytes) -> tuple[str, dict[str, Any]] | NotSealed:
    """The operation and its request; or why nothing is sent."""
    # Compared as texts, path undecoded: what is not byte for byte one of these routes is none of them.
    url = str(request.url)
    operation = PATHS.get(url.removeprefix(session.url)) if url.startswith(session.url) else None
    if request.method != "POST" or operation is None:
        path = urlsplit(url).path
        sealed = f"POST {session.url}{' or '.join(PATHS)} is"
        return NotSealed(404, "not_sealed", f"{request.method} {path} is nothing that is sealed, and was not sent: {sealed}")
    kind = request.headers.get("content-type", "")
    try:
        if operation == "edits" and kind.lower().startswith("multipart/form-data"):
            return operation, form_request(content, kind)
        body = json.loads(content)
    except ConfigurationError as error:
        return NotSealed(400, None, f"{error}; nothing was sent")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return NotSealed(400, None, "the body is not a JSON object, and was not sent")
    return operation, body


def told(exchanged: Exchanged, response_format: object) -> tuple[int, dict[str, str], bytes]:
    """An answer's status, headers and body. Images came once, as URLs that hold them: they are told as the caller asked."""
    body = dict(exchanged.body or {})
    if response_format != "url":
        body["data"] = [
            {"b64_json": entry.get("b64_json") or entry["url"].partition(",")[2]}
            | {k: v for k, v in entry.items() if k not in ("url", "b64_json")}
            for entry in body["data"]
        ]
    return 200, passed(exchanged.headers, "application/json"), json.dumps(body).encode()


def _take_format(body: dict[str, Any]) -> object:
    """How the caller wants images. `b64_json` is not passed on: they come once, as URLs, and are told as asked."""
    found = body.get("response_format")
    if found == "b64_json":
        del body["response_format"]
    return found


def passed(headers: Mapping[str, str], kind: str) -> dict[str, str]:
    return {"content-type": kind} | {name: headers[name] for name in PASSED if name in headers}


def failure(
    status: int, code: str | None, message: str, kind: str = "invalid_request_error"
) -> tuple[int, dict[str, str], bytes]:
    """To ask again would not help."""
    error = {"message": message, "type": kind, "code": code, "param": None}
    return (
        status,
        {"content-type": "application/json", "x-should-retry": "false"},
        json.dumps({"error": error}).encode(),
    )


def told_error(error: ObscuraError, http: ModuleType) -> tuple[int, dict[str, str], bytes]:
    """In OpenAI's words; raises the library's own error where it is the network's."""
    if isinstance(error, RefusedError):
        words = {"message": error.reason, "type": error.type, "code": error.code, "param": error.param}
        return error.status, passed(error.headers, "application/json"), json.dumps({"error": words}).encode()
    if isinstance(error, NodeUntrustedError):
        return failure(502, "node_untrusted", str(error), "api_error")
    if isinstance(error, AnswerError):
        return failure(502, "answer_untrusted", str(error), "api_error")
    if isinstance(error, ConfigurationError):
        return failure(400, "configuration", str(error))
    raise http.ConnectError(str(error)) from error


def line(event: Mapping[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


async def answered(
    carrier: AsyncCarrier, request: Any, content: bytes
) -> tuple[int, dict[str, str], bytes | Exchanged]:
    """Status, headers and body of what the OpenAI client gets; or the answer whose events are to be read."""
    found = asked(carrier.session, request, content)
    if isinstance(found, NotSealed):
        return failure(*found)
    operation, body = found
    response_format = _take_format(body)
    how = request.headers.get("authorization"), request.extensions.get("timeout")
    try:
        exchanged = await carrier.exchange(operation, body, *how)
    except ObscuraError as error:
        return told_error(error, carrier.http)
    if exchanged.events is None:
        return told(exchanged, response_format)
    return 200, passed(exchanged.headers, "text/event-stream"), exchanged


@functools.cache
def transports(http: ModuleType) -> tuple[type, type]:
    """The two transports, as classes of this library: they seal image requests, and answer everything else themselves."""

    class Stream(http.SyncByteStream):  # type: ignore[name-defined]
        def __init__(self, exchanged: Exchanged, carrier: Carrier):
            self._exchanged, self._carrier = exchanged, carrier
            self._events = carrier.events(exchanged)

        def __iter__(self) -> Iterator[bytes]:
            try:
                for event in self._events:
                    yield line(event)
            except ConnectionError as error:
                raise http.ReadError(str(error)) from error

        def close(self) -> None:
            # A generator that nobody began does not close what it was to read.
            self._events.close()  # type: ignore[attr-defined]
            run(self._carrier.inner.leave(self._exchanged))

    class AsyncStream(http.AsyncByteStream):  # type: ignore[name-defined]
        def __init__(self, exchanged: Exchanged, carrier: AsyncCarrier):
            self._exchanged, self._carrier = exchanged, carrier
            self._events = carrier.events(exchanged)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for event in self._events:
                    yield line(event)
            except ConnectionError as error:
                raise http.ReadError(str(error)) from error

        async def aclose(self) -> None:
            await self._events.aclose()  # type: ignore[attr-defined]
            await self._carrier.leave(self._exchanged)

    class Transport(http.BaseTransport):  # type: ignore[name-defined]
        def __init__(self, carrier: Carrier):
            self._carrier = carrier

        def handle_request(self, request: Any) -> Any:
            status, headers, body = run(answered(self._carrier.inner, request, request.read()))
            if isinstance(body, bytes):
                return http.Response(status, headers=headers, content=body)
            return http.Response(status, headers=headers, stream=Stream(body, self._carrier))

        def close(self) -> None:
            self._carrier.close()

    class AsyncTransport(http.AsyncBaseTransport):  # type: ignore[name-defined]
        def __init__(self, carrier: AsyncCarrier):
            self._carrier = carrier

        async def handle_async_request(self, request: Any) -> Any:
            status, headers, body = await answered(self._carrier, request, await request.aread())
            if isinstance(body, bytes):
                return http.Response(status, headers=headers, content=body)
            return http.Response(status, headers=headers, stream=AsyncStream(body, self._carrier))

        async def aclose(self) -> None:
            await self._carrier.close()

    return Transport, AsyncTransport
