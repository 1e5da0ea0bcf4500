#!/usr/bin/env python3
"""A node under each attack in turn, with 64 honest clients beside it.

    python bench/soak target/release/obscura --machine "8 cores of a …"

Starts the program on loopback with the demo model and simulated evidence, and attacks it for --seconds with
each of `attacks.py`, while honest clients ask for sealed images, verifiers for evidence, and a probe for
`/healthz` on its own listener. Of each attack it tells:

  lost      honest requests that came to nothing. Who is told to come back, comes back, and is not lost
  healthz   milliseconds until the probe is answered, connection included; at most 50 for 99 of 100
  memory    the most that the program held, and the bound that its budgets give it

A table, and a line of JSON an attack in bench/results/. Ends with 1 where one of these did not hold. Needs
Python's `cryptography`, which the tests of clients install too. Clients and attackers take the same cores
as the node, so that times are those of a machine with too much to do.
"""

import argparse
import datetime
import hashlib
import http.client
import json
import multiprocessing
import pathlib
import queue
import signal
import subprocess
import sys
import time

import attacks
import honest
from wire import LOCK, MODEL, Target, unb64

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results"
MIB = 1 << 20
HEALTH_P99_MS = 50
# Of the node; everything else is as it comes.
SETTINGS = {
    "queue_capacity": 128, "answer_memory_bytes": 128 * MIB, "url_memory_bytes": 16 * MIB,
    # Less than `large_bodies` of attacks.py sends.
    "body_memory_bytes": 64 * MIB,
}
CONNECTIONS = 1024  # as they come
# Of one connection: what HTTP buffers of its heads, of a body that nobody has read, of an answer.
CONNECTION_BYTES = 256 * 1024
# What the program may take beyond what it takes when all are honest. A body counts with what is decoded of
# it and decrypted: twice three quarters.
BUDGET_BYTES = int(
    2.5 * SETTINGS["body_memory_bytes"] + SETTINGS["answer_memory_bytes"] + SETTINGS["url_memory_bytes"]
    + CONNECTIONS * CONNECTION_BYTES
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=20, help="of each attack")
    parser.add_argument("--only", action="append", help="an attack's name; several times for several")
    parser.add_argument("--machine", default="", help="what it ran on, for the record")
    options = parser.parse_args()
    chosen = [attack for attack in attacks.ALL if not options.only or attack.__name__ in options.only]
    if unknown := set(options.only or []) - {attack.__name__ for attack in chosen}:
        parser.error(f"no attack is called {', '.join(sorted(unknown))}")

    now = datetime.datetime.now(datetime.timezone.utc)
    node = Node(options.program)
    findings = []
    try:
        quiet = phase(node, None, options.seconds)
        bound = quiet["memory_max_bytes"] + BUDGET_BYTES
        for attack in [None, *chosen]:
            finding = quiet if attack is None else phase(node, attack, options.seconds)
            findings.append(finding | {"memory_bound_bytes": bound, "held": held(finding, bound)})
            print(row(findings[-1]), flush=True)
    finally:
        stopped = node.stop()
    print(f"\nAsked to stop, the program ended with {stopped}.")
    RESULTS.mkdir(exist_ok=True)
    about = {
        "soak": now.isoformat(timespec="seconds"), "machine": options.machine, "seconds_each": options.seconds,
        "clients": honest.CLIENTS, "version": node.version, "build": options.program.parent.name, "settings": SETTINGS, "exit": stopped,
    }
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}-soak.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [about, *findings]))
    print(f"Written to {path}.")
    sys.exit(0 if stopped == 0 and all(finding["held"] for finding in findings) else 1)


def held(finding, bound):
    honest_, probe = finding["honest"], finding["probe"]
    return (
        honest_["lost"] == 0 and honest_["served"] > 0 and honest_["verified"] > 0
        and probe["failed"] == 0 and probe["p99_ms"] <= HEALTH_P99_MS and finding["memory_max_bytes"] <= bound
    )


HEADINGS = "attack", "lost", "served", "to wait", "p50 s", "p99 s", "verified", "healthz p50", "p99", "max ms", "MiB", "bound", "held"
ROW = "{:16} {:>5} {:>6} {:>7} {:>6} {:>6} {:>8} {:>11} {:>6} {:>6} {:>5} {:>5}  {}"


def row(finding):
    h, p = finding["honest"], finding["probe"]
    secs = lambda value: "-" if value is None else f"{value:.2f}"
    heading = ROW.format(*HEADINGS) + "\n" if finding["attack"] == "none" else ""
    return heading + ROW.format(
        finding["attack"], h["lost"], h["served"], h["told_to_wait"], secs(h["p50_secs"]), secs(h["p99_secs"]),
        h["verified"], f"{p['p50_ms']:.1f}", f"{p['p99_ms']:.1f}", f"{p['max_ms']:.0f}",
        finding["memory_max_bytes"] // MIB, finding["memory_bound_bytes"] // MIB, "yes" if finding["held"] else "NO",
    )


def phase(node, attack, seconds):
    """One attack, or none, with everybody else; what became of all of them."""
    target = node.target()
    results = multiprocessing.Queue()
    processes = [
        multiprocessing.Process(target=honest.run, args=(target, seconds, results)),
        multiprocessing.Process(target=honest.probe, args=(target, seconds, results)),
    ]
    if attack:
        processes.append(multiprocessing.Process(target=attacks.run, args=(attack, target, seconds, results)))
    for process in processes:
        process.start()
    found, memory = {}, 0
    while len(found) < len(processes):
        memory = max(memory, node.memory_bytes())
        try:
            name, result = results.get(timeout=0.05)
            found[name] = result
        except queue.Empty:
            # A process that is gone without a word would be waited for for ever.
            silent = [p for p in processes if p.exitcode]
            assert not silent, f"{silent} failed"
    for process in processes:
        process.join()
    name = attack.__name__ if attack else "none"
    return {"attack": name, **found, "memory_max_bytes": memory}


class Node:
    """The program, serving."""

    def __init__(self, program):
        digest = lambda key: hashlib.sha256(key.encode()).hexdigest()
        keys = ",".join(digest(key) for key in [*honest.KEYS, attacks.KEY])
        command = [program, "serve", "--model", "demo", "--tee", "simulated", "--device", "cpu", "--listen", "127.0.0.1:0"]
        settings = SETTINGS | {"health_listen": "127.0.0.1:0", "api_keys_sha256": keys, "log": "error"}
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        self.version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        port = lambda: int(self.process.stdout.readline().rsplit(":", 1)[1])
        self.port, self.health_port = port(), port()
        while self.ask("GET", "/readyz", port=self.health_port)[0] != 200:
            time.sleep(0.1)

    def ask(self, method, path, body=None, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {honest.KEYS[0]}"}
        connection.request(method, path, body and json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def target(self):
        """The node with its key of now."""
        _, lock = self.ask("POST", LOCK, {"model": MODEL})
        return Target("127.0.0.1", self.port, self.health_port, unb64(json.loads(lock)["public_key"]))

    def memory_bytes(self):
        """What of the program is in memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


if __name__ == "__main__":
    main()
