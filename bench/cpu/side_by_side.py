"""A picture on the CPU, obscura against diffusers, taking turns on the same machine.

    python bench/cpu/side_by_side.py target/release/obscura
    python bench/cpu/side_by_side.py --diffusers-only

Needs tests/parity/requirements.txt. The model is FLUX.1-schnell made smaller, with random
weights: hidden 512 (8 heads of 64), 4 double and 8 single blocks, T5 of width 512 with 6
layers, CLIP of width 256 with 4, autoencoder 64-128-256-256. It is written once to a
temporary directory in the diffusers layout, f32; both sides read it from there.

Timed is one picture of 512x512 in 4 steps, prompt in, picture out: text encoders, denoising
and decoder, without loading. diffusers' time is taken around the pipeline's call after one
call to warm up; obscura's is `generate_seconds` of the JSON that `--timings json` prints on
its last line. Both have the same number of threads.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

PARITY = pathlib.Path(__file__).resolve().parents[2] / "tests" / "parity"
PROMPT = "a photo of a cat sitting on a wooden table"
SEED = 42


def main():
    options = parse()
    # Before torch is imported, which reads it once.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as temp:
        folder = options.model or pathlib.Path(temp, "model")
        if not folder.exists():
            write_model(folder)
        sides = {"diffusers": Diffusers(folder, options)}
        if options.binary:
            sides["obscura"] = Obscura(folder, pathlib.Path(temp, "out.png"), options)
        seconds = {name: [] for name in sides}
        for turn in range(options.turns):
            for name, side in sides.items():
                seconds[name].append(side.draw())
                print(f"turn {turn + 1}: {name} {seconds[name][-1]:.2f} s", flush=True)
    report(seconds, options)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path, nargs="?", help="obscura, built with --release")
    parser.add_argument("--diffusers-only", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5, help="pictures of each side")
    parser.add_argument("--size", default="512x512")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--model", type=pathlib.Path, help="a directory to keep the model in")
    options = parser.parse_args()
    if (options.binary is None) != options.diffusers_only:
        parser.error("give the path of obscura, or --diffusers-only")
    return options


def write_model(folder):
    sys.path.insert(0, str(PARITY))
    import models

    mid = models.Tiny(
        "mid",
        double_blocks=4,
        single_blocks=8,
        heads=8,
        axes=(8, 28, 28),
        vae_channels=(64, 128, 256, 256),
        vae_groups=32,
        clip_width=256,
        clip_layers=4,
        clip_heads=4,
        t5_width=512,
        t5_layers=6,
        t5_heads=8,
        t5_head_width=64,
    )
    mid.build(PARITY.parent / "fixtures" / "flux" / "tokenizers").save_pretrained(folder)


class Diffusers:
    def __init__(self, folder, options):
        import torch
        from diffusers import FluxPipeline

        torch.set_num_threads(options.threads)
        self.pipe = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
        self.pipe.set_progress_bar_config(disable=True)
        width, height = map(int, options.size.split("x"))
        self.call = {"width": width, "height": height, "num_inference_steps": options.steps}
        self.draw()

    def draw(self):
        import torch

        started = time.perf_counter()
        generator = torch.Generator().manual_seed(SEED)
        self.pipe(PROMPT, max_sequence_length=256, generator=generator, **self.call)
        return time.perf_counter() - started


class Obscura:
    def __init__(self, folder, output, options):
        self.command = [options.binary, "generate", PROMPT, "--model", folder, "--size", options.size]
        self.command += ["--steps", str(options.steps), "--seed", str(SEED), "--force", "--output", output, "--timings", "json"]
        # rayon's and any OpenMP's threads.
        threads = str(options.threads)
        self.environment = {**os.environ, "RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}

    def draw(self):
        done = subprocess.run(self.command, env=self.environment, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout.strip().splitlines()[-1])["generate_seconds"]


def report(seconds, options):
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(f"{name}: median {medians[name]:.2f} s of {len(values)}, {min(values):.2f} to {max(values):.2f}")
    if "obscura" in medians:
        print(f"obscura / diffusers: {medians['obscura'] / medians['diffusers']:.2f}")
    print(f"{options.size}, {options.steps} steps, {options.threads} threads")


if __name__ == "__main__":
    main()
