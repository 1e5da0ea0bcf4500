"""A flight's results: a file of JSON lines, each flushed as soon as it is known."""

import datetime
import json
import os


class Record:
    """Appends findings to one file, and knows those of earlier runs.

    A line is {"at": UTC, "part": name, …}. A line with "outcome" ends a part: "done" where all was
    measured, whatever came out; "failed", "timed out" or "not run" otherwise.
    """

    def __init__(self, path, earlier=()):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lines = [line for source in (*earlier, path) if source.exists() for line in read(source)]
        self.file = path.open("a")

    def write(self, part, **finding):
        line = {"at": utc(), "part": part, **finding}
        self.lines.append(line)
        self.file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        return line

    def of(self, part):
        """The findings of a part's latest run."""
        found = []
        for line in self.lines:
            if line["part"] != part:
                continue
            if line.get("outcome") == "started":
                found = []
            found.append(line)
        return found

    def outcome(self, part, binary):
        """How a part ended last, as far as it holds for this binary; None where it never ran."""
        ended = [line for line in self.of(part) if line.get("outcome") not in (None, "started")]
        if not ended or ended[-1].get("binary", binary) != binary:
            return None
        return ended[-1]["outcome"]


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
