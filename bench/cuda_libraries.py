"""Where CUDA's libraries lie on a machine that has them from torch's packages alone."""

import pathlib
import subprocess
import sys


def with_libraries(environment):
    """The environment with the folders of torch's CUDA libraries on the library path."""
    finder = "import importlib.util as u; print(*u.find_spec('nvidia').submodule_search_locations)"
    found = subprocess.run([sys.executable, "-c", finder], capture_output=True, text=True)
    folders = [
        str(folder)
        for root in found.stdout.split()
        for folder in sorted(pathlib.Path(root).glob("*/lib"))
    ]
    path = ":".join([*folders, environment.get("LD_LIBRARY_PATH", "")]).strip(":")
    return {**environment, "LD_LIBRARY_PATH": path}
