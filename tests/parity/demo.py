"""Draws with the demo model as diffusers does, in f32: writes tests/fixtures/demo/diffusers-*.png.

    python tests/parity/demo.py

Needs requirements.txt. Captions and seeds are those of tests/demo_model.rs.
"""

import pathlib

import torch
from diffusers import FluxPipeline

ROOT = pathlib.Path(__file__).resolve().parents[2]
CAPTIONS = (
    "a red circle above a blue square on a yellow background",
    "a small yellow star above a red house on a green field",
    "two teal hearts in the night sky",
    "a white crescent to the right of an orange ring on a gradient from purple to black",
)


def main():
    pipe = FluxPipeline.from_pretrained(ROOT / "models" / "demo", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    for seed, caption in enumerate(CAPTIONS, 1):
        generator = torch.Generator().manual_seed(seed)
        options = {"num_inference_steps": 4, "max_sequence_length": 256, "generator": generator}
        picture = pipe(caption, width=256, height=256, **options).images[0]
        picture.save(ROOT / "tests" / "fixtures" / "demo" / f"diffusers-{seed}.png", optimize=True)


if __name__ == "__main__":
    main()
