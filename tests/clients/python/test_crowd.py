"""Many who connect and say nothing, or begin and do not go on."""

import contextlib
import resource
import socket

import httpx
import pytest

from conftest import MODEL, serve

CONNECTIONS = 10_000
HALF_A_BODY = (
    b"POST /v1/nodes/lock HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 9\r\n\r\n{"
)


@contextlib.contextmanager
def many_files(needed):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this process may open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    held = []
    try:
        yield held
    finally:
        for connection in held:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_idle_connections_keep_nobody_out():
    with many_files(CONNECTIONS + 500) as idle, serve() as (process, url):
        host, port = url.removeprefix("http://").split(":")
        for index in range(CONNECTIONS):
            idle.append(socket.create_connection((host, int(port)), timeout=30))
            if index % 1000 == 999:
                assert httpx.get(f"{url}/healthz", timeout=30).status_code == 200
        process.terminate()
        assert process.wait(timeout=40) == 0


def test_bodies_that_do_not_arrive_keep_no_probe_out():
    """From many addresses of loopback, so that the bound of one address does not help."""
    with many_files(2500) as held, serve("--set", "health_listen=127.0.0.1:0") as (process, url):
        probes = process.stdout.readline().split()[-1]
        host, port = url.removeprefix("http://").split(":")
        for index in range(1040):
            source = (f"127.0.1.{index % 8 + 1}", 0)
            connection = socket.create_connection((host, int(port)), timeout=30, source_address=source)
            connection.sendall(HALF_A_BODY)
            held.append(connection)
            if index % 130 == 129:
                assert httpx.get(f"{probes}/healthz", timeout=30).status_code == 200
                assert "obscura_http_connections" in httpx.get(f"{probes}/metrics", timeout=30).text
                assert httpx.post(f"{url}/v1/nodes/lock", json={"model": MODEL}, timeout=30).status_code == 200
        process.terminate()
        assert process.wait(timeout=40) == 0
