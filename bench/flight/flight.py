"""A flight: parts one after the other, each with a limit, none of which takes another one down."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from process import Child, Outcome, run

# Less than this is not worth starting a part with.
LEAST_SECONDS = 8


@dataclass(frozen=True)
class Part:
    """Something to find out."""

    name: str
    # What it is expected to take, and what it may take; seconds.
    expected: int
    limit: int
    # Given the flight, the part's name and seconds: how it ended.
    run: Callable
    # Whether what it finds depends on our binary.
    ours: bool = True
    # A part that prepares itself while this one runs.
    beside: "Part | None" = None


@dataclass
class Flight:
    """What all parts share."""

    options: object
    card: dict
    record: object
    logs: object
    # Of our binary, which finds CUDA's libraries where torch has them.
    environment: dict
    deadline: float
    children: dict = field(default_factory=dict)

    def __post_init__(self):
        self.digest = digest(self.options.binary)

    def left(self):
        return self.deadline - time.monotonic()

    def finder(self, part):
        """What writes a child's JSON lines down as a part's findings."""
        own = ("part", "at")
        return lambda line: self.record.write(part, **{key: of for key, of in line.items() if key not in own})

    def run(self, part, words, seconds, environment=None, on_json=None):
        on_json, environment = on_json or self.finder(part), environment or self.environment
        return run(words, self.logs, log_name(part), seconds, on_json, environment)

    def start(self, part, words, environment=None):
        """Starts a part's process while others run; `children` holds it until the part takes over."""
        self.children[part] = Child(
            words, self.logs, log_name(part), self.finder(part), environment or dict(os.environ)
        )

    def is_done(self, part):
        return self.record.outcome(part.name, self.digest) == "done"


def fly(flight, parts):
    """Runs the parts that are not done: those that never ran first, then those that failed before."""
    for part in [part for part in parts if flight.is_done(part)]:
        say(flight, f"{part.name}: done before")
    todo = [part for part in parts if not flight.is_done(part)]
    try:
        for part in sorted(todo, key=lambda part: flight.record.outcome(part.name, flight.digest) is not None):
            if part.beside in todo:
                part.beside.run.prepare(flight, part.beside.name)
            fly_part(flight, part)
    finally:
        for child in flight.children.values():
            child.end()


def fly_part(flight, part):
    of_binary = {"binary": flight.digest} if part.ours else {}
    limit = min(part.limit, flight.options.limit)
    seconds = min(limit, flight.left())
    if seconds < min(LEAST_SECONDS, limit):
        flight.record.write(part.name, outcome="not run", reason="no time left", **of_binary)
        say(flight, f"{part.name}: not run, no time left")
        return
    flight.record.write(part.name, outcome="started", **of_binary)
    say(flight, f"{part.name}: at most {seconds:.0f} s …")
    started = time.monotonic()
    try:
        outcome = part.run(flight, part.name, seconds)
    # A part's own mistake must not cost the others their time.
    except Exception as error:  # noqa: BLE001
        outcome = Outcome(None, False, 0, f"{type(error).__name__}: {error}")
    took = round(time.monotonic() - started, 1)
    reason = {} if outcome.word == "done" else {"code": outcome.code, "reason": outcome.reason}
    flight.record.write(part.name, outcome=outcome.word, took_seconds=took, **reason, **of_binary)
    say(flight, f"{part.name}: {outcome.word} in {took:.0f} s")
    if reason:
        print(f"    {outcome.reason.splitlines()[-1] if outcome.reason else 'no reason given'}", flush=True)


def say(flight, what):
    print(f"[{flight.left():4.0f} s left] {what}", flush=True)


def log_name(part):
    return part.replace(" ", "-")


def digest(binary):
    """The first digits of a file's SHA-256; None where there is no such file."""
    if not binary.is_file():
        return None
    with binary.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
