#!/usr/bin/env python3
"""Seconds from the start of a node to its readiness, with files of FLUX.1-schnell's shapes.

    python bench/cold_start.py target/release/obscura --device cuda:0

Writes 33.7 GB of random weights, in bf16, named and sharded as they are published, into a folder that is
deleted afterwards (or kept: --folder); they are then in the page cache, where the machine has room for
them. Starts `obscura serve` with them, several times, and asks /readyz until it says yes: every byte
has been hashed by then, and on a GPU every kernel compared and a first picture drawn. The last line of
output is JSON. Only needs Python.

--small has one block of each kind: 2 GB, for seeing that this works.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from math import prod

from cuda_libraries import with_libraries

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "flux"
PUBLISHED = FIXTURES / "names" / "flux1-schnell"
# Of a component's files, at most: what was published was split so.
SHARD_BYTES = {"text_encoder_2": 5_000_000_000, "transformer": 10_000_000_000}
VALUE_BYTES = 2
# Where each component's layers are counted, and under which names they are.
LAYERS = {
    "transformer": {"num_layers": "transformer_blocks.", "num_single_layers": "single_transformer_blocks."},
    "text_encoder_2": {"num_layers": "encoder.block."},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--layout", choices=["diffusers", "bfl"], default="diffusers")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=pathlib.Path, help="where the files are, or are to be kept")
    options = parser.parse_args()
    if options.small and options.layout == "bfl":
        parser.error("a single file comes without a configuration: it cannot be made smaller")
    with tempfile.TemporaryDirectory() as temp:
        folder = options.folder or pathlib.Path(temp, "model")
        if not folder.exists():
            print(f"writing {folder} …", flush=True)
            write_model(folder, options.layout, options.small)
        size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
        seconds = [start(options, folder) for _ in range(options.runs)]
    print(f"{size / 1e9:.1f} GB: ready after {', '.join(f'{one:.1f}' for one in seconds)} s")
    print(json.dumps({"layout": options.layout, "bytes": size, "seconds_to_ready": seconds}))


def write_model(folder, layout, small):
    shutil.copytree(FIXTURES / "tokenizers" / "clip", folder / "tokenizer")
    shutil.copytree(FIXTURES / "tokenizers" / "t5", folder / "tokenizer_2")
    for config in sorted(PUBLISHED.rglob("*.json")):
        to = folder / config.relative_to(PUBLISHED)
        to.parent.mkdir(exist_ok=True)
        content = json.loads(config.read_text())
        if small:
            content |= dict.fromkeys(LAYERS.get(to.parent.name, ()), 1)
        to.write_text(json.dumps(content))
    components = tensors("diffusers", small)
    if layout == "bfl":
        singles = tensors("bfl", small)
        write_file(folder / "flux1-schnell.safetensors", singles["flux1"])
        write_file(folder / "ae.safetensors", singles["ae"])
        del components["transformer"], components["vae"]
    for component, shapes in components.items():
        stem = "model" if component.startswith("text") else "diffusion_pytorch_model"
        write_shards(folder / component, stem, shapes)


def tensors(layout, small):
    """Name and shape of each tensor, by component."""
    components = {}
    for line in (PUBLISHED / f"{layout}.txt").read_text().splitlines():
        path, shape = line.split(" ")
        component, name = path.split("/", 1)
        prefixes = LAYERS.get(component, {}).values()
        behind = [name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)]
        if small and behind and not behind[0].startswith("0."):
            continue
        shape = [int(side) for side in shape.split(",")]
        components.setdefault(component, {})[name] = shape
    return components


def write_shards(folder, stem, shapes):
    shards, size = [{}], 0
    for name, shape in shapes.items():
        size += prod(shape) * VALUE_BYTES
        if size > SHARD_BYTES.get(folder.name, size):
            shards.append({})
            size = prod(shape) * VALUE_BYTES
        shards[-1][name] = shape
    if len(shards) == 1:
        return write_file(folder / f"{stem}.safetensors", shapes)
    places = {}
    for i, shard in enumerate(shards, 1):
        file = f"{stem}-{i:05}-of-{len(shards):05}.safetensors"
        write_file(folder / file, shard)
        places |= dict.fromkeys(shard, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def write_file(path, shapes):
    ends = list(itertools.accumulate((prod(shape) * VALUE_BYTES for shape in shapes.values()), initial=0))
    header = json.dumps({
        name: {"dtype": "BF16", "shape": shape, "data_offsets": place}
        for (name, shape), place in zip(shapes.items(), itertools.pairwise(ends))
    }).encode()
    block = small_values()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        left = ends[-1]
        while left > 0:
            left -= file.write(block[:left])


def small_values():
    """Bytes of bf16 values of either sign between 1/128 and 1/32."""
    count = 8 << 20
    noise = int.from_bytes(random.Random(0).randbytes(VALUE_BYTES * count), "little")
    every = int.from_bytes(b"\x01\x00" * count, "little")
    return (noise & (every * 0x80FF) | (every * 0x3C00)).to_bytes(VALUE_BYTES * count, "little")


def start(options, folder):
    words = [options.binary, "serve", "--model", folder, "--model-id", "random/flux", "--tee", "simulated"]
    words += ["--device", options.device, "--dtype", options.dtype, "--listen", "127.0.0.1:0"]
    began = time.monotonic()
    environment = with_libraries({**os.environ, "OBSCURA_LOG": "warn"})
    node = subprocess.Popen([str(word) for word in words], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        address = node.stdout.readline().strip().removeprefix("obscura listens on ")
        # Without an address it has ended.
        while not (address and ready(address)):
            if not address or node.poll() is not None:
                sys.exit("obscura ended before it was ready")
            time.sleep(0.05)
        return time.monotonic() - began
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait()


def ready(address):
    try:
        return urllib.request.urlopen(f"{address}/readyz", timeout=5).status == 200
    except (OSError, urllib.error.URLError):
        return False


if __name__ == "__main__":
    main()
