"""Draw the same pictures with `obscura generate` and with diffusers, and compare them.

    python compare.py target/release/obscura MODEL_DIR
    python compare.py target/release/obscura MODEL_DIR --prompt "a red door" --size 256x128 --seed 7
    python compare.py target/release/obscura MODEL_DIR --image a.png --image b.jpg
    python compare.py target/release/obscura MODEL_DIR --image a.png --mask transparent_where_drawn.png
    python compare.py target/release/obscura --random 5      # five models made up on the spot

MODEL_DIR is any directory that FluxPipeline.from_pretrained or Flux2KleinPipeline.from_pretrained reads: its
model_index.json says which. `--image` and `--mask` are for FLUX.2-klein, whose default pictures are drawn from text, from
input pictures and under a mask; `--random` makes up models of FLUX.1's kind. Both sides compute in f32 on the CPU. A
picture passes if 99.9 % of its values lie within 1 of 255 of diffusers'. What follows `--` is handed to obscura as it is.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import diffusers
import numpy as np
import torch
import transformers
from diffusers import Flux2KleinPipeline, FluxPipeline
from PIL import Image, ImageOps

import klein_models
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
# The same of FLUX.2-klein: prompt, width, height, steps, seed, input pictures, whether the first has a mask. Input
# pictures as they would be of the golden files.
KLEIN_RUNS = (
    ("plain", 64, 64, 4, 42),
    ("beyond_t5", 96, 48, 2, 2**32 + 5),
    ("emoji", 48, 96, 1, 0, ((101, 75),)),
    ("cjk", 64, 64, 4, 3, ((64, 64), (130, 66))),
    ("plain", 96, 64, 4, 11, ((101, 75),), True),
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
            model = family(folder)(folder, options, pathlib.Path(temp))
            for run, prompt in model.runs():
                failed += not compare(options, folder, model, run, prompt)
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
    parser.add_argument("--image", type=pathlib.Path, action="append", default=[], help="of FLUX.2-klein: draw from this")
    parser.add_argument("--mask", type=pathlib.Path, help="the first --image's, transparent where that is drawn anew")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:end])
    if (options.model is None) == (options.random == 0):
        parser.error("give MODEL_DIR or --random N")
    if options.prompt is None and (options.image or options.mask):
        parser.error("--image and --mask go with --prompt")
    if options.mask and not options.image:
        parser.error("--mask is the first --image's")
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


def family(folder):
    """Which of the two kinds of model a directory has."""
    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    return {"FluxPipeline": Flux1, "Flux2KleinPipeline": Klein}[name]


def cut(prompt):
    """obscura takes prompts of at most 1000 characters, which is still far beyond the encoders."""
    return PROMPTS[prompt][:1000]


class Flux1:
    def __init__(self, folder, options, _temp):
        if options.image:
            raise SystemExit(f"{folder.name}: FLUX.1 takes no --image")
        self.options = options
        self.pipe = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
        self.pipe.set_progress_bar_config(disable=True)
        self.guided = self.pipe.transformer.config.guidance_embeds

    def runs(self):
        options = self.options
        if options.prompt is not None:
            width, height = map(int, options.size.split("x"))
            run = models.Run("prompt", width, height, options.steps, options.seed, options.guidance)
            return [(run, options.prompt)]
        return [(models.Run(*values), cut(values[0])) for values in DEFAULT_RUNS]

    def draw(self, run, prompt):
        return record.generate(self.pipe, prompt, run, self.options.text_tokens or (512 if self.guided else 256))[0]

    def flags(self, run):
        return ["--guidance", str(run.guidance)] if self.guided else []


class Klein:
    """Pictures and masks are files, which both sides read."""

    def __init__(self, folder, options, temp):
        self.options, self.temp = options, temp
        self.pipe = Flux2KleinPipeline.from_pretrained(folder, dtype=torch.float32)
        self.pipe.set_progress_bar_config(disable=True)

    def runs(self):
        options = self.options
        if options.prompt is not None:
            width, height = map(int, options.size.split("x"))
            run = klein_models.Run("prompt", width, height, options.steps, options.seed, masked=options.mask is not None)
            return [(run, options.prompt)]
        return [(klein_models.Run(*values), cut(values[0])) for values in KLEIN_RUNS]

    def files(self, run):
        """The input pictures', and the mask's where there is one."""
        if self.options.prompt is not None:
            return self.options.image, self.options.mask
        files = []
        for size in run.inputs:
            files.append(self.temp / f"{size[0]}x{size[1]}.png")
            klein_models.input_picture(*size).save(files[-1])
        mask = self.temp / "mask.png"
        if run.masked:
            klein_models.mask_picture(*run.inputs[0]).save(mask)
        return files, mask if run.masked else None

    def draw(self, run, prompt):
        files, mask = self.files(run)
        pictures = [ImageOps.exif_transpose(Image.open(file)).convert("RGB") for file in files]
        pipe, call = self.pipe, {"width": run.width, "height": run.height, "image": pictures or None}
        if mask:
            alpha = Image.open(mask).convert("RGBA").getchannel("A")
            pipe, (first, *others) = klein_models.inpainting(pipe), pictures
            call = {"image": first, "image_reference": others or None, "mask_image": ImageOps.invert(alpha), "strength": 1.0}
        generator = torch.Generator().manual_seed(run.seed)
        return pipe(prompt=prompt, num_inference_steps=run.steps, generator=generator, **call).images[0]

    def flags(self, run):
        files, mask = self.files(run)
        return [*(word for file in files for word in ("--image", file)), *(["--mask", mask] if mask else [])]


def compare(options, folder, model, run, prompt):
    """Prints how far the two pictures are apart; whether they pass."""
    theirs = np.array(model.draw(run, prompt))
    ours = draw(options, folder, run, prompt, model.flags(run), theirs.shape)
    if ours is None or ours.shape != theirs.shape:
        print(f"{folder.name} {run.name}: FAIL, no picture of that size")
        return False
    apart = np.abs(ours.astype(int) - theirs.astype(int))
    share = (apart <= WITHIN).mean()
    verdict = "pass" if share >= SHARE else "FAIL"
    equal = (apart == 0).mean()
    print(f"{folder.name} {run.name}: {verdict}, {share:.4%} within 1, {equal:.4%} equal, worst {apart.max()}")
    return verdict == "pass"


def draw(options, folder, run, prompt, flags, shape):
    """obscura's picture, (h, w, 3), or None. A masked one's size is its input picture's, not the run's."""
    with tempfile.TemporaryDirectory() as temp:
        output = pathlib.Path(temp, "out.png")
        command = [options.binary, "generate", prompt, "--model", folder, "--force", "--output", output]
        command += ["--size", f"{shape[1]}x{shape[0]}", "--steps", str(run.steps), "--seed", str(run.seed), *flags]
        done = subprocess.run([*command, *options.extra], capture_output=True, text=True)
        if done.returncode != 0 or not output.exists():
            print(done.stderr.strip()[-600:] or f"{options.binary} left no picture")
            return None
        return np.array(Image.open(output).convert("RGB"))


if __name__ == "__main__":
    main()
