"""The card and what surrounds it."""

import os
import platform
import shutil
import statistics
import subprocess
from contextlib import contextmanager

from process import Child, Outcome, run

QUERY = ["name", "driver_version", "memory.total", "power.limit", "clocks.max.sm", "clocks.max.memory"]
NEEDED = ("libcublas", "libcublasLt", "libcudnn", "libcurand", "libnvrtc", "libcuda")


def card():
    """The card's name and driver, or None where no NVIDIA GPU answers."""
    # A driver that does not know one of the fields answers none of them.
    for fields in (QUERY, QUERY[:2]):
        words = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            continue
        for line in done.stdout.splitlines()[:1]:
            found = dict(zip(fields, (part.strip() for part in line.split(","))))
            return {"name": found["name"], "driver": found.get("driver_version"), "details": found}
    return None


# While something runs; the last two say why the card goes no faster.
WATCHED = {
    "sm_mhz": "clocks.sm",
    "watts": "power.draw",
    "by_power": "clocks_event_reasons.sw_power_cap",
    "by_heat": "clocks_event_reasons.sw_thermal_slowdown",
}


@contextmanager
def watched(flight, name, every_ms=50):
    """Records clock and power of the card while it works: the medians of the busier half of the samples."""
    if shutil.which("nvidia-smi") is None:
        yield
        return
    words = ["nvidia-smi", f"--query-gpu={','.join(WATCHED.values())}", "--format=csv,noheader,nounits"]
    watch = Child([*words, f"--loop-ms={every_ms}"], flight.logs, f"watch-{name.replace(' ', '-')}")
    try:
        yield
    finally:
        watch.end()
    lines = (flight.logs / f"watch-{name.replace(' ', '-')}.out").read_text(errors="replace").splitlines()
    samples = [[cell.strip() for cell in line.split(",")] for line in lines]
    samples = [cells for cells in samples if len(cells) == len(WATCHED) and is_number(cells[1])]
    busy = sorted(samples, key=lambda cells: float(cells[1]))[len(samples) // 2 :]
    if busy:
        middle = {key: statistics.median(float(cells[at]) for cells in busy) for at, key in enumerate(list(WATCHED)[:2])}
        reasons = {key: sum(cells[at + 2] == "Active" for cells in busy) / len(busy) for at, key in enumerate(list(WATCHED)[2:])}
        flight.record.write(name, watched={**middle, **reasons, "samples": len(busy)})


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def describe(flight, name, seconds):
    """Clocks and power as they are, in a log; the libraries that the binary finds, and what is missing."""
    run(["nvidia-smi", "-q", "-d", "CLOCK,POWER,PERFORMANCE"], flight.logs, "nvidia-smi", seconds / 2)
    outcome = run(["ldd", flight.options.binary], flight.logs, "ldd", seconds / 2, environment=flight.environment)
    lines = (flight.logs / "ldd.out").read_text(errors="replace").splitlines()
    libraries = {line.split()[0]: line.partition("=>")[2].split("(")[0].strip() for line in lines if "=>" in line}
    flight.record.write(
        name,
        card=flight.card,
        commit=flight.options.commit,
        processor=platform.processor() or platform.machine(),
        libraries={key: told(path) for key, path in libraries.items() if key.startswith(NEEDED)},
        missing=[key for key, path in libraries.items() if path.startswith("not found")],
    )
    return outcome


def describe_host(flight, name, seconds):
    """The processor: its name, how many threads it has for us, and what it multiplies with."""
    lines = [line.split(":", 1) for line in open("/proc/cpuinfo") if ":" in line]
    first = {key.strip(): value.strip() for key, value in reversed(lines)}
    features = [flag for flag in first.get("flags", "").split() if flag.startswith(("amx", "avx512_", "avx512f"))]
    threads = len(os.sched_getaffinity(0))
    flight.record.write(name, processor=first.get("model name"), threads=threads, features=features)
    return Outcome(0, False, 0.0, "")


def told(path):
    """Where a library is from, without where that lies on this machine."""
    return path.rpartition("site-packages/")[2] if "site-packages/" in path else path.rpartition("/")[2]
