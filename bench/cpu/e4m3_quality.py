"""What `--dtype fp8` costs the picture, emulated on a CPU: the demo model in diffusers, in f32, in bf16, and in
bf16 with the layers that the tier has in 8 bits rounded to e4m3, weights and inputs alike, with a scale for each
row.

    python bench/cpu/e4m3_quality.py

Needs tests/parity/requirements.txt. Prints how far the pictures of the first held-out captions are from those in
f32. The rounding is the tier's; Hopper's own sums, which keep fewer bits than these, are not emulated.
"""

import json
import math
import pathlib

import numpy
import torch
from diffusers import FluxPipeline

ROOT = pathlib.Path(__file__).resolve().parents[2]
CAPTIONS = 40
# The largest value of e4m3.
LARGEST = 448.0


def main():
    held_out = json.loads((ROOT / "tests" / "fixtures" / "demo" / "held_out.json").read_text())
    captions = [scene["caption"] for scene in held_out[:CAPTIONS]]
    exact = draw(load(torch.float32), captions)
    for name, pipe in (("bf16", load(torch.bfloat16)), ("e4m3", in_8_bits(load(torch.bfloat16)))):
        ratios = sorted(psnr(a, b) for a, b in zip(exact, draw(pipe, captions)))
        print(f"{name}: PSNR {ratios[0]:.1f} dB at worst, {ratios[CAPTIONS // 2]:.1f} in the middle of {CAPTIONS}")


def load(dtype):
    pipe = FluxPipeline.from_pretrained(ROOT / "models" / "demo", dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, captions):
    options = {"num_inference_steps": 4, "max_sequence_length": 256, "width": 256, "height": 256}
    pictures = []
    for seed, caption in enumerate(captions):
        generator = torch.Generator().manual_seed(seed)
        pictures.append(numpy.asarray(pipe(caption, generator=generator, **options).images[0], dtype=float))
    return pictures


def in_8_bits(pipe):
    transformer = pipe.transformer
    for blocks in (transformer.transformer_blocks, transformer.single_transformer_blocks):
        for name, layer in blocks.named_modules():
            # What makes a block's modulation stays as it is.
            if isinstance(layer, torch.nn.Linear) and "norm" not in name:
                layer.weight.data = rounded(layer.weight.data)
                layer.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]), *inputs[1:]))
    return pipe


def rounded(rows):
    """Each row as e4m3 would give it back."""
    wide = rows.float()
    scale = wide.abs().amax(-1, keepdim=True) / LARGEST
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return ((wide / scale).to(torch.float8_e4m3fn).float() * scale).to(rows.dtype)


def psnr(a, b):
    mean_square = ((a - b) ** 2).mean()
    return 10 * math.log10(255**2 / mean_square) if mean_square else math.inf


if __name__ == "__main__":
    main()
