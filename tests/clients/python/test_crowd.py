"""Many who connect and say nothing."""

import resource
import socket

import httpx
import pytest

from conftest import serve

CONNECTIONS = 10_000


def test_idle_connections_keep_nobody_out():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTIONS + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this process may open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    idle = []
    try:
        with serve() as (process, url):
            host, port = url.removeprefix("http://").split(":")
            for index in range(CONNECTIONS):
                idle.append(socket.create_connection((host, int(port)), timeout=30))
                if index % 1000 == 999:
                    assert httpx.get(f"{url}/healthz", timeout=30).status_code == 200
            process.terminate()
            assert process.wait(timeout=40) == 0
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
