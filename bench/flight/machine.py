"""The card and what surrounds it."""

import platform
import subprocess

from process import run

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
        libraries={key: path for key, path in libraries.items() if key.startswith(NEEDED)},
        missing=[key for key, path in libraries.items() if path.startswith("not found")],
    )
    return outcome
