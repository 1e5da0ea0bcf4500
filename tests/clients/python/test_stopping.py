"""SIGTERM while a picture is drawn."""

import json
import signal
import socket
import threading
import time

import httpx

from conftest import MODEL, serve


def test_sigterm_in_the_middle():
    with serve() as (process, url):
        body = {"model": MODEL, "prompt": "a slow picture", "size": "512x512", "steps": 8}
        answers = []

        def draw():
            answers.append(httpx.post(f"{url}/v1/images/generations", json=body, timeout=60))

        drawing = threading.Thread(target=draw)
        drawing.start()
        while "obscura_queue_depth 0" in httpx.get(f"{url}/metrics").text:
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        drawing.join()
        assert [answer.status_code for answer in answers] == [200]
        assert process.wait(timeout=40) == 0


def test_sigterm_with_a_queue():
    """One picture is drawn and five wait: the five are told while it is drawn, and it is finished."""
    health = free_port()
    flags = ["--set", f"health_listen=127.0.0.1:{health}"]
    metrics = f"http://127.0.0.1:{health}/metrics"
    with serve(*flags) as (process, url):
        answers = {}

        def draw(name, **fields):
            body = {"model": MODEL, "prompt": "a slow picture", **fields}
            answer = httpx.post(f"{url}/v1/images/generations", json=body, timeout=60)
            answers[name] = (time.monotonic(), answer)

        running = threading.Thread(target=draw, args=["running"], kwargs={"size": "512x512", "steps": 8})
        waiting = [threading.Thread(target=draw, args=[n], kwargs={"size": "64x64"}) for n in range(5)]
        running.start()
        while "obscura_queue_depth 1\n" not in httpx.get(metrics).text:
            time.sleep(0.01)
        for thread in waiting:
            thread.start()
        while "obscura_queue_depth 6\n" not in httpx.get(metrics).text:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for thread in waiting:
            thread.join()
        assert "obscura_queue_depth 1\n" in httpx.get(metrics).text, "figures are told to the end"
        running.join()
        finished, answer = answers.pop("running")
        assert answer.status_code == 200
        assert process.wait(timeout=40) == 0
        for told, answer in answers.values():
            assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
            assert answer.json()["error"]["code"] == "draining"
            assert told < finished


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(path, body, length=None):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {length or len(body)}\r\n\r\n{body}".encode()


def test_sigterm_ends_a_node_whose_streams_nobody_reads():
    stream = json.dumps({
        "model": MODEL, "prompt": "x", "size": "512x512", "n": 4, "steps": 8, "stream": True, "partial_images": 3,
    })
    # HTTP/2 without a window: settings, then GET /openapi.json.
    settings = bytes.fromhex("000006 04 00 00000000 0004 00000000")
    head = b"\x82\x86\x01\x09localhost\x04\x0d/openapi.json"
    get = bytes([0, 0, len(head), 1, 5, 0, 0, 0, 1]) + head
    with serve("--set", "drain_secs=3") as (process, url):
        host, port = url.removeprefix("http://").split(":")
        held = []
        for sent in (
            post("/v1/images/generations", stream),
            post("/v1/nodes/lock", "{", length=9),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + get,
        ):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((host, int(port)))
            connection.sendall(sent)
            held.append(connection)
        while "obscura_queue_depth 1\n" not in httpx.get(f"{url}/metrics").text:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        for connection in held:
            connection.close()


def test_sigkill_leaves_nothing_behind(tmp_path):
    with serve(cwd=tmp_path) as (process, url):
        body = {"model": MODEL, "prompt": "a picture", "size": "64x64"}
        assert httpx.post(f"{url}/v1/images/generations", json=body, timeout=60).is_success
        process.kill()
        assert process.wait(timeout=40) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
