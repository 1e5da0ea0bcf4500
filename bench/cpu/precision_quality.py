"""What `--dtype bf16` and `--dtype int8` cost the image on a CPU: how far the demo model's images of the first held-out
captions are from those in f32.

    python bench/cpu/precision_quality.py target/release/obscura

Needs numpy and Pillow.
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
CAPTIONS = 40


def main():
    program = sys.argv[1]
    held_out = json.loads((ROOT / "tests" / "fixtures" / "demo" / "held_out.json").read_text())
    captions = [scene["caption"] for scene in held_out[:CAPTIONS]]
    exact = draw(program, captions, "f32")
    for dtype in ("bf16", "int8"):
        ratios = sorted(psnr(a, b) for a, b in zip(exact, draw(program, captions, dtype)))
        print(f"{dtype}: PSNR {ratios[0]:.1f} dB at worst, {ratios[CAPTIONS // 2]:.1f} in the middle of {CAPTIONS}")


def draw(program, captions, dtype):
    with tempfile.TemporaryDirectory() as folder:
        prompts = pathlib.Path(folder, "prompts.txt")
        prompts.write_text("\n".join(captions) + "\n")
        images = pathlib.Path(folder, "image.png")
        command = [program, "generate", "--model", "demo", "--device", "cpu", "--dtype", dtype, "--seed", "1"]
        command += ["--prompts", prompts, "--output", images]
        subprocess.run(command, check=True, capture_output=True)
        files = sorted(pathlib.Path(folder).glob("*.png"))
        assert len(files) == len(captions), files
        return [numpy.asarray(Image.open(file)).astype(float) for file in files]


def psnr(a, b):
    return 10 * math.log10(255**2 / max(((a - b) ** 2).mean(), 1e-9))


if __name__ == "__main__":
    main()
