"""Parts that run our binary: doctor, times, batches, memory limits, a node's start."""

import time

import machine
import verdict
from flight import log_name
from process import Child, Outcome, parse

# A comparison that the device does not survive ends doctor: it goes on without that kernel.
DOCTOR_TRIES = 3


def findings(flight, name):
    """A list that fills with doctor's lines, and what takes each as it comes and records it."""
    lines = []

    def on_json(line):
        lines.append(line)
        # What else the machine has is nobody's figure.
        if line.get("kind") != "machine":
            flight.record.write(name, **line)

    return lines, on_json


def doctor(depth):
    """Kernels against their references; again without the ones that took the device down."""

    def part(flight, name, seconds):
        deadline = time.monotonic() + seconds
        logs = {
            "CUDNN_LOGLEVEL_DBG": "2",
            "CUDNN_LOGDEST_DBG": str(flight.logs / "cudnn.log"),
            "CUBLASLT_LOG_LEVEL": "2",
            "CUBLASLT_LOG_FILE": str(flight.logs / "cublaslt.log"),
        }
        words = [flight.options.binary, "doctor", "--device=cuda:0", "--json", *depth]
        off = set()
        for _ in range(DOCTOR_TRIES):
            lines, on_json = findings(flight, name)
            environment = {**flight.environment, **logs, "OBSCURA_REFERENCE": ",".join(sorted(off))}
            outcome = flight.run(name, words, deadline - time.monotonic(), environment, on_json)
            print(f"    {verdict.short(lines)}", flush=True)
            more = {group for line in verdict.bad(lines) for group in line.get("groups", [])}
            if verdict.is_whole(lines) or outcome.timed_out or more <= off:
                break
            off |= more
        # A verdict is a finding, whatever it says.
        if verdict.is_whole(lines):
            outcome.code = 0
        return outcome

    return part


def bench(tier, *words, warmups=None, runs=None):
    """`obscura bench`, with the kernels that doctor found wrong left to the reference."""

    def part(flight, name, seconds):
        options = flight.options
        command = [options.binary, "bench", "--device=cuda:0", "--json", f"--dtype={tier}"]
        command += [f"--preset={options.preset}", f"--steps={options.steps}"]
        command += [f"--warmups={warmups or options.warmups}", f"--runs={runs or options.runs}", *words]
        if not any(word.startswith("--size") for word in words):
            command.append(f"--size={options.size}")
        with machine.watched(flight, name):
            return flight.run(name, command, seconds, without_wrong_kernels(flight, tier))

    return part


def doctor_of_host(flight, name, seconds):
    """The kernels of the host's processor against their references."""
    lines, on_json = findings(flight, name)
    words = [flight.options.binary, "doctor", "--device=cpu", "--json"]
    outcome = flight.run(name, words, seconds, on_json=on_json)
    print(f"    {verdict.short(lines)}", flush=True)
    # A verdict is a finding here too.
    if verdict.is_whole(lines):
        outcome.code = 0
    return outcome


def bench_of_host(tier, level):
    """An image of FLUX.1-schnell's width with three of its 57 blocks, on the host's processor."""

    def part(flight, name, seconds):
        command = [flight.options.binary, "bench", "--device=cpu", "--json", f"--dtype={tier}", "--preset=schnell"]
        command += ["--blocks=1,2", "--size=512x512", "--steps=4", "--warmups=1", "--runs=3"]
        environment = {**flight.environment, **({"OBSCURA_CPU": level} if level else {})}
        return flight.run(name, command, seconds, environment)

    return part


def without_wrong_kernels(flight, tier):
    lines = [line for depth in ("doctor", "doctor full") for line in flight.record.of(depth)]
    off = verdict.groups_off(lines, tier)
    if off:
        print(f"    the reference computes: {', '.join(off)}", flush=True)
    return {**flight.environment, "OBSCURA_REFERENCE": ",".join(off)}


def sanitized(tool):
    """One small image under compute-sanitizer: reads and writes outside of what was allocated, or races."""

    def part(flight, name, seconds):
        words = ["compute-sanitizer", f"--tool={tool}", "--error-exitcode=9", "--print-limit=20", flight.options.binary]
        words += ["bench", "--device=cuda:0", "--json", "--dtype=bf16", "--preset=small", "--size=256x256"]
        words += ["--steps=1", "--warmups=0", "--runs=1"]
        # Under it, times say nothing.
        outcome = flight.run(name, words, seconds, without_wrong_kernels(flight, "bf16"), lambda line: None)
        said = (flight.logs / f"{log_name(name)}.out").read_text(errors="replace").splitlines()
        problems = [line.removeprefix("=========").strip() for line in said if line.startswith("=========")]
        flight.record.write(name, said=problems[:40])
        return outcome

    return part


def node_start(flight, name, seconds):
    """From a node's start until it is ready: kernels loaded, compared, planned, a first image drawn.

    The model is the demo one, whose weights take no time; the comparisons are of FLUX.1's widths.
    """
    words = [flight.options.binary, "serve", "--model=demo", "--device=cuda:0", "--dtype=bf16"]
    words += ["--listen=127.0.0.1:0", "--tee=simulated", "--log-format=json"]
    # A node does not start with kernels turned off.
    environment = {key: value for key, value in flight.environment.items() if key != "OBSCURA_REFERENCE"}
    node = Child(words, flight.logs, log_name(name), environment=environment)
    deadline = node.started + seconds
    line = None
    while line is None and node.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
        line = ready_line(node.errors)
    ready = time.monotonic() - node.started
    timed_out = line is None and node.process.poll() is None
    node.end()
    if line is None:
        return Outcome(node.process.returncode, timed_out, ready, node.tail())
    flight.record.write(name, ready_seconds=round(ready, 2), log=line)
    return Outcome(0, False, ready, "")


def ready_line(log):
    """What a node logs once it is ready."""
    for line in log.read_text(errors="replace").splitlines():
        if "load_seconds" in line:
            return parse(line.encode()) or line
    return None
