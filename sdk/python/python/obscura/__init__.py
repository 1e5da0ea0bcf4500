"""Verifies an Obscura node, and seals image requests to it.

    import obscura
    from openai import OpenAI

    N = "https://node.example"
    client = OpenAI(base_url=N + "/v1", api_key=KEY, http_client=obscura.client(N))
    client.images.generate(model=MODEL, prompt="a lighthouse at dusk")

Nothing of a prompt is sent before the node's evidence was judged, check by check.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from typing import Any, TypedDict

from ._errors import AnswerError, ConfigurationError, ConnectionError, NodeUntrustedError, ObscuraError, RefusedError
from ._http import AsyncCarrier, Carrier, context, library
from ._images import InputImage, edit_fields
from ._mask import Box, mask
from ._native import Appraisal, Attested, Check, Policy
from ._openai import transports
from ._session import Session, refused_event

__all__ = [
    "AnswerError", "Appraisal", "AsyncNode", "Attested", "Box", "Check", "ConfigurationError", "ConnectionError", "ImageEvent",
    "ImagesResponse", "InputImage", "Node", "NodeUntrustedError", "ObscuraError", "Policy", "RefusedError", "async_client", "client",
    "generate", "mask", "stream", "verify",
]  # fmt: skip


class ImagesResponse(TypedDict, total=False):
    """An answer; `docs/api.md` says what else may be in it."""

    created: int
    data: list[dict[str, Any]]
    seed: int
    warnings: list[str]


class ImageEvent(TypedDict, total=False):
    """One event of a stream: `type` is `image_generation.progress`, `.partial_image` or `.completed`; of an edit,
    `image_edit.…`."""

    type: str
    sequence_number: int
    b64_json: str
    index: int
    partial_image_index: int
    step: int
    steps: int
    seed: int
    final: bool


class _NodeBase:
    """What `Node` and `AsyncNode` are made of.

    `policy` is a `Policy`, or the text of one in TOML; this release's own unless given. `accept_simulated` accepts a
    node whose operator reads everything. `api_key` goes to another machine through TLS alone, unless `insecure_http`.
    `tls` judges the node's certificate. `http` names the library, `httpx` or `httpx2`. `now` is for tests.

    Raises `ConfigurationError`.
    """

    def __init__(
        self,
        url: str,
        *,
        policy: Policy | str | None = None,
        accept_simulated: bool = False,
        api_key: str | None = None,
        insecure_http: bool = False,
        tls: ssl.SSLContext | None = None,
        http: str | None = None,
        now: Callable[[], float] = time.time,
    ):
        self._session = Session(
            url, policy=policy, accept_simulated=accept_simulated, api_key=api_key, insecure_http=insecure_http, now=now
        )
        self._http = library(http)
        self._tls = context(tls)

    @property
    def url(self) -> str:
        return self._session.url

    @property
    def appraisal(self) -> Appraisal | None:
        """What came of the last evidence."""
        return self._session.appraisal


class Node(_NodeBase):
    """A node, for blocking programs. May be used by many threads. Options are those of `_NodeBase`."""

    def __init__(self, url: str, **options: Any):
        super().__init__(url, **options)
        self._carrier = Carrier(self._session, self._http, self._tls)

    def verify(self) -> Appraisal:
        """Asks for evidence anew, and judges it. While it is not accepted, nothing is sent.

        Raises `ConnectionError`, or `RefusedError` where the node gives none.
        """
        return self._carrier.attest()

    def trust(self) -> Node:
        """The same; raises `NodeUntrustedError`, with every check, where the evidence is refused."""
        appraisal = self.verify()
        if appraisal.attested is None:
            raise NodeUntrustedError(appraisal.checks)
        return self

    def generate(self, *, model: str, prompt: str, **fields: Any) -> ImagesResponse:
        """Seals a request, whose fields are those of `docs/api.md`, and gives the attested node's answer.

        `images`, a list of bytes, paths or `data:` URLs of PNG, JPEG or WebP files, makes it an edit, which not every
        model takes; `mask`, one such file of the first image's size, is transparent where that is drawn anew
        (`obscura.mask` makes one).
        Raises `NodeUntrustedError`, `RefusedError`, `AnswerError`, `ConnectionError`.
        """
        return self._carrier.exchange(*_asked(model, prompt, fields, False)).body  # type: ignore[return-value]

    def stream(self, *, model: str, prompt: str, **fields: Any) -> Iterator[ImageEvent]:
        """The same as events, previews among them with `partial_images`. One that is missing, repeated, moved or
        forged raises `AnswerError`, and so does an early end."""
        exchanged = self._carrier.exchange(*_asked(model, prompt, fields, True))
        with closing(self._carrier.events(exchanged)) as events:  # type: ignore[type-var]
            for event in events:
                if event["type"] == "error":
                    raise refused_event(event, exchanged.headers)
                yield event  # type: ignore[misc]

    def client(self, **options: Any) -> Any:
        """An `httpx.Client`, or that of httpx2, for `OpenAI(http_client=…)`: images are sealed, and nothing else is
        sent. `options` are that class's own."""
        return self._http.Client(transport=transports(self._http)[0](self._carrier), **_client_options(options))

    def close(self) -> None:
        self._carrier.close()

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncNode(_NodeBase):
    """The same for `async` programs, under asyncio or trio."""

    def __init__(self, url: str, **options: Any):
        super().__init__(url, **options)
        self._carrier = AsyncCarrier(self._session, self._http, self._tls)

    async def verify(self) -> Appraisal:
        """As `Node.verify`."""
        return await self._carrier.attest()

    async def trust(self) -> AsyncNode:
        """As `Node.trust`."""
        appraisal = await self.verify()
        if appraisal.attested is None:
            raise NodeUntrustedError(appraisal.checks)
        return self

    async def generate(self, *, model: str, prompt: str, **fields: Any) -> ImagesResponse:
        """As `Node.generate`."""
        return (await self._carrier.exchange(*_asked(model, prompt, fields, False))).body  # type: ignore[return-value]

    async def stream(self, *, model: str, prompt: str, **fields: Any) -> AsyncIterator[ImageEvent]:
        """As `Node.stream`. Who stops reading early closes it: `async with contextlib.aclosing(…)`."""
        exchanged = await self._carrier.exchange(*_asked(model, prompt, fields, True))
        async with aclosing(self._carrier.events(exchanged)) as events:  # type: ignore[type-var]
            async for event in events:
                if event["type"] == "error":
                    raise refused_event(event, exchanged.headers)
                yield event  # type: ignore[misc]

    def client(self, **options: Any) -> Any:
        """An `httpx.AsyncClient`, or that of httpx2, for `AsyncOpenAI(http_client=…)`."""
        return self._http.AsyncClient(transport=transports(self._http)[1](self._carrier), **_client_options(options))

    async def close(self) -> None:
        await self._carrier.close()

    async def __aenter__(self) -> AsyncNode:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def verify(url: str, **options: Any) -> Appraisal:
    """Asks a node for evidence with a fresh nonce, and judges it. Sends nothing else. `options` are `Node`'s."""
    with Node(url, **options) as node:
        return node.verify()


def client(url: str, **options: Any) -> Any:
    """An HTTP client for `OpenAI(http_client=…)` of a node that was verified. `options` are `Node`'s.

    Raises `NodeUntrustedError`, with every check, where the node's evidence is refused.
    """
    node = Node(url, **options)
    try:
        return node.trust().client()
    except BaseException:
        node.close()
        raise


def async_client(url: str, **options: Any) -> Any:
    """The same for `AsyncOpenAI`. The node is verified before its first request; one that is not trusted is a 502
    `node_untrusted` to the OpenAI client. `options` are `AsyncNode`'s."""
    return AsyncNode(url, **options).client()


def generate(
    url: str,
    *,
    model: str,
    prompt: str,
    images: Sequence[InputImage] | None = None,
    fields: dict[str, Any] | None = None,
    **rest: Any,
) -> ImagesResponse:
    """Verifies a node, and seals one request to it: an edit where there are `images`, bytes, paths or `data:` URLs of
    PNG, JPEG or WebP files. Of the `rest`, `Node`'s options are for the node, and all others are further fields of
    `docs/api.md`; `fields` may hold such as well."""
    options, asked = _sorted(rest)
    with Node(url, **options) as node:
        return node.generate(model=model, prompt=prompt, images=images, **(fields or {}), **asked)


def stream(
    url: str,
    *,
    model: str,
    prompt: str,
    images: Sequence[InputImage] | None = None,
    fields: dict[str, Any] | None = None,
    **rest: Any,
) -> Iterator[ImageEvent]:
    """The same as events."""
    options, asked = _sorted(rest)
    with Node(url, **options) as node:
        yield from node.stream(model=model, prompt=prompt, images=images, **(fields or {}), **asked)


def _sorted(rest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is `Node`'s, and what is the request's."""
    own = _NodeBase.__init__.__kwdefaults__
    options = {name: value for name, value in rest.items() if name in own}
    return options, {name: value for name, value in rest.items() if name not in own}


def _asked(model: str, prompt: str, fields: dict[str, Any], stream: bool) -> tuple[str, dict[str, Any]]:
    """The operation, and its request."""
    if "stream" in fields:
        raise ConfigurationError("`stream` is a method of its own")
    images, own_mask = fields.pop("images", None), fields.pop("mask", None)
    request = {"model": model, "prompt": prompt, **fields} | ({"stream": True} if stream else {})
    if images is None and own_mask is None:
        return "generations", request
    return "edits", request | edit_fields(images or [], own_mask)


def _client_options(options: dict[str, Any]) -> dict[str, Any]:
    if taken := {"transport", "mounts", "proxy", "verify", "cert", "trust_env"} & options.keys():
        raise ConfigurationError(f"{min(taken)} would go around what seals")
    # Mounts read from the environment would too.
    return {"timeout": 600.0, "follow_redirects": False, "trust_env": False, **options}
