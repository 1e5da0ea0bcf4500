"""The table of kernels: where the device's time of one image goes."""

import csv
from collections import defaultdict
from dataclasses import dataclass

import toolchain
from ours import bench

# An image is downloaded, then the device pauses: the host makes a PNG of it.
DOWNLOAD = "memcpy DtoH"
PAUSE_NS = 1_000_000
# Fewer are no image.
LEAST_RECORDS = 300
# In order: the first that a kernel's name contains. Names are NVIDIA's libraries' and our own.
FAMILIES = [
    ("attention", ("flash", "sdpa", "fmha")),
    ("convolution", ("fprop", "conv", "implicit_gemm", "winograd")),
    ("product", ("gemm", "nvjet", "cutlass", "xmma", "splitk", "cublas")),
    ("copy", ("memcpy",)),
    ("fill", ("memset", "fill")),
]


@dataclass
class Row:
    start: int
    duration: int
    blocks: int
    name: str


def traced(tier):
    """`obscura bench` under a trace; its findings are a table of kernels of the last image."""
    timed = bench(tier, warmups=1, runs=1)

    def part(flight, name, seconds):
        library = trace_library(flight)
        output = flight.logs / f"trace-{tier}.tsv"
        plain = flight.environment
        flight.environment = {**plain, "CUDA_INJECTION64_PATH": str(library), "TRACE_OUT": str(output)}
        try:
            outcome = timed(flight, name, seconds)
        finally:
            flight.environment = plain
        if not output.exists():
            outcome.code = outcome.code or 1
            outcome.reason = f"nothing was traced: the driver did not load {library}; {outcome.reason}"
            return outcome
        rows, refusals = read(output)
        flight.record.write(name, refusals=refusals, **table(last_image(rows)))
        return outcome

    return part


def trace_library(flight):
    words = ("-shared", "-fPIC", toolchain.library("libcupti"), "-lpthread")
    return toolchain.have(flight, "trace.c", "trace.so", *words)


def read(path):
    """The rows of a trace by time, and what CUPTI refused."""
    rows, refusals = [], []
    with path.open(newline="", errors="replace") as file:
        for fields in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if fields and fields[0].startswith("#"):
                refusals.append(fields[0][1:].strip())
            elif len(fields) == 7:
                rows.append(Row(int(fields[0]), int(fields[1]), int(fields[2]), fields[6]))
    return sorted(rows, key=lambda row: row.start), refusals


def last_image(rows):
    """The rows behind the last image but one. Other pauses, as for an image's noise, are part of it."""
    windows, end = [[]], None
    for row in rows:
        if end is not None and row.start - end > PAUSE_NS and windows[-1][-1].name == DOWNLOAD:
            windows.append([])
        windows[-1].append(row)
        end = max(end or 0, row.start + row.duration)
    whole = [window for window in windows if len(window) >= LEAST_RECORDS]
    return (whole or windows)[-1]


def table(rows, most=60):
    """Milliseconds busy and in all, of each family, and of each kernel."""
    if not rows:
        return {"busy_ms": 0, "span_ms": 0, "families": {}, "kernels": []}
    by_name, by_family = defaultdict(lambda: [0, 0]), defaultdict(float)
    for row in rows:
        by_name[row.name, row.blocks][0] += row.duration
        by_name[row.name, row.blocks][1] += 1
        by_family[family(row.name)] += row.duration / 1e6
    ranked = sorted(by_name.items(), key=lambda item: -item[1][0])[:most]
    return {
        "busy_ms": sum(row.duration for row in rows) / 1e6,
        "span_ms": (max(row.start + row.duration for row in rows) - rows[0].start) / 1e6,
        "families": dict(sorted(by_family.items(), key=lambda item: -item[1])),
        "kernels": [
            {"ms": spent / 1e6, "calls": calls, "us": spent / 1e3 / calls, "blocks": blocks, "kernel": name}
            for (name, blocks), (spent, calls) in ranked
        ],
    }


def family(name):
    lower = name.lower()
    return next((kind for kind, words in FAMILIES if any(word in lower for word in words)), "other")
