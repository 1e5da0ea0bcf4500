"""A child process within a limit of time: its JSON lines as they come, everything else in log files."""

import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass

# Between asking a child to end and ending it.
GRACE_SECONDS = 3


@dataclass
class Outcome:
    """How a child ended."""

    code: int | None
    timed_out: bool
    seconds: float
    # The end of its standard error.
    reason: str

    @property
    def word(self):
        if self.timed_out:
            return "timed out"
        return "done" if self.code == 0 else "failed"


def run(words, logs, name, seconds, on_json=lambda line: None, environment=None):
    """Runs a command for at most so many seconds; its output is kept in `logs`/`name`.out and .err."""
    child = Child(words, logs, name, on_json, environment)
    return child.wait(seconds)


class Child:
    """A running command. It leads a process group, which ends with it."""

    def __init__(self, words, logs, name, on_json=lambda line: None, environment=None):
        self.started = time.monotonic()
        self.errors = logs / f"{name}.err"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**(environment or os.environ), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        self.reader = threading.Thread(target=self._read, args=(logs / f"{name}.out", on_json), daemon=True)
        self.reader.start()

    def _read(self, path, on_json):
        with path.open("wb") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                found = parse(line)
                if found is not None:
                    on_json(found)

    def wait(self, seconds):
        timed_out = False
        try:
            self.process.wait(max(0, seconds))
        except subprocess.TimeoutExpired:
            timed_out = True
        self.end()
        return Outcome(
            self.process.returncode, timed_out, round(time.monotonic() - self.started, 2), self.tail()
        )

    def end(self):
        """Ends the child and all that it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                break
            try:
                self.process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            if number == signal.SIGTERM and not group_is_alive(self.process.pid):
                break
        self.reader.join(GRACE_SECONDS)

    def tail(self, count=600):
        if not self.errors.exists():
            return ""
        return self.errors.read_bytes()[-4 * count :].decode(errors="replace").strip()[-count:]


def group_is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def parse(line):
    """A line's JSON object, or None."""
    if not line.startswith(b"{"):
        return None
    try:
        found = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) else None
