"""Why there is no image."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from ._native import Check


class ObscuraError(Exception):
    """Everything that this package raises."""


class ConfigurationError(ObscuraError):
    """What the caller gave cannot be used. Nothing was sent."""


class NodeUntrustedError(ObscuraError):
    """The node's evidence is refused: nothing was sent to it. `checks` says what was looked at."""

    def __init__(self, checks: Sequence[Check]):
        self.checks = list(checks)
        failing = [check for check in self.checks if check.outcome == "FAIL"]
        reasons = ", ".join(f"{check.id} ({check.detail})" if check.detail else check.id for check in failing)
        super().__init__(f"the node's evidence was refused, and nothing was sent to it: {reasons}")


class AnswerError(ObscuraError):
    """An answer that does not hold up: somebody changed it, or it is not the attested node's.

    `fault` is one of `malformed`, `reflected`, `decryption`, `hash`, `signature`, `signer`, `receipt_missing`,
    `receipt`, `shape`, `order`, `cut`.
    """

    def __init__(self, fault: str, message: str):
        self.fault = fault
        super().__init__(message)


class ConnectionError(ObscuraError):
    """The node cannot be reached, or answers what is no answer of this protocol."""


class RefusedError(ObscuraError):
    """The node says no, in OpenAI's words.

    `headers` may have been written by anybody on the way. `attested`: the attested node itself said so, sealed.
    """

    def __init__(self, status: int, error: Mapping[str, Any], headers: Mapping[str, str], *, attested: bool):
        self.status = status
        self.headers = dict(headers)
        self.attested = attested
        self.reason = printable(error.get("message")) or "no reason given"
        self.type = printable(error.get("type")) or "api_error"
        self.code = printable(error.get("code"))
        self.param = printable(error.get("param"))
        super().__init__(f"the node refused ({status}): {self.reason}")


def printable(text: object) -> str | None:
    """A peer's words, fit for a terminal: nothing that moves a cursor or turns the text around."""
    if not isinstance(text, str):
        return None
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c)[0] == "C" else c for c in text[:2000])
