"""Input images of an edit: files out of a form or from the caller, as the sealed request names them."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

from ._errors import ConfigurationError

MAX_BYTES = 20_000_000
INTEGERS = {"n", "output_compression", "partial_images", "seed", "steps"}
FLAGS = {"stream", "progress"}

InputImage = bytes | os.PathLike[str] | str
"""PNG, JPEG or WebP: a file's bytes, its path, or a `data:` URL of it. A node fetches nothing."""


def data_urls(images: Sequence[InputImage]) -> list[str]:
    """The input images of one request; refuses what no node would take, before it is sealed.

    Raises `ConfigurationError`.
    """
    if isinstance(images, (bytes, str, os.PathLike)):
        raise ConfigurationError("`images` is a list, also of one image")
    urls = []
    left = MAX_BYTES
    for image in images:
        url = image if isinstance(image, str) else _data_url(_read(image, left))
        # A text from elsewhere would be a file that the node would have to fetch.
        head, comma, text = url.partition(",")
        if not comma or head[:5].lower() != "data:" or not head.lower().endswith(";base64"):
            raise ConfigurationError("an input image is a file, or a data: URL in base64")
        left -= len(text) * 3 // 4 - text[-2:].count("=")
        if left < 0:
            raise ConfigurationError(f"the input images have more than {MAX_BYTES} bytes")
        urls.append(url)
    return urls


def edit_fields(images: Sequence[InputImage], mask: InputImage | None) -> dict[str, Any]:
    """What an edit has beside a generation's fields. Files count together.

    Raises `ConfigurationError`.
    """
    if mask is None:
        return {"images": data_urls(images)}
    if isinstance(images, (bytes, str, os.PathLike)):
        raise ConfigurationError("`images` is a list, also of one image")
    *urls, mask = data_urls([*images, mask])
    return {"images": urls, "mask": mask}


def _read(image: object, most: int) -> bytes:
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if not isinstance(image, os.PathLike):
        raise ConfigurationError("an input image is bytes, a path or a data: URL")
    try:
        with Path(image).open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise ConfigurationError(f"an input image cannot be read: {error.strerror}") from None


def _data_url(file: bytes) -> str:
    """What a file is, its first bytes say."""
    if file.startswith(b"\x89PNG"):
        kind = "png"
    elif file.startswith(b"\xff\xd8"):
        kind = "jpeg"
    elif file.startswith(b"RIFF") and file[8:12] == b"WEBP":
        kind = "webp"
    else:
        raise ConfigurationError("an input image is a PNG, JPEG or WebP file")
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def form_request(content: bytes, content_type: str) -> dict[str, Any]:
    """The form that OpenAI's clients send for an edit (RFC 7578), as the JSON that is sealed.

    What is no number where one should be stays a text, which the node refuses by its name. Raises
    `ConfigurationError`.
    """
    request: dict[str, Any] = {}
    images, masks = [], []
    for name, is_file, value in _parts(content, content_type):
        files = {"image": images, "image[]": images, "mask": masks}.get(name)
        if (files is not None) != is_file:
            raise ConfigurationError(f"{name} is {'a' if is_file else 'no'} file")
        if files is not None:
            files.append(value)
        elif name in request:
            raise ConfigurationError(f"{name} stands twice")
        else:
            request[name] = _value(name, value)
    if len(masks) > 1:
        raise ConfigurationError("mask stands twice")
    return request | edit_fields(images, masks[0] if masks else None)


def _value(name: str, value: bytes) -> Any:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name} is no text") from None
    try:
        if name in INTEGERS and len(text) <= 20:
            return int(text)
        if name == "guidance":
            return float(text)
    except ValueError:
        return text
    return text == "true" if name in FLAGS and text in ("true", "false") else text


def _parts(content: bytes, content_type: str) -> Iterator[tuple[str, bool, bytes]]:
    """Name, whether it is a file, and value of each part."""
    kind = Message()
    kind["content-type"] = content_type
    boundary = kind.get_boundary()
    fault = ConfigurationError("the form cannot be read")
    if not boundary or not boundary.isascii():
        raise fault
    before, *parts = (b"\r\n" + content).split(b"\r\n--" + boundary.encode())
    if before or not parts or not parts.pop().startswith(b"--"):
        raise fault
    for part in parts:
        head, blank, value = part.partition(b"\r\n\r\n")
        headers = BytesHeaderParser().parsebytes(head.removeprefix(b"\r\n"))
        name = headers.get_param("name", header="content-disposition")
        if not blank or not isinstance(name, str):
            raise fault
        yield name, headers.get_filename() is not None, value
