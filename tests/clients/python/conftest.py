"""Nodes with the demo model on loopback, for as long as the tests run."""

import contextlib
import os
import subprocess
import time

import httpx
import pytest

MODEL = "obscura/demo"
NATIVE_SIZE = (256, 256)


@contextlib.contextmanager
def serve(*flags, cwd=None):
    """A node: its process and its URL. It asks for no credentials, as it listens on loopback."""
    model = [] if "--model" in flags else ["--model", "demo"]
    command = [
        os.environ["OBSCURA_BIN"], "serve", *model, "--tee", "simulated",
        "--device", "cpu", "--listen", "127.0.0.1:0", "--allow-plaintext", *flags,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd)
    try:
        url = process.stdout.readline().split()[-1]
        deadline = time.monotonic() + 60
        while httpx.get(f"{url}/readyz").status_code != 200:
            assert time.monotonic() < deadline, "the node did not become ready"
            time.sleep(0.1)
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def stand_beside(node, *flags):
    """A proxy of this node: its process and its URL."""
    command = [
        os.environ["OBSCURA_BIN"], "proxy", "--node", node, "--accept-simulated",
        "--listen", "127.0.0.1:0", *flags,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process, process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def proxy(node):
    """One proxy of the one node."""
    with stand_beside(node) as (_, url):
        yield url


@pytest.fixture(scope="session")
def node():
    """One node for every test that does not stop it."""
    with serve() as (process, url):
        yield url
        process.terminate()
        assert process.wait(timeout=40) == 0, "SIGTERM must end the node cleanly"


@pytest.fixture(scope="session")
def shared(node):
    from relay import relay

    with relay(node) as state:
        yield state


@pytest.fixture
def wire(shared):
    """A relay between a client and the node, which keeps all that is sent."""
    shared.reset()
    return shared


@pytest.fixture
def sealed(wire):
    """The node behind the relay, as our SDK has it."""
    import obscura
    from relay import TRUST

    with obscura.Node(wire.url, **TRUST) as node:
        yield node
