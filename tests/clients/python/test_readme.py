"""The README's examples that a person would type."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

README = Path(__file__).parents[3] / "README.md"
EXAMPLES = re.findall(r"^\$ (curl .*)$", README.read_text(), re.MULTILINE)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("example", EXAMPLES)
def test_curl(node, example):
    assert "http://127.0.0.1:8080" in example
    command = example.replace("http://127.0.0.1:8080", node).replace("curl ", "curl --fail ", 1)
    done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if '"stream": true' in example:
        assert done.stdout.count("event: image_generation.progress") == 5
        assert done.stdout.count("event: image_generation.completed") == 1
    elif '"url"' in example:
        assert "/v1/images/files/" in done.stdout


def test_there_are_examples():
    assert len(EXAMPLES) >= 10
