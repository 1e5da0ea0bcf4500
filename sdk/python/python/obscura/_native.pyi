"""The extension: Rust's `attest` and `seal`."""

from typing import Final, Literal

MAX_REPORT_BYTES: int

class AnswerFault(Exception):
    """What is wrong with an answer: (fault, message)."""

class Policy:
    """Rules by which evidence is judged: those of this release, or of a TOML text."""

    def __new__(
        cls,
        toml: str | None = None,
        *,
        accept_simulated: bool = False,
        simulated_toml: str | None = None,
        require_attested_tls: bool = False,
    ) -> Policy: ...
    digest: Final[str]
    accepts_simulated: Final[bool]

class Check:
    id: Final[str]
    title: Final[str]
    outcome: Final[Literal["PASS", "FAIL", "SKIP", "INFO"]]
    detail: Final[str]
    line: Final[str]

class Appraisal:
    verdict: Final[Literal["accepted", "rejected", "unsupported", "malformed"]]
    exit_code: Final[int]
    platform: Final[str | None]
    checks: Final[list[Check]]
    attested: Final[Attested | None]

class Attested:
    """What accepted evidence vouches for. Only an `Appraisal` gives one."""

    platform: Final[str]
    exchange_key: Final[bytes]
    signing_key: Final[bytes]
    keyset_digest: Final[bytes]
    model_manifest: Final[bytes]
    tls_spki_sha256: Final[bytes | None]
    not_after: Final[int]

class Exchange:
    def open(self, answer: bytes) -> bytes: ...

def appraise(
    report: bytes, *, nonce: str | None, now: int, policy: Policy, certificate: bytes | None = None
) -> Appraisal: ...
def seal(attested: Attested, body: bytes) -> tuple[str, Exchange]: ...
def dangerous_seal(
    node_key: bytes, body: bytes, secrets: tuple[bytes, bytes, bytes], attested: tuple[bytes, bytes, bytes]
) -> tuple[str, Exchange]: ...
