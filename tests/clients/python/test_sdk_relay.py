"""A relay that lies, between the Python SDK and a real node: everything it tries is refused, and no byte of a prompt
leaves to a node that did not prove itself, which is read off what the relay received."""

import base64
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import obscura
import openai
import pytest

from conftest import serve
from relay import EVIDENCE, JSON, SEALED, SMALL, TRUST, changed, constant, flipped

STALE = constant(422, JSON, b'{"error": {"message": "x", "code": "stale_key"}}')


@pytest.fixture(scope="module")
def other():
    with serve() as (_, url):
        yield url


def without(answer, name):
    return {key: value for key, value in answer.items() if key != name}


def refuses_evidence(wire, expected):
    """Refused before anything but the question for evidence was sent."""
    sent = len(wire.sent)
    kind = obscura.NodeUntrustedError if isinstance(expected, list) else expected
    with obscura.Node(wire.url, **TRUST) as node, pytest.raises(kind) as refused:
        node.generate(**SMALL)
    if isinstance(expected, list):
        assert [check.id for check in refused.value.checks if check.outcome == "FAIL"] == expected
    assert [sent.path for sent in wire.sent[sent:]] == [EVIDENCE]
    assert all(sent.body == b"" for sent in wire.sent)
    wire.assert_no_prompt()


def keyset(change):
    def changes(report):
        return report | {"keyset": base64.b64encode(change(base64.b64decode(report["keyset"]))).decode()}

    return changes


def test_evidence_that_is_old_anothers_or_touched(wire, node, other):
    old, others = (httpx.get(f"{url}{EVIDENCE}?nonce={'5a' * 32}").json() for url in (node, other))
    x25519 = json.loads(base64.b64decode(others["keyset"]))["x25519"].encode()
    longer = lambda text: base64.b64encode(base64.b64decode(text) + b"\1").decode()  # noqa: E731
    for change, expected in [
        (lambda _: old, ["binding.report_data"]),
        (lambda report: old | {"nonce": report["nonce"]}, ["binding.report_data"]),
        (lambda report: others | {"nonce": report["nonce"]}, ["binding.report_data"]),
        (
            keyset(lambda text: re.sub(rb'"x25519":"[0-9a-f]+"', b'"x25519":"' + x25519 + b'"', text)),
            ["keyset.possession", "binding.report_data"],
        ),
        (
            keyset(lambda text: re.sub(rb'"not_after":(\d)', rb'"not_after":9\1', text)),
            ["keyset.possession", "keyset.lifetime", "binding.report_data"],
        ),
        (lambda report: report | {k: others[k] for k in ("keyset", "possession")}, ["binding.report_data"]),
        (
            lambda report: report | {"model_manifest": flipped(report["model_manifest"])},
            ["tdx.rtmr3", "binding.report_data"],
        ),
        (lambda report: report | {"possession": flipped(report["possession"])}, ["keyset.possession"]),
        (lambda report: report | {"quote": flipped(report["quote"], 600)}, ["simulated.quote"]),
        (lambda report: report | {"quote": longer(report["quote"])}, ["simulated.quote"]),
        (lambda report: report | {"more": ""}, ["report.format"]),
        (lambda report: report | {"quote": "A" * 60_000}, ["report.format"]),
        (lambda _: {}, ["report.format"]),
        (lambda _: [], ["report.format"]),
    ]:
        wire.reset()
        wire.evidence = changed(change)
        refuses_evidence(wire, expected)


def test_what_is_no_evidence(wire):
    for evidence, expected in [
        (constant(200, JSON, b"{"), ["report.format"]),
        (constant(200, JSON, b""), ["report.format"]),
        (constant(200, JSON, b"\xff\xfe"), ["report.format"]),
        (constant(200, JSON, b" " * (3 * 1024 * 1024)), obscura.ConnectionError),
        (constant(200, {"content-type": "text/html"}, b"<p>"), obscura.ConnectionError),
        (constant(500, JSON, b"no"), obscura.RefusedError),
        (constant(503, {"retry-after": "5"}, b"{}"), obscura.RefusedError),
        (lambda asked: (200, JSON, asked.forward()[2][:5000]), ["report.format"]),
    ]:
        wire.reset()
        wire.evidence = evidence
        refuses_evidence(wire, expected)


def test_a_redirect_is_followed_nowhere(wire):
    asked = []

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 - http.server's name
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    trap = HTTPServer(("127.0.0.1", 0), Trap)
    threading.Thread(target=trap.serve_forever, daemon=True).start()
    for status in (301, 302, 303, 307, 308):
        away = constant(status, {"location": f"http://127.0.0.1:{trap.server_port}/"})
        wire.reset()
        wire.evidence = away
        refuses_evidence(wire, obscura.ConnectionError)
        wire.reset()
        wire.answer = away
        with obscura.Node(wire.url, **TRUST) as node, pytest.raises(obscura.ConnectionError):
            node.generate(**SMALL)
        assert wire.paths == [EVIDENCE, SEALED]
    trap.shutdown()
    trap.server_close()
    assert asked == []


def test_another_nodes_own_evidence_is_that_nodes(wire, sealed, other):
    wire.evidence = lambda asked: asked.forward(other)
    with pytest.raises(obscura.RefusedError) as refused:
        sealed.generate(**SMALL)
    assert (refused.value.status, refused.value.code) == (422, "stale_key")
    assert wire.paths == [EVIDENCE, SEALED, EVIDENCE, SEALED]
    wire.assert_no_prompt()


def test_an_answer_that_is_not_the_attested_nodes_to_this_request(wire, sealed):
    kept = {}
    wire.answer = changed(lambda answer: kept.update(answer) or answer)
    sealed.generate(**SMALL)

    def reflected(asked):
        request = json.loads(asked.body)
        changes = {name: request[name] for name in ("ciphertext", "nonce")}
        content = kept | changes | {"response_hash": request["plaintext_body_hash"]}
        return 200, JSON, json.dumps(content).encode()

    for fault, hook in [
        ("receipt_missing", changed(lambda answer: without(answer, "receipt"))),
        ("receipt", changed(lambda answer: answer | {"receipt": kept["receipt"]})),
        ("receipt", changed(lambda answer: answer | {"receipt": flipped(answer["receipt"])})),
        ("malformed", changed(lambda answer: without(answer, "signature"))),
        ("signature", changed(lambda answer: answer | {"signature": flipped(answer["signature"], 9)})),
        ("signature", changed(lambda answer: answer | {"signature": flipped(answer["signature"], 0)})),
        ("signature", changed(lambda answer: answer | {"signature": kept["signature"]})),
        ("hash", changed(lambda answer: answer | {"response_hash": flipped(answer["response_hash"])})),
        ("decryption", changed(lambda answer: answer | {"ciphertext": flipped(answer["ciphertext"], 100)})),
        ("decryption", changed(lambda answer: answer | {"ciphertext": flipped(answer["ciphertext"], -1)})),
        ("decryption", changed(lambda answer: answer | {"nonce": flipped(answer["nonce"])})),
        ("decryption", changed(lambda _: kept)),
        ("malformed", changed(lambda answer: answer | {"nonce": answer["nonce"] + "\n"})),
        ("malformed", changed(lambda answer: answer | {"ciphertext": [answer["ciphertext"]]})),
        ("malformed", changed(lambda _: {"created": 1, "data": [{"url": "data:image/png;base64,AAAA"}]})),
        ("malformed", constant(200, {}, b"no")),
        ("malformed", constant(200, {}, b"")),
        ("malformed", constant(200, {}, b"[]")),
        ("malformed", constant(200, {}, b"[" * 100_000)),
        ("reflected", reflected),
    ]:
        wire.answer = hook
        with pytest.raises(obscura.AnswerError) as refused:
            sealed.generate(**SMALL)
        assert refused.value.fault == fault, refused.value
    wire.answer = constant(200, {"content-type": "text/html"}, b"<p>")
    with pytest.raises(obscura.ConnectionError):
        sealed.generate(**SMALL)
    # What is in clear text is not looked at.
    wire.answer = changed(lambda answer: answer | {"usage": "broken", "more": 1})
    assert len(sealed.generate(**SMALL)["data"]) == 1


def test_a_refusal_that_is_sealed_must_hold_too(wire, sealed):
    wire.answer = changed(lambda answer: answer | {"receipt": flipped(answer["receipt"])})
    with pytest.raises(obscura.AnswerError):
        sealed.generate(**SMALL, n=0)
    words = json.dumps({"error": {"message": "full \x1b[2J\u202e", "code": 7}}).encode()
    wire.answer = constant(429, {"retry-after": "20"}, words)
    with pytest.raises(obscura.RefusedError) as refused:
        sealed.generate(**SMALL)
    error = refused.value
    assert (error.status, error.headers["retry-after"], error.attested, error.code) == (429, "20", False, None)
    assert "\x1b" not in str(error) and "\u202e" not in str(error)


def test_events_that_are_dropped_swapped_repeated_cut_foreign_or_touched(wire, sealed):
    kept = []

    def read():
        return list(sealed.stream(**SMALL, partial_images=3))

    wire.events = lambda events: kept.extend(events) or events
    assert len(read()) == 4

    def touched(event):
        answer = json.loads(event[5:])
        return b"data: " + json.dumps(answer | {"ciphertext": flipped(answer["ciphertext"], 50)}).encode()

    for change, fault in [
        (lambda events: events[1:], "order"),
        (lambda events: events[:1] + events[2:], "order"),
        (lambda events: events[:-1], "cut"),
        (lambda _: [], "cut"),
        (lambda events: [events[1], events[0], *events[2:]], "order"),
        (lambda events: [events[0], *events], "order"),
        (lambda events: [*events[:-1], events[-1][:-40]], "malformed"),
        (lambda events: [events[0], kept[1], *events[2:]], "decryption"),
        (lambda events: [events[0], touched(events[1]), *events[2:]], "decryption"),
        (lambda events: [events[0], b"data: [DONE]", *events[1:]], "malformed"),
    ]:
        wire.events = change
        with pytest.raises(obscura.AnswerError) as refused:
            read()
        assert refused.value.fault == fault, refused.value
    # What follows the last event is not read.
    wire.events = lambda events: [*events, events[0], b"data: x"]
    assert len(read()) == 4
    wire.events = lambda events: [line for event in events for line in (b": keep alive", b"event: other", event)]
    assert len(read()) == 4


def test_through_openai_what_does_not_hold_up_raises(wire):
    with openai.OpenAI(
        api_key="any", base_url=f"{wire.url}/v1", http_client=obscura.client(wire.url, **TRUST)
    ) as client:
        wire.events = lambda events: events[:-1]
        with pytest.raises(obscura.AnswerError, match="cut off"):
            list(client.images.generate(**SMALL, stream=True, partial_images=1))
        wire.answer = changed(lambda answer: without(answer, "receipt"))
        sent = len(wire.sent)
        with pytest.raises(openai.InternalServerError) as refused:
            client.images.generate(**SMALL)
        assert refused.value.code == "answer_untrusted"
        assert len(wire.sent) == sent + 1, "what was opened is not asked for again"


def test_keys_that_have_changed_are_asked_for_again_once(wire, sealed):
    stale_once = iter([STALE])
    wire.answer = lambda asked: next(stale_once, lambda asked: asked.forward())(asked)
    assert len(sealed.generate(**SMALL)["data"]) == 1
    assert wire.paths == [EVIDENCE, SEALED, EVIDENCE, SEALED]
    keys = {json.loads(sent.body)["client_dh_public_key"] for sent in wire.sent if sent.path == SEALED}
    assert len(keys) == 2, "sealed afresh"
    wire.answer = STALE
    with pytest.raises(obscura.RefusedError):
        sealed.generate(**SMALL)
    wire.evidence = changed(lambda report: report | {"possession": flipped(report["possession"])})
    count = wire.paths.count(SEALED)
    for _ in range(2):
        with pytest.raises(obscura.NodeUntrustedError):
            sealed.generate(**SMALL)
    assert wire.paths.count(SEALED) == count, "nothing more was sent"
    wire.reset()
    assert sealed.generate(**SMALL)["data"], "trusted again when it proves itself again"


def test_evidence_is_asked_for_again_after_ten_minutes_and_where_the_clock_goes_back(wire):
    start = time.time()
    clock = [start]
    with obscura.Node(wire.url, now=lambda: clock[0], **TRUST) as node:
        node.generate(**SMALL)
        clock[0] = start + 601
        node.generate(**SMALL)
        clock[0] = start
        node.generate(**SMALL)
        assert wire.paths == [EVIDENCE, SEALED] * 3
        clock[0] = start + 400 * 86_400
        with pytest.raises(obscura.NodeUntrustedError):
            node.generate(**SMALL)
        assert wire.paths[-1] == EVIDENCE
        clock[0] = -5.0
        with pytest.raises(obscura.ObscuraError):
            node.generate(**SMALL)
        assert wire.paths[-1] == EVIDENCE


def test_each_nonce_is_new(wire):
    for _ in range(3):
        obscura.verify(wire.url, **TRUST)
    nonces = [sent.nonce for sent in wire.sent]
    assert len(set(nonces)) == 3 and all(re.fullmatch("[0-9a-f]{64}", nonce) for nonce in nonces)
