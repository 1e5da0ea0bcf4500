"""A flight's results: a file of JSON lines, each flushed as soon as it is known."""

import datetime
import json
import os


class Record:
    """Appends findings to a file, and knows those of earlier calls.

    A line is {"at": UTC, "part": name, …}. A line with "outcome" ends a part: "done" where all was
    measured, whatever came out; "failed", "timed out" or "not run" otherwise. `path` is the call's own
    results file, which begins with all that was known before; `kept` lives on for the next call.
    """

    def __init__(self, path, kept, earlier=()):
        path.parent.mkdir(parents=True, exist_ok=True)
        known = [line for source in (*earlier, kept) if source.exists() for line in read(source)]
        self.path, self.lines, self.files = path, [], [path.open("w")]
        for line in known:
            self._append(line)
        self.files.append(kept.open("a"))

    def _append(self, line):
        self.lines.append(line)
        for file in self.files:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write(self, part, **finding):
        self._append({"at": utc(), "part": part, **finding})

    def of(self, part):
        """The findings of a part's latest run."""
        return latest(self.lines, part)

    def outcome(self, part, binary):
        """How a part ended last, as far as it holds for this binary; None where it never ran."""
        ended = [line for line in self.of(part) if line.get("outcome") not in (None, "started")]
        if not ended or ended[-1].get("binary", binary) != binary:
            return None
        return ended[-1]["outcome"]


def latest(lines, part):
    """The findings of a part's latest run."""
    found = []
    for line in lines:
        if line["part"] == part:
            if line.get("outcome") == "started":
                found = []
            found.append(line)
    return found


def read(path):
    """The lines of a results file; a line that a power cut left unfinished is passed over."""
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and isinstance(line.get("part"), str):
            yield line


def utc():
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def file_name(card):
    """<UTC time>-<card>.jsonl"""
    time = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    name = card.replace("NVIDIA", "").strip().replace(" ", "-")
    return f"{time}-{name}.jsonl"
