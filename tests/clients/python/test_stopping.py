"""SIGTERM while a picture is drawn."""

import signal
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


def test_sigkill_leaves_nothing_behind(tmp_path):
    with serve(cwd=tmp_path) as (process, url):
        body = {"model": MODEL, "prompt": "a picture", "size": "64x64"}
        assert httpx.post(f"{url}/v1/images/generations", json=body, timeout=60).is_success
        process.kill()
        assert process.wait(timeout=40) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
