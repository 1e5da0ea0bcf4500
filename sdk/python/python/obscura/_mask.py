"""Masks: what of an edit's first image is drawn anew, as a PNG that is transparent there."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from ._errors import ConfigurationError

MAX_SIDE_PX = 16_384

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are outside of it."""

# What is drawn anew is black.
_BITS = bytes.maketrans(bytes(range(256)), b"1" + b"0" * 255)


def mask(width_px: int, height_px: int, redrawn: Sequence[Box] | bytes | bytearray | memoryview) -> bytes:
    """A mask for an image of this size, the right way up: transparent in `redrawn`, which is drawn anew, opaque elsewhere.

    `redrawn` is rectangles, or one byte a pixel, row by row, that is 0 where the image is kept. Raises
    `ConfigurationError` where that does not fit the size. The file has one bit of grey a pixel, whose black is
    transparent (ISO/IEC 15948, 11.3.2.1).
    """
    if not all(isinstance(side, int) and 1 <= side <= MAX_SIDE_PX for side in (width_px, height_px)):
        raise ConfigurationError(f"the sides of a mask have from 1 to {MAX_SIDE_PX} pixels")
    if isinstance(redrawn, (bytes, bytearray, memoryview)):
        cells = bytes(redrawn)
        if len(cells) != width_px * height_px:
            raise ConfigurationError(f"{len(cells)} bytes are not one for each of {width_px}×{height_px} pixels")
        lines = (cells[at : at + width_px] for at in range(0, len(cells), width_px))
    else:
        boxes = [_checked(box, width_px, height_px) for box in redrawn]
        lines = (_line(boxes, width_px, y) for y in range(height_px))
    header = struct.pack(">IIBBBBB", width_px, height_px, 1, 0, 0, 0, 0)
    rows = b"".join(_row(line) for line in lines)
    chunks = [(b"IHDR", header), (b"tRNS", b"\0\0"), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name + data) for name, data in chunks)


def _checked(box: Box, width_px: int, height_px: int) -> Box:
    try:
        left, top, right, bottom = box
        fits = 0 <= left < right <= width_px and 0 <= top < bottom <= height_px
        fits = fits and all(isinstance(side, int) for side in box)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ConfigurationError(f"{box!r} is no rectangle inside of {width_px}×{height_px} pixels")
    return box


def _line(boxes: list[Box], width_px: int, y: int) -> bytes:
    line = bytearray(width_px)
    for left, top, right, bottom in boxes:
        if top <= y < bottom:
            line[left:right] = b"\1" * (right - left)
    return bytes(line)


def _row(line: bytes) -> bytes:
    """A bit a pixel, after its filter, which is none."""
    stride = (len(line) + 7) // 8
    return b"\0" + int(line.translate(_BITS).ljust(8 * stride, b"0"), 2).to_bytes(stride, "big")


def _chunk(named: bytes) -> bytes:
    """Length, name, data and checksum (5.3)."""
    return struct.pack(">I", len(named) - 4) + named + struct.pack(">I", zlib.crc32(named))
