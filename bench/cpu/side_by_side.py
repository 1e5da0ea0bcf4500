"""An image on the CPU, obscura against diffusers, taking turns on the same machine.

    python bench/cpu/side_by_side.py target/release/obscura
    python bench/cpu/side_by_side.py target/release/obscura --ours bf16 --peers bf16 compiled
    python bench/cpu/side_by_side.py target/release/obscura --shapes middle
    python bench/cpu/side_by_side.py --peers f32
    python bench/cpu/side_by_side.py target/release/obscura --family klein --ours f32 bf16 --peers f32 bf16
    python bench/cpu/side_by_side.py target/release/obscura --family klein --inputs 1

Needs tests/parity/requirements.txt; the peer `openvino` needs optimum-intel[openvino] besides. Weights are random, and
are written once in f32, in diffusers' layout; all sides read them from there.

  true    FLUX.1-schnell's width with 3 of its 57 blocks: hidden 3072 (24 heads of 128), one double and two single
          blocks, CLIP-L, two of T5's 24 layers (4096 wide, feed-forward 8200), the whole autoencoder: 6 GB of files
  middle  hidden 512 (8 heads of 64), 4 double and 8 single blocks, T5 of width 512 with 6 layers, CLIP of width 256
          with 4, autoencoder 64-128-256-256

`--family klein` is FLUX.2-klein instead of FLUX.1, from text or from `--inputs` pictures of the size that is drawn:

  true    FLUX.2-klein-4B's width with 3 of its 25 blocks: hidden 3072 (24 heads of 128), one double and two single blocks,
          the whole autoencoder. Qwen3 of true depth, since its layers 9, 18 and 27 are read, and of width 256
  middle  hidden 512 (8 heads of 64), 2 double and 6 single blocks, Qwen3 of width 128, autoencoder 32-64-128-128
  small   the least that runs, to try the script

Timed is one image, prompt in, pixels out: text encoders, denoising and decoder, without loading. A peer's time is taken
around the pipeline's call, after one call to warm up; ours is `generate_seconds` of the JSON that `--timings json`
prints on its last line, in a program that has drawn nothing before. All have the same number of threads.
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
KLEIN_SHAPES = {
    "true": dict(
        double_blocks=1,
        single_blocks=2,
        heads=24,
        axes=(32, 32, 32, 32),
        latent_channels=32,
        vae_channels=(128, 256, 512, 512),
        decoder_channels=(96, 192, 384, 384),
        text_width=256,
        text_heads=4,
        text_groups=2,
        text_head_width=64,
    ),
    "middle": dict(
        double_blocks=2,
        single_blocks=6,
        heads=8,
        axes=(16, 16, 16, 16),
        latent_channels=16,
        vae_channels=(32, 64, 128, 128),
        text_width=128,
        text_heads=4,
        text_groups=2,
        text_head_width=32,
    ),
    "small": dict(double_blocks=1, single_blocks=2, heads=2, axes=(8, 8, 8, 8), vae_channels=(32, 32, 64, 64)),
}
SHAPES = {
    "true": dict(
        double_blocks=1,
        single_blocks=2,
        heads=24,
        axes=(16, 56, 56),
        vae_channels=(128, 256, 512, 512),
        clip_width=768,
        clip_layers=12,
        clip_heads=12,
        t5_width=4096,
        t5_layers=2,
        t5_heads=64,
    ),
    "middle": dict(
        double_blocks=4,
        single_blocks=8,
        heads=8,
        axes=(8, 28, 28),
        vae_channels=(64, 128, 256, 256),
        clip_width=256,
        clip_layers=4,
        clip_heads=4,
        t5_width=512,
        t5_layers=6,
        t5_heads=8,
    ),
}


def main():
    options = parse()
    # Before torch is imported, which reads it once.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as temp:
        folder = options.model or pathlib.Path(temp, "model")
        if not folder.exists():
            write_model(folder, options)
        options.pictures = write_pictures(pathlib.Path(temp), options)
        sides = {f"{PEERS[peer].program} {peer}": PEERS[peer](folder, peer, options) for peer in options.peers}
        if options.binary:
            ours = {f"obscura {dtype}": Obscura(folder, pathlib.Path(temp, "out.png"), dtype, options) for dtype in options.ours}
            sides |= ours
        seconds = {name: [] for name in sides}
        for turn in range(options.turns):
            for name, side in sides.items():
                seconds[name].append(side.draw())
                print(f"turn {turn + 1}: {name} {seconds[name][-1]:.2f} s", flush=True)
    report(seconds, options)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path, nargs="?", help="obscura, built with --release")
    parser.add_argument("--ours", nargs="+", choices=["f32", "bf16", "int8"], default=["f32"])
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=["f32"], help="diffusers f32, bf16, bf16 compiled; OpenVINO bf16")
    parser.add_argument("--family", choices=["flux1", "klein"], default="flux1")
    parser.add_argument("--inputs", type=int, default=0, help="of klein: input pictures")
    parser.add_argument("--shapes", choices=["true", "middle", "small"], default="true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5, help="images of each side")
    parser.add_argument("--size", default="512x512")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--model", type=pathlib.Path, help="a directory to keep the model in")
    options = parser.parse_args()
    if options.binary is None and not options.peers:
        parser.error("nothing to measure: give the path of obscura, or --peers")
    is_klein = options.family == "klein"
    if options.shapes not in (KLEIN_SHAPES if is_klein else SHAPES):
        parser.error(f"--family {options.family} has no shapes {options.shapes}")
    if options.inputs and not is_klein:
        parser.error("--inputs are for --family klein")
    if is_klein and "openvino" in options.peers:
        parser.error("openvino draws FLUX.1 here")
    return options


def write_model(folder, options):
    sys.path.insert(0, str(PARITY))
    fixtures = PARITY.parent / "fixtures"
    if options.family == "klein":
        import klein_models

        model = klein_models.Tiny(options.shapes, vae_groups=32, **KLEIN_SHAPES[options.shapes])
        model.build(fixtures / "klein" / "tokenizer").save_pretrained(folder)
        return
    import models

    model = models.Tiny(options.shapes, vae_groups=32, t5_head_width=64, **SHAPES[options.shapes])
    model.build(fixtures / "flux" / "tokenizers").save_pretrained(folder)


def write_pictures(folder, options):
    """Input pictures as large as what is drawn; their files."""
    if options.inputs == 0:
        return []
    sys.path.insert(0, str(PARITY))
    import klein_models

    width, height = map(int, options.size.split("x"))
    files = [folder / f"{number}.png" for number in range(options.inputs)]
    for file in files:
        klein_models.input_picture(width, height).save(file)
    return files


class Peer:
    """A pipeline with diffusers' call; the first call warms it up."""

    def __init__(self, folder, peer, options):
        import torch

        torch.set_num_threads(options.threads)
        self.pipe = self.load(folder, peer, options)
        self.pipe.set_progress_bar_config(disable=True)
        width, height = map(int, options.size.split("x"))
        self.call = {"width": width, "height": height, "num_inference_steps": options.steps}
        if options.family == "klein":
            from PIL import Image

            self.call["image"] = [Image.open(file).convert("RGB") for file in options.pictures] or None
        else:
            self.call["max_sequence_length"] = 256
        self.draw()

    def draw(self):
        import torch

        started = time.perf_counter()
        generator = torch.Generator().manual_seed(SEED)
        self.pipe(prompt=PROMPT, generator=generator, **self.call)
        return time.perf_counter() - started


class Diffusers(Peer):
    program = "diffusers"

    def load(self, folder, peer, options):
        import torch
        from diffusers import Flux2KleinPipeline, FluxPipeline

        kind = Flux2KleinPipeline if options.family == "klein" else FluxPipeline
        pipe = kind.from_pretrained(folder, torch_dtype=torch.float32 if peer == "f32" else torch.bfloat16)
        if peer == "compiled":
            pipe.transformer = torch.compile(pipe.transformer)
            pipe.vae.decode = torch.compile(pipe.vae.decode)
        return pipe


class OpenVino(Peer):
    program = "OpenVINO"

    def load(self, folder, peer, options):
        from optimum.intel import OVFluxPipeline

        config = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": str(options.threads)}
        return OVFluxPipeline.from_pretrained(folder, export=True, ov_config=config)


PEERS = {"f32": Diffusers, "bf16": Diffusers, "compiled": Diffusers, "openvino": OpenVino}


class Obscura:
    def __init__(self, folder, output, dtype, options):
        self.command = [options.binary, "generate", PROMPT, "--model", folder, "--size", options.size, "--device", "cpu"]
        self.command += ["--dtype", dtype, "--steps", str(options.steps), "--seed", str(SEED)]
        self.command += ["--force", "--output", output, "--timings", "json"]
        self.command += [word for file in options.pictures for word in ("--image", file)]
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
    peers = {name: taken for name, taken in medians.items() if not name.startswith("obscura")}
    for ours in medians.keys() - peers.keys():
        for name, taken in peers.items():
            print(f"{ours} / {name}: {medians[ours] / taken:.2f}")
    inputs = f", {options.inputs} input pictures" if options.inputs else ""
    print(f"{options.family} {options.shapes}, {options.size}{inputs}, {options.steps} steps, {options.threads} threads")


if __name__ == "__main__":
    main()
