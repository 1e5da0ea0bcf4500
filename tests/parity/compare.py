"""Draw the same pictures with `obscura generate` and with diffusers, and compare them.

    python compare.py target/release/obscura MODEL_DIR
    python compare.py target/release/obscura MODEL_DIR --prompt "a red door" --size 256x128 --seed 7
    python compare.py target/release/obscura --random 5      # five models made up on the spot

MODEL_DIR is any directory that FluxPipeline.from_pretrained reads. Both sides compute in
f32 on the CPU. A picture passes if 99.9 % of its values lie within 1 of 255 of diffusers'.
What follows `--` is handed to obscura as it is.
"""

import argparse
import pathlib
import random
import subprocess
import sys
import tempfile

import diffusers
import numpy as np
import torch
import transformers
from diffusers import FluxPipeline
from PIL import Image

import models
import record
from prompts import PROMPTS

WITHIN = 1  # of 255
SHARE = 0.999
# Drawn where the command line names nothing else: prompt, width, height, steps, seed, guidance.
DEFAULT_RUNS = (
    ("plain", 64, 64, 4, 42, 3.5),
    ("beyond_t5", 96, 48, 2, 2**32 + 5, 3.5),
    ("emoji", 48, 96, 1, 0, 2.0),
)
TOKENIZERS = pathlib.Path(__file__).parent.parent / "fixtures" / "flux" / "tokenizers"


def main():
    options = parse()
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    failed = 0
    with tempfile.TemporaryDirectory() as temp:
        for folder in model_folders(options, pathlib.Path(temp)):
            pipe = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
            pipe.set_progress_bar_config(disable=True)
            for run, prompt in runs(options, pipe):
                failed += not compare(options, folder, pipe, run, prompt)
    print("all pictures agree" if not failed else f"{failed} pictures differ")
    sys.exit(1 if failed else 0)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path, nargs="?")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="compare on N made-up models")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="of the made-up models")
    parser.add_argument("--prompt", help="one picture of this, not the default ones")
    parser.add_argument("--size", default="64x64")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--guidance", type=float, default=3.5, help="for a guided model")
    parser.add_argument("--text-tokens", type=int, help="T5's length; 256, or 512 for a guided model")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:end])
    if (options.model is None) == (options.random == 0):
        parser.error("give MODEL_DIR or --random N")
    options.extra = words[end + 1 :]
    return options


def model_folders(options, temp):
    if options.model:
        yield options.model
    for seed in range(options.first, options.first + options.random):
        tiny = random_model(seed)
        print(tiny)
        tiny.build(TOKENIZERS).save_pretrained(temp / tiny.name, max_shard_size="100KB")
        yield temp / tiny.name


def random_model(seed):
    """A model of a configuration that nobody chose."""
    choose = random.Random(seed).choice
    groups = choose((1, 2, 4))
    t5_heads, clip_heads = choose((1, 2, 3)), choose((1, 2, 4))
    guided = choose((False, True))
    return models.Tiny(
        f"random-{seed}",
        double_blocks=choose((1, 2, 3)),
        single_blocks=choose((1, 2, 3, 4)),
        heads=choose((1, 2, 3, 5)),
        axes=tuple(choose((2, 4, 6, 8, 16)) for _ in range(3)),
        guided=guided,
        shift=choose((1.0, 3.0)),
        vae_channels=tuple(4 * groups * choose((1, 2, 3)) for _ in range(4)),
        vae_groups=groups,
        vae_layers=choose((1, 2)),
        clip_width=8 * clip_heads * choose((1, 2)),
        clip_heads=clip_heads,
        clip_layers=choose((1, 2, 3)),
        clip_eos=choose((2, -1)),
        t5_width=choose((16, 24, 40)),
        t5_heads=t5_heads,
        t5_head_width=choose((4, 8, 16)),
        t5_layers=choose((1, 2, 3)),
    )


def runs(options, pipe):
    if options.prompt is not None:
        width, height = map(int, options.size.split("x"))
        run = models.Run("prompt", width, height, options.steps, options.seed, options.guidance)
        return [(run, options.prompt)]
    # obscura takes prompts of at most 1000 characters, which is still far beyond both encoders.
    return [(models.Run(*values), PROMPTS[values[0]][:1000]) for values in DEFAULT_RUNS]


def compare(options, folder, pipe, run, prompt):
    """Prints how far the two pictures are apart; whether they pass."""
    guided = pipe.transformer.config.guidance_embeds
    text_tokens = options.text_tokens or (512 if guided else 256)
    theirs = np.array(record.generate(pipe, prompt, run, text_tokens)[0])
    ours = draw(options, folder, run, prompt, guided)
    if ours is None or ours.shape != theirs.shape:
        print(f"{folder.name} {run.name}: FAIL, no picture of that size")
        return False
    apart = np.abs(ours.astype(int) - theirs.astype(int))
    share = (apart <= WITHIN).mean()
    verdict = "pass" if share >= SHARE else "FAIL"
    equal = (apart == 0).mean()
    print(f"{folder.name} {run.name}: {verdict}, {share:.4%} within 1, {equal:.4%} equal, worst {apart.max()}")
    return verdict == "pass"


def draw(options, folder, run, prompt, guided):
    """obscura's picture, (h, w, 3), or None."""
    with tempfile.TemporaryDirectory() as temp:
        output = pathlib.Path(temp, "out.png")
        command = [options.binary, "generate", prompt, "--model", folder, "--force", "--output", output]
        command += ["--size", f"{run.width}x{run.height}", "--steps", str(run.steps), "--seed", str(run.seed)]
        if guided:
            command += ["--guidance", str(run.guidance)]
        done = subprocess.run([*command, *options.extra], capture_output=True, text=True)
        if done.returncode != 0 or not output.exists():
            print(done.stderr.strip()[-600:] or f"{options.binary} left no picture")
            return None
        return np.array(Image.open(output).convert("RGB"))


if __name__ == "__main__":
    main()
