#!/usr/bin/env python3
"""The program's memory over many edits, each with an input image of its own.

    python bench/serving/edits_memory.py target/release/obscura KLEIN_DIR [EDITS]

KLEIN_DIR holds a small model that takes input images (`cargo run -p tests --example klein_model -- KLEIN_DIR`).
Starts a node on loopback, asks its clear route for edits over two connections at a time, and tells what is resident
after each tenth of them. The images differ in size, format (PNG, JPEG, WebP) and content; every seventh is cut off,
and has to be refused. Needs Python's `pillow`.
"""

import base64
import concurrent.futures
import http.client
import io
import json
import pathlib
import random
import subprocess
import sys
import time

from PIL import Image

CLIENTS = 2
FORMATS = ("PNG", "JPEG", "WEBP")


def main():
    program, model = sys.argv[1:3]
    edits = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000
    command = [program, "serve", "--model", model, "--tee", "simulated", "--device", "cpu", "--listen", "127.0.0.1:0"]
    command += ["--allow-plaintext", "--set", "log=error"]
    node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(node.stdout.readline().rsplit(":", 1)[1])
        while ask(port, "GET", "/readyz") != 200:
            time.sleep(0.1)
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            for tenth in range(10):
                numbers = range(tenth * edits // 10, (tenth + 1) * edits // 10)
                started = time.monotonic()
                answers = list(pool.map(lambda number: edit(port, number), numbers))
                rate = len(answers) / (time.monotonic() - started)
                expected = [400 if is_cut(number) else 200 for number in numbers]
                assert answers == expected, [pair for pair in zip(numbers, answers, expected) if pair[1] != pair[2]][:5]
                print(f"{numbers.stop:6} edits, {rate:.0f} a second: {resident_mib(node.pid):.1f} MiB", flush=True)
    finally:
        node.terminate()
        node.wait(60)


def is_cut(number):
    return number % 7 == 6


def edit(port, number):
    """The status of one edit."""
    chance = random.Random(number)
    width, height = (chance.randrange(64, 192) for _ in range(2))
    # Small squares, so that formats that compress have something to do.
    squares = Image.frombytes("RGB", (8, 8), chance.randbytes(192))
    file = io.BytesIO()
    squares.resize((width, height), Image.Resampling.BICUBIC).save(file, FORMATS[number % 3])
    data = file.getvalue()
    if is_cut(number):
        data = data[: len(data) // 2]
    url = f"data:image/{FORMATS[number % 3].lower()};base64,{base64.b64encode(data).decode()}"
    body = {"prompt": f"edit {number}", "images": [{"image_url": url}], "size": "64x64", "seed": number, "steps": 1}
    return ask(port, "POST", "/v1/images/edits", body)


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def resident_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
