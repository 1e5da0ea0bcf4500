"""deploy/kubernetes/haproxy.cfg in front of two real nodes: a client comes back to the node whose key
it used, a model leads to its nodes, and a node that stops is left alone."""

import collections
import contextlib
import pathlib
import re
import shutil
import socket
import subprocess
import time

import httpx
import pytest
from atoma_sdk import AtomaSDK

from conftest import MODEL, serve

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "deploy" / "kubernetes"

pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")


@contextlib.contextmanager
def gateway(folder, nodes):
    """The gateway as it is deployed, but for where it listens and where its nodes are found."""
    port, state = free_port(), free_port()
    text = (FOLDER / "haproxy.cfg").read_text()
    servers = "\n".join(
        f"  server node{i} {url.removeprefix('http://')} check inter 200ms" for i, url in enumerate(nodes)
    )
    text, found = re.subn(r"  server-template .*", servers, text)
    assert found == 1
    text = text.replace("bind :8080", f"bind 127.0.0.1:{port}").replace("bind :8404", f"bind 127.0.0.1:{state}")
    (folder / "models.map").write_text(f"{MODEL} schnell\n")
    (folder / "haproxy.cfg").write_text(text.replace("/etc/obscura/", f"{folder}/"))
    log = (folder / "haproxy.log").open("w+")
    process = subprocess.Popen(["haproxy", "-db", "-f", folder / "haproxy.cfg"], stdout=log, stderr=log)
    try:
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{state}/ready").status_code == 200)
        yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{state}", folder / "haproxy.log"
    finally:
        process.kill()
        process.wait()
        log.close()


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_until(condition):
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def lock(url):
    answer = httpx.post(f"{url}/v1/nodes/lock", json={"model": MODEL})
    assert answer.status_code == 200
    assert answer.json()["public_key"] == answer.headers["obscura-key"]
    return answer.headers["obscura-key"]


def test_clients_come_back_to_the_node_whose_key_they_used(tmp_path):
    with serve() as (_, first), serve() as (stopping, second), gateway(tmp_path, [first, second]) as (url, state, log):
        keys = collections.Counter(lock(url) for _ in range(12))
        assert len(keys) == 2, "the gateway spreads clients over the nodes"

        with AtomaSDK(bearer_auth="any", server_url=url) as sdk:
            for i in range(6):
                answer = sdk.confidential_images.generate(model=MODEL, prompt=f"picture {i}", n=1, size="64x64")
                assert answer.data[0].url.startswith("data:image/png;base64,")

        # Sealed requests are small to a gateway: nothing of them is logged.
        assert "picture" not in log.read_text()

        # A model nobody has, and one in clear text.
        answer = httpx.post(f"{url}/v1/nodes/lock", json={"model": "nobody/has-it"})
        assert answer.status_code == 404
        answer = httpx.post(f"{url}/v1/images/generations", json={"model": MODEL, "prompt": "x", "size": "64x64"}, timeout=60)
        assert answer.status_code == 200
        assert httpx.post(f"{url}/v1/nodes/lock", content=b"x" * 300_000).status_code == 413

        stopping.terminate()
        assert stopping.wait(timeout=60) == 0
        wait_until(lambda: 'server="node1",state="UP"} 0' in httpx.get(f"{state}/metrics").text)
        keys = {lock(url) for _ in range(6)}
        assert len(keys) == 1
        with AtomaSDK(bearer_auth="any", server_url=url) as sdk:
            answer = sdk.confidential_images.generate(model=MODEL, prompt="one more", n=1, size="64x64")
            assert answer.data
