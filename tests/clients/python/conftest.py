"""A node with the demo model on loopback, for as long as the tests run."""

import os
import subprocess
import time

import httpx
import pytest

MODEL = "obscura/demo"
NATIVE_SIZE = (256, 256)


@pytest.fixture(scope="session")
def node():
    """The node's URL. It asks for no credentials: it listens on loopback alone."""
    command = [
        os.environ["OBSCURA_BIN"], "serve", "--model", "demo", "--tee", "simulated",
        "--device", "cpu", "--listen", "127.0.0.1:0", "--allow-plaintext",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().split()[-1]
        deadline = time.monotonic() + 60
        while httpx.get(f"{url}/readyz").status_code != 200:
            assert time.monotonic() < deadline, "the node did not become ready"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        assert process.wait(timeout=40) == 0, "SIGTERM must end the node cleanly"
