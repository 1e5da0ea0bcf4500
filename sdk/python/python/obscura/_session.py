"""One node, without any input or output: which requests to make, and what to make of the answers.

`Session` speaks as generators that yield a `Call` and get an `Answer`: `_http.py` carries them, blocking or not.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from . import _native
from ._errors import AnswerError, ConfigurationError, ConnectionError, RefusedError

MAX_ANSWER_BYTES = 160 * 1024 * 1024
MAX_WORDS_BYTES = 1024 * 1024
MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_LINES = 100_000
MAX_AGE_SECS = 600
MARGIN_SECS = 60
ATTEST_TIMEOUT_SECS = 90.0
OPERATIONS = {"generations": "image_generation", "edits": "image_edit"}
"""The last part of each operation's route, and how the events of its answers are called."""
_KEY = re.compile(r"[!-~]{1,4096}")
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*")


@dataclass
class Call:
    """A request to the node. An answer with status 200 is handed over unread where `streams`."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    max_bytes: int = MAX_ANSWER_BYTES
    timeout: Any = None
    streams: bool = False


@dataclass
class Answer:
    """What came back: `body` is all of it, or nothing where it is a stream that is still to be read.

    `certificate` is the peer's, DER, where there was TLS, which found it valid. `stream` is the carrier's.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    certificate: bytes | None = None
    stream: Any = None


@dataclass
class Exchanged:
    """The attested node's answer: a body, or events that are still to be read from `stream`."""

    headers: Mapping[str, str]
    body: dict[str, Any] | None = None
    events: Any = None
    stream: Any = None


@dataclass(frozen=True)
class _Trusted:
    attested: _native.Attested
    since: float
    until: float
    """When to ask for evidence anew: before the keys end, and every ten minutes."""


class Session:
    """What is known of one node."""

    def __init__(
        self,
        url: str,
        *,
        policy: _native.Policy | str | None = None,
        accept_simulated: bool = False,
        api_key: str | None = None,
        insecure_http: bool = False,
        now: Callable[[], float] = time.time,
    ):
        self.url, self._is_private = _base(url)
        self._is_private = self._is_private or insecure_http
        self._policy = _policy(policy, accept_simulated)
        self._now = now
        self._authorization = None if api_key is None else f"Bearer {_bearer_key(api_key)}"
        self.credentials(self._authorization)
        self._trusted: _Trusted | None = None
        self.appraisal: _native.Appraisal | None = None

    def credentials(self, value: str | None) -> dict[str, str]:
        """The bearer key's header; refuses where everyone on the way could read it."""
        if value is None:
            return {}
        if not self._is_private:
            raise ConfigurationError(
                "the API key is not sent over plain http://, where everyone on the way can read it"
            )
        return {"authorization": value}

    def recipient(self) -> _native.Attested | None:
        """Whom to seal to; nobody where there is no evidence, or it has become too old."""
        trusted = self._trusted
        if trusted is not None and trusted.since <= self._now() < trusted.until:
            return trusted.attested
        return None

    def forget(self, attested: _native.Attested) -> None:
        """The node says that this key is no longer its own."""
        if self._trusted is not None and self._trusted.attested.keyset_digest == attested.keyset_digest:
            self._trusted = None

    def attest(self) -> Generator[Call, Answer, _native.Appraisal]:
        """Asks for evidence with a fresh nonce, and judges it. While it is not accepted, nothing is sent."""
        self._trusted = None
        nonce = secrets.token_hex(32)
        # Without the API key: nobody is known yet.
        path = f"/v1/attestation?nonce={nonce}"
        answer = yield Call("GET", path, max_bytes=_native.MAX_REPORT_BYTES, timeout=ATTEST_TIMEOUT_SECS)
        if answer.status != 200:
            raise RefusedError(answer.status, _words(answer.body), answer.headers, attested=False)
        expect_type(answer.headers, "application/json")
        now = self._now()
        appraisal = _native.appraise(
            answer.body, nonce=nonce, now=max(0, int(now)), policy=self._policy, certificate=answer.certificate
        )
        self.appraisal = appraisal
        attested = appraisal.attested
        if attested is not None:
            left = attested.not_after - now
            self._trusted = _Trusted(attested, now, now + min(MAX_AGE_SECS, left - min(MARGIN_SECS, left / 2)))
        return appraisal

    def exchange(
        self,
        attested: _native.Attested,
        operation: str,
        request: Mapping[str, Any],
        authorization: str | None = None,
        timeout: Any = None,
    ) -> Generator[Call, Answer, Exchanged]:
        """One sealed exchange. Raises `StaleKey` where the node says that its keys are others now."""
        headers = self.credentials(authorization or self._authorization)
        stream = request.get("stream") is True
        sealed, opener = _native.seal(attested, _salted(request))
        model = request.get("model")
        envelope = json.loads(sealed) | {"model_name": model if isinstance(model, str) else "", "stream": stream}
        content = json.dumps(envelope).encode()
        headers["content-type"] = "application/json"
        path = f"/v1/confidential/images/{operation}"
        answer = yield Call("POST", path, headers, content, timeout=timeout, streams=stream)
        if answer.status == 422:
            self.forget(attested)
            raise StaleKey(answer.status, _words(answer.body), answer.headers, attested=False)
        if answer.status != 200:
            raise _refusal(answer, opener)
        if stream:
            return Exchanged(answer.headers, events=Events(opener, OPERATIONS[operation]), stream=answer.stream)
        expect_type(answer.headers, "application/json")
        body = _object(_open(opener, answer.body))
        data = body.get("data")
        if not isinstance(data, list) or not all(
            isinstance(entry, dict) and isinstance(entry.get("url"), str) for entry in data
        ):
            raise AnswerError("shape", "the answer holds no images")
        return Exchanged(answer.headers, body=body)


class StaleKey(RefusedError):
    """The node did not open what was sealed to a key that is no longer its own (422)."""


class Events:
    """The events of one answer, out of the chunks of its body. One that is missing, repeated, moved or forged raises
    `AnswerError`, and so does an early end."""

    def __init__(self, opener: _native.Exchange, name: str = OPERATIONS["generations"]):
        self._opener = opener
        self._types = {f"{name}.progress", f"{name}.partial_image", f"{name}.completed", "error"}
        self._pending: list[bytes] = []
        self._pending_bytes = self._bytes = self._lines = self._expected = 0
        self.ended = False

    def feed(self, chunk: bytes) -> Generator[dict[str, Any], None, None]:
        """The events that end in this chunk. What follows the last event is not read."""
        self._bytes += len(chunk)
        if self._bytes > 4 * MAX_ANSWER_BYTES:
            raise ConnectionError("the node's stream does not end")
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._lines += 1
            if self._lines > MAX_LINES:
                raise ConnectionError("the node's stream has too many lines")
            line = b"".join([*self._pending, line])
            self._pending, self._pending_bytes = [], 0
            # Comments keep the connection alive; names and ids say nothing that a proxy could not have changed.
            if line.startswith(b"data:") and not self.ended:
                yield self._event(line[5:])
        self._pending.append(rest)
        self._pending_bytes += len(rest)
        if self._pending_bytes > MAX_LINE_BYTES:
            raise ConnectionError("the node's stream has a line that does not end")

    def close(self) -> None:
        """The body has ended."""
        if not self.ended:
            raise AnswerError("cut", "the answer was cut off before its end")

    def _event(self, data: bytes) -> dict[str, Any]:
        event = _object(_open(self._opener, data))
        number = event.get("sequence_number")
        if event.get("type") not in self._types or type(number) is not int:
            raise AnswerError("shape", "an event of an unknown kind")
        if number != self._expected:
            raise AnswerError("order", f"event {number} of the answer came where {self._expected} was due")
        self._expected += 1
        self.ended = event.get("final") is True or event["type"] == "error"
        return event


def refused_event(event: Mapping[str, Any], headers: Mapping[str, str]) -> RefusedError:
    """The last event of an answer that failed."""
    error = event.get("error")
    return RefusedError(200, error if isinstance(error, dict) else {}, headers, attested=True)


def expect_type(headers: Mapping[str, str], expected: str) -> None:
    """Raises `ConnectionError` where an answer says that it is of another type."""
    found = headers.get("content-type")
    if found is not None and found.split(";")[0].strip().lower() != expected:
        raise ConnectionError(f"the node's answer is not of the type {expected}")


def _base(url: str) -> tuple[str, bool]:
    """What stands before `/v1`, and whether what is sent there is private on the way."""
    fault = ConfigurationError(
        "the node's URL must begin with http:// or https:// and name a host, and no user, query or fragment"
    )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise fault from None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or "?" in url or "#" in url:
        raise fault
    if not all("!" <= c <= "~" for c in host) or "%" in host:
        raise fault
    # Sent as it is written: nothing that somebody on the way would write in another way.
    segments = parts.path.lower().replace("%2e", ".").split("/")
    if not _PATH.fullmatch(parts.path) or {".", ".."} & set(segments):
        raise ConfigurationError("the path of the node's URL holds what a path cannot, or dots for a segment")
    if parts.path.rstrip("/").endswith("/v1"):
        raise ConfigurationError("the node's URL ends before /v1: leave that out")
    name = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[parts.scheme]
    origin = f"{parts.scheme}://{name}" + ("" if port in (None, default) else f":{port}")
    return origin + parts.path.rstrip("/"), parts.scheme == "https" or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    """This very machine, whoever is asked: a resolver may know a name below `localhost`."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if address.version == 6 else None
    return (mapped or address).is_loopback


def _policy(policy: _native.Policy | str | None, accept_simulated: bool) -> _native.Policy:
    if isinstance(policy, _native.Policy):
        if accept_simulated and not policy.accepts_simulated:
            raise ConfigurationError("the policy says that simulated nodes are not accepted")
        return policy
    try:
        return _native.Policy(policy, accept_simulated=accept_simulated)
    except ValueError as error:
        raise ConfigurationError(f"the policy cannot be used: {error}") from None


def _bearer_key(key: str) -> str:
    """The key, where a header can carry it: visible ASCII. A line's end, which is read along with a key, is none."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ConfigurationError("the API key must be 1 to 4096 visible ASCII characters")
    return key


def _salted(request: Mapping[str, Any]) -> bytes:
    """The request's JSON with random text in it, so that its hash, which travels in clear, says nothing."""
    padding = base64.b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    try:
        return json.dumps({**request, "padding": padding}, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):
        # Without the cause, which may quote the prompt.
        raise ConfigurationError("the request holds what JSON cannot say") from None


def _open(opener: _native.Exchange, answer: bytes) -> bytes:
    try:
        return opener.open(answer)
    except _native.AnswerFault as fault:
        raise AnswerError(*fault.args) from None


def _refusal(answer: Answer, opener: _native.Exchange) -> RefusedError:
    """The refusal that was sealed to this client alone says which rule was broken."""
    if "ciphertext" not in _lenient(answer.body):
        return RefusedError(answer.status, _words(answer.body), answer.headers, attested=False)
    return RefusedError(answer.status, _words(_open(opener, answer.body)), answer.headers, attested=True)


def _words(body: bytes) -> dict[str, Any]:
    error = _lenient(body).get("error")
    return error if isinstance(error, dict) else {}


def _lenient(body: bytes) -> dict[str, Any]:
    try:
        return _object(body)
    except AnswerError:
        return {}


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # Without the cause, which quotes the body.
        raise AnswerError("shape", "the answer is not of the protocol's shape") from None
    if not isinstance(value, dict):
        raise AnswerError("shape", "the answer is not of the protocol's shape")
    return value


def _no_constant(name: str) -> float:
    """JSON has no `NaN` (RFC 8259 §6)."""
    raise ValueError(name)
