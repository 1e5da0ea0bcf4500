"""A relay that lies, between a client and a node. Every byte that the client sends is kept."""

import base64
import contextlib
import dataclasses
import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from conftest import MODEL

PROMPT = "an unmistakable zebra under a violet umbrella"
SMALL = {"model": MODEL, "prompt": PROMPT, "size": "64x64"}
EVIDENCE = "/v1/attestation"
SEALED = "/v1/confidential/images/generations"
JSON = {"content-type": "application/json"}
TRUST = {"accept_simulated": True}


@dataclasses.dataclass
class Sent:
    path: str
    nonce: str | None
    head: str
    body: bytes


@dataclasses.dataclass
class Asked:
    """What a hook is given: what came, and how to ask the node."""

    body: bytes
    nonce: str | None
    forward: object


class Relay:
    """`evidence`, `answer` and `events` change what comes back."""

    def __init__(self, node):
        self.node = node
        self.url = ""
        self.reset()

    def reset(self):
        self.sent = []
        self.evidence = self.answer = self.events = None

    @property
    def paths(self):
        return [sent.path for sent in self.sent]

    def assert_no_prompt(self):
        for sent in self.sent:
            assert_no_prompt(sent.head.encode() + sent.body)

    def respond(self, method, url, headers, body):
        path, _, query = url.partition("?")
        nonce = parse_qs(query).get("nonce", [None])[0]
        head = f"{method} {url}\n" + "\n".join(f"{name}: {value}" for name, value in headers.items())
        self.sent.append(Sent(path, nonce, head, body))

        def forward(to=self.node):
            connection = http.client.HTTPConnection(urlsplit(to).netloc, timeout=60)
            passed = {name: value for name, value in headers.items() if name.lower() not in ("host", "connection")}
            connection.request(method, url, body, passed)
            answer = connection.getresponse()
            kept = ("content-type", "retry-after", "x-request-id", "x-should-retry")
            found = {name.lower(): value for name, value in answer.getheaders() if name.lower() in kept}
            content = answer.read()
            connection.close()
            return answer.status, found, content

        hook = self.evidence if path == EVIDENCE else self.answer
        status, found, content = hook(Asked(body, nonce, forward)) if hook else forward()
        if path != EVIDENCE and self.events and found.get("content-type") == "text/event-stream":
            events = [line for line in content.split(b"\n") if line.startswith(b"data:")]
            content = b"".join(event + b"\n\n" for event in self.events(events))
        return status, found, content


@contextlib.contextmanager
def relay(node):
    """For as long as a file's tests run."""
    state = Relay(node)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):  # noqa: N802 - http.server's name
            self.answer()

        do_POST = do_GET  # noqa: N815

        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, headers, content = state.respond(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            # Whoever found a fault has gone.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def changed(change):
    """A hook that changes the JSON of what comes back."""

    def hook(asked):
        status, headers, content = asked.forward()
        return status, headers, json.dumps(change(json.loads(content))).encode()

    return hook


def constant(status, headers=JSON, content=b""):
    return lambda _: (status, headers, content)


def flipped(text, at=0):
    """Base64 with one bit of it turned over."""
    data = bytearray(base64.b64decode(text))
    data[at] ^= 1
    return base64.b64encode(data).decode()


def assert_no_prompt(data):
    """A prompt's words lie nowhere in what was sent: not as they are, in hex, or at any offset of base64."""
    for word in (word.encode() for word in PROMPT.split() if len(word) > 4):
        forms = [word, word.hex().encode()]
        # Without what its neighbours in a group of three change.
        for before, skipped in [(0, 0), (1, 2), (2, 3)] if len(word) >= 8 else []:
            forms.append(base64.b64encode(b"x" * before + word)[skipped:-4])
        for form in forms:
            assert form not in data, f"{word!r} left as {form!r}"
