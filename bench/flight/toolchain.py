"""The small C and C++ programs of a flight: as they came along with the binary, or built where they run."""

import importlib.util
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


def have(flight, source, output, *words):
    """A program beside the binary, where `pack` put it; else one built from this folder's source."""
    packed = flight.options.binary.resolve().parent / output
    return packed if packed.exists() else build(source, flight.logs / output, *words)


def build(source, output, *words):
    """Compiles a file of this folder with a toolkit's or torch's CUDA headers.

    Raises RuntimeError with the compiler's words where it cannot.
    """
    if output.exists():
        return output
    compiler = os.environ.get("CC", "gcc") if source.endswith(".c") else os.environ.get("CXX", "g++")
    command = [compiler, "-O2", "-w", str(HERE / source), "-o", str(output)]
    # A toolkit has headers that torch's packages lack; torch's libraries are those that programs run with.
    command += [f"-I{home / 'include'}" for home in (*of_toolkit(), *of_torch())]
    for home in (*of_torch(), *of_toolkit()):
        command += [f"-L{folder}" for folder in (home / "lib", home / "lib64") if folder.is_dir()]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise RuntimeError(f"{compiler}: {(errors or [done.stderr.strip()[-300:]])[0]}")
    return output


def library(name):
    """A linker's word for a library by its versioned name, such as -l:libcupti.so.13."""
    for home in (*of_torch(), *of_toolkit()):
        for folder in (home / "lib", home / "lib64"):
            found = sorted(folder.glob(f"{name}.so.*"), key=lambda path: len(path.name))
            if found:
                return f"-l:{found[0].name}"
    return f"-l{name.removeprefix('lib')}"


def of_torch():
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (spec.submodule_search_locations if spec else [])]
    return [home for root in roots for home in sorted(root.iterdir()) if (home / "include").is_dir()]


def of_toolkit():
    toolkit = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    return [home for home in (toolkit, toolkit / "extras" / "CUPTI") if (home / "include").is_dir()]
