"""Peak memory of loading a model, against the size of its weights in the type they compute in.

    python bench/cpu/peak_memory.py target/release/obscura

Needs tests/parity/requirements.txt. The model is FLUX.1-schnell made smaller, 2.5 GB of random
weights in f32, written once as f32 and once as bf16; the node computes in f32 either way. It
draws one picture of 16x16 in one step, so that the peak is loading's.
"""

import argparse
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile

PARITY = pathlib.Path(__file__).resolve().parents[2] / "tests" / "parity"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        for dtype, value_bytes in (("float32", 4), ("bfloat16", 2)):
            folder = pathlib.Path(temp, dtype)
            # In a process of its own: a child's peak begins at what its parent held.
            writing = multiprocessing.Process(target=write_model, args=(folder, dtype))
            writing.start()
            writing.join()
            files = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
            # What is computed in f32 has four bytes a value, whatever the file has.
            weights = files * 4 // value_bytes
            peak = draw(options.binary, folder, pathlib.Path(temp, "out.png"))
            print(f"{dtype} files: weights {weights / 2**20:.0f} MiB in f32, peak {peak / 2**20:.0f} MiB, ratio {peak / weights:.3f}")


def write_model(folder, dtype):
    sys.path.insert(0, str(PARITY))
    import models
    import torch

    big = models.Tiny(
        "big", double_blocks=4, single_blocks=8, heads=12, axes=(16, 56, 56),
        clip_width=256, clip_layers=2, clip_heads=4,
        t5_width=512, t5_layers=4, t5_heads=8, t5_head_width=64,
    )
    pipe = big.build(PARITY.parent / "fixtures" / "flux" / "tokenizers")
    pipe.to(getattr(torch, dtype)).save_pretrained(folder)


def draw(binary, folder, output):
    """Runs obscura and returns the peak of its resident memory in bytes, as the kernel counted it."""
    command = [binary, "generate", "x", "--model", folder, "--size", "16x16", "--steps", "1", "--force", "--output", output]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit("obscura failed")
    return usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
