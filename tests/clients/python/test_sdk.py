"""The Python SDK against the program itself: by itself, and behind PyPI's openai."""

import asyncio
import base64
import http.server
import json
import threading

import obscura
import openai
import pytest

from conftest import MODEL
from relay import EVIDENCE, SEALED, SMALL, TRUST


@pytest.fixture
def client(wire):
    with openai.OpenAI(
        api_key="any", base_url=f"{wire.url}/v1", max_retries=0, http_client=obscura.client(wire.url, **TRUST)
    ) as client:
        yield client


def is_png(text):
    return base64.b64decode(text)[1:4] == b"PNG"


def test_a_node_is_verified_check_by_check(node):
    appraisal = obscura.verify(node, **TRUST)
    assert (appraisal.verdict, appraisal.exit_code, appraisal.platform) == ("accepted", 0, "simulated")
    assert len(appraisal.checks) > 25 and all(check.title for check in appraisal.checks)
    assert len(appraisal.attested.exchange_key) == 32
    assert "ACCEPTED" in str(appraisal)


def test_a_simulated_node_is_refused_unless_it_is_asked_for(wire):
    assert obscura.verify(wire.url).verdict == "rejected"
    for refused in (
        lambda: obscura.client(wire.url),
        lambda: obscura.generate(wire.url, model=MODEL, prompt=SMALL["prompt"]),
        lambda: next(obscura.stream(wire.url, model=MODEL, prompt=SMALL["prompt"])),
    ):
        with pytest.raises(obscura.NodeUntrustedError) as error:
            refused()
        assert "platform.allowed" in [check.id for check in error.value.checks if check.outcome == "FAIL"]
    assert set(wire.paths) == {EVIDENCE}
    wire.assert_no_prompt()


@pytest.mark.parametrize(
    "options",
    [
        {"policy": 'platforms = ["simulated"]'},
        {"policy": "platform = []"},
        {"policy": obscura.Policy(), **TRUST},
        {"http": "requests"},
    ],
)
def test_what_cannot_be_used_is_named(wire, options):
    with pytest.raises(obscura.ConfigurationError):
        obscura.Node(wire.url, **options)
    assert wire.sent == []


@pytest.mark.parametrize(
    "url",
    [
        "", "node", "ftp://node", "http://", "http://me@node", "http://no de", "http://n:x", "http://n?a", "http://n/a?b",
        "http://n?", "http://n/#a", "http://n/a#", "http://n/a b", "http://n/a/../b", "http://n/.", "http://n/%2E%2e/b",
        "http://n/%x", "http://n/ä", "http://n/a\\b",
    ],
)
def test_a_url_that_is_none(url):
    with pytest.raises(obscura.ConfigurationError):
        obscura.Node(url)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://node.example", "https://node.example"),
        ("https://node.example:443/", "https://node.example"),
        ("https://gw.example/obscura", "https://gw.example/obscura"),
        ("https://gw.example:8443/a/b/", "https://gw.example:8443/a/b"),
        ("https://gw.example/a%20b///", "https://gw.example/a%20b"),
    ],
)
def test_a_url_keeps_its_path(url, base):
    with obscura.Node(url) as node:
        assert node.url == base


@pytest.fixture
def gateway():
    """Says no to everything: its URL, and the routes that it was asked for."""
    asked = []

    class Gateway(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(f"{self.command} {self.path.partition('?')[0]}")
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_node_below_a_path_is_asked_there(gateway):
    url, asked = gateway
    with pytest.raises(obscura.RefusedError):
        obscura.verify(f"{url}/obscura/")
    assert asked == ["GET /obscura/v1/attestation"]
    with obscura.Node(f"{url}/obscura") as node, node.client() as client:
        sealed = client.post(f"{url}/obscura/v1/images/generations", json={"model": MODEL, "prompt": "x"})
        elsewhere = client.post(f"{url}/v1/images/generations", json={"model": MODEL, "prompt": "x"})
    assert sealed.json()["error"].get("code") != "not_sealed" and elsewhere.json()["error"]["code"] == "not_sealed"
    assert asked == ["GET /obscura/v1/attestation"] * 2


def test_no_key_goes_in_clear_text_to_another_machine():
    with pytest.raises(obscura.ConfigurationError, match="plain http"):
        obscura.Node("http://node.example", api_key="secret")
    obscura.Node("http://node.example", api_key="secret", insecure_http=True).close()
    for host in ("[::1]:1", "localhost", "127.0.0.1:1", "127.9.9.9", "[::ffff:127.0.0.1]"):
        obscura.Node(f"http://{host}", api_key="secret").close()
    # A resolver may know what is below `localhost`.
    for host in ("node.localhost", "localhost.example", "localhost.", "10.0.0.1", "[::ffff:10.0.0.1]"):
        with pytest.raises(obscura.ConfigurationError, match="plain http"):
            obscura.Node(f"http://{host}", api_key="secret")


@pytest.mark.parametrize("key", ["", "k\n", "two words", "é", "k" * 4097])
def test_a_key_that_no_header_carries_is_no_fault_of_the_node(key):
    with pytest.raises(obscura.ConfigurationError, match="visible ASCII"):
        obscura.Node("https://node.example", api_key=key)


@pytest.mark.parametrize("url", ["https://node.example/v1", "https://node.example/obscura/v1/"])
def test_the_base_of_openais_clients_is_no_nodes_url(url):
    with pytest.raises(obscura.ConfigurationError, match="leave that out"):
        obscura.Node(url)


def test_what_was_closed_sends_nothing(wire):
    node = obscura.Node(wire.url, **TRUST)
    node.close()
    node.close()
    for ask in (node.verify, lambda: node.generate(**SMALL), lambda: next(node.stream(**SMALL))):
        with pytest.raises(obscura.ConfigurationError, match="was closed"):
            ask()
    assert not wire.paths


def test_functions_take_the_fields_of_a_request(node):
    answer = obscura.generate(node, **SMALL, seed=7, n=2, **TRUST)
    assert (len(answer["data"]), answer["seed"]) == (2, 7)
    assert obscura.generate(node, **SMALL, fields={"seed": 8}, api_key="any", **TRUST)["seed"] == 8
    *_, last = obscura.stream(node, **SMALL, seed=9, **TRUST)
    assert last["seed"] == 9
    with pytest.raises(obscura.RefusedError) as refused:
        obscura.generate(node, **SMALL | {"size": "x"}, **TRUST)
    assert refused.value.param == "size"


def test_nothing_is_there(node):
    with pytest.raises(obscura.ConnectionError):
        obscura.verify("http://127.0.0.1:1")


def test_images_and_events(sealed, wire):
    answer = sealed.generate(**SMALL, n=2, seed=7)
    assert (len(answer["data"]), answer["seed"]) == (2, 7)
    assert is_png(answer["data"][1]["url"].partition(",")[2])
    seen = list(sealed.stream(**SMALL, partial_images=2, progress=True))
    assert [event["sequence_number"] for event in seen] == list(range(len(seen)))
    assert sum(event["type"] == "image_generation.partial_image" for event in seen) == 2
    assert seen[-1]["type"] == "image_generation.completed" and is_png(seen[-1]["b64_json"])
    for event in sealed.stream(**SMALL, partial_images=2):
        break
    assert wire.paths.count(EVIDENCE) == 1


def test_what_was_sent_says_nothing(sealed, wire):
    for prompt in (SMALL["prompt"], SMALL["prompt"], SMALL["prompt"] + ", and a rather longer description of it"):
        sealed.generate(**SMALL | {"prompt": prompt})
    bodies = [json.loads(sent.body) for sent in wire.sent if sent.path == SEALED]
    assert len({len(body["ciphertext"]) for body in bodies}) == 1
    assert len({body["plaintext_body_hash"] for body in bodies}) == 3
    assert len({body["client_dh_public_key"] for body in bodies}) == 3
    wire.assert_no_prompt()


def test_refusals_say_why(sealed):
    with pytest.raises(obscura.RefusedError) as refused:
        sealed.generate(**SMALL, n=0)
    assert (refused.value.status, refused.value.param, refused.value.attested) == (400, "n", True)
    with pytest.raises(obscura.RefusedError) as refused:
        sealed.generate(**SMALL | {"model": "other"})
    assert (refused.value.status, refused.value.code) == (404, "model_not_found")
    for fields in ({"seed": float("nan")}, {"seed": object()}, {"stream": True}):
        with pytest.raises(obscura.ConfigurationError):
            sealed.generate(**SMALL, **fields)


def test_openai(client, wire):
    answer = client.images.generate(**SMALL, n=3, extra_body={"seed": 70})
    assert (len(answer.data), answer.seed, answer.size) == (3, 70, "64x64")
    assert all(is_png(entry.b64_json) and entry.url is None for entry in answer.data)
    assert answer.usage.output_tokens == 3 * 4 * 4
    [entry] = client.images.generate(**SMALL, response_format="url").data
    assert entry.url.startswith("data:image/png;base64,")
    *partial, completed = client.images.generate(**SMALL, stream=True, partial_images=2)
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 2
    assert is_png(completed.b64_json)
    wire.assert_no_prompt()
    assert {sent.path for sent in wire.sent} == {EVIDENCE, SEALED}
    keys = ["any" in sent.head for sent in wire.sent]
    assert keys == [sent.path == SEALED for sent in wire.sent], "the bearer key went with what is sealed alone"


def test_openai_is_refused_in_its_own_words(client, wire):
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(**SMALL, n=0)
    assert refused.value.param == "n"
    sent = len(wire.sent)
    for asked in (
        lambda: client.models.list(),
        lambda: client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": SMALL["prompt"]}]),
        lambda: client.with_options(base_url=f"{wire.url}/other").images.generate(**SMALL),
        lambda: client.with_options(base_url="http://localhost:1/v1").images.generate(**SMALL),
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            asked()
        assert refused.value.code == "not_sealed"
    assert len(wire.sent) == sent, "what is not sealed goes nowhere"


def test_a_stream_that_nobody_reads_does_not_hold_its_connection(client):
    for _ in range(12):  # as many as the pool has, and more
        client.images.generate(**SMALL, stream=True, partial_images=1).close()
    assert client.images.generate(**SMALL).data


def test_async_openai(wire):
    async def main():
        http_client = obscura.async_client(wire.url, **TRUST)
        async with openai.AsyncOpenAI(
            api_key="any", base_url=f"{wire.url}/v1", max_retries=0, http_client=http_client
        ) as client:
            answers = await asyncio.gather(*(client.images.generate(**SMALL) for _ in range(3)))
            assert all(is_png(answer.data[0].b64_json) for answer in answers)
            stream = await client.images.generate(**SMALL, stream=True, partial_images=2)
            types = [event.type async for event in stream]
            assert types == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
            with pytest.raises(openai.NotFoundError):
                await client.models.list()

    asyncio.run(main())
    assert wire.paths.count(EVIDENCE) == 1, "once for all three"
    wire.assert_no_prompt()


def test_async_node(wire):
    async def main():
        async with obscura.AsyncNode(wire.url, **TRUST) as node:
            assert (await node.trust()).appraisal.verdict == "accepted"
            assert is_png((await node.generate(**SMALL))["data"][0]["url"].partition(",")[2])
            seen = [event async for event in node.stream(**SMALL, partial_images=1)]
            assert [event["sequence_number"] for event in seen] == [0, 1]
        with pytest.raises(obscura.NodeUntrustedError):
            async with obscura.AsyncNode(wire.url) as node:
                await node.generate(**SMALL)

    asyncio.run(main())


def test_an_untrusted_node_is_a_502_to_async_openai(wire):
    async def main():
        async with openai.AsyncOpenAI(
            api_key="any", base_url=f"{wire.url}/v1", http_client=obscura.async_client(wire.url)
        ) as client:
            with pytest.raises(openai.InternalServerError) as refused:
                await client.images.generate(**SMALL)
            assert refused.value.code == "node_untrusted"

    asyncio.run(main())
    assert wire.paths == [EVIDENCE], "asked once, retried never"


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_either_library(wire, name):
    pytest.importorskip(name)
    with obscura.Node(wire.url, http=name, **TRUST) as node:
        assert node.generate(**SMALL)["data"]
        assert list(node.stream(**SMALL))
        assert type(node.client()).__module__.startswith(name)
        with pytest.raises(obscura.ConfigurationError):
            node.client(transport=None)


def test_many_threads(sealed, wire):
    failed = []

    def ask():
        try:
            sealed.generate(**SMALL)
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and wire.paths.count(EVIDENCE) == 1
