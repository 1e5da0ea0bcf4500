"""The card and what surrounds it."""

import platform
import subprocess

from process import run

QUERY = ["name", "driver_version", "memory.total", "power.limit", "clocks.max.sm", "clocks.max.memory"]
NEEDED = ("libcublas", "libcublasLt", "libcudnn", "libcurand", "libnvrtc", "libcuda")


def card():
    """The card's name and driver, or None where no NVIDIA GPU answers."""
    words = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    try:
        line = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None
    found = dict(zip(QUERY, (part.strip() for part in line.split(","))))
    return {"name": found["name"], "driver": found.get("driver_version"), "details": found}


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
