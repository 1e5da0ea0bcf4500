"""A whole model on a card against diffusers: prints how far pictures are from those in f32, as JSON.

    python bench/gpu_truth.py target/release/obscura [--size 512x512 --steps 4 --tiers bf16 fp8]
    python bench/gpu_truth.py target/release/obscura --tiny     # a small model on the CPU, in f32
    python bench/gpu_truth.py target/release/obscura --size 256x256 --steps 2 \
        --reference-on cpu --libraries $EMULATED_GPU            # without a card: tools/emulated-gpu

The model has FLUX.1-schnell's width, two double-stream and four single-stream blocks, text encoders of
two layers, and random weights. It is written in diffusers' layout, and both sides load it from there.
A picture's error is the root of the mean square of its difference from diffusers' in f32, of 255. bf16
passes where it has at most 1.25 times the error of diffusers in bf16, and half a step of 255 besides;
what fp8 loses is only told.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

import gpu_diffusers

TOKENIZERS = pathlib.Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "flux" / "tokenizers"
PROMPT = "A lighthouse on a cliff above a calm sea, early in the morning."
SEED = 42
MAX_RATIO, MAX_MORE = 1.25, 0.5


def main():
    options = parse()
    torch.manual_seed(0)
    # The reference's convolutions are to be in f32, and not in what torch takes for it.
    torch.backends.cudnn.allow_tf32 = False
    # Tools that print their progress would be read as our answer.
    with tempfile.TemporaryDirectory() as temp, contextlib.redirect_stdout(sys.stderr):
        folder = pathlib.Path(temp, "model")
        build(options.tiny, options.reference_on).save_pretrained(folder)
        reference = draw(folder, torch.float32, options)
        print(f"the reference's pixels spread by {reference.std():.1f}")
        errors = {f"obscura_{tier}": apart(ours(folder, tier, options), reference) for tier in options.tiers}
        if not options.tiny:
            errors["diffusers_bf16"] = apart(draw(folder, torch.bfloat16, options), reference)
    peer = errors.get("diffusers_bf16", 0.0)
    first = errors[f"obscura_{options.tiers[0]}"]
    passes = first is not None and first <= MAX_RATIO * peer + MAX_MORE
    print(json.dumps({"result": "pass" if passes else "fail", "errors": errors, "spread": float(reference.std())}))
    sys.exit(0 if passes else 1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path, help="obscura, built for the card")
    parser.add_argument("--size", default="512x512")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--tiers", nargs="+", default=["bf16", "fp8"])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--reference-on", metavar="DEVICE", help="diffusers' device, where it is not ours")
    parser.add_argument("--libraries", metavar="DIR", help="our CUDA libraries, where they are not torch's")
    options = parser.parse_args()
    options.device = "cpu" if options.tiny else "cuda:0"
    options.reference_on = options.reference_on or options.device
    if options.tiny:
        options.tiers, options.size = ["f32"], "64x96"
    return options


def build(tiny, device):
    """A FluxPipeline in bf16 (tiny: f32), its weights random."""
    sizes = gpu_diffusers.TINY if tiny else gpu_diffusers.SCHNELL
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZERS / "clip")
    tokenizer_2 = T5Tokenizer.from_pretrained(TOKENIZERS / "t5")
    end = tokenizer.eos_token_id
    special = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    layers = {} if tiny else {"num_hidden_layers": 2}
    clip = {**sizes["clip"], "vocab_size": len(tokenizer), **special, **layers}
    clip["projection_dim"] = clip["hidden_size"]
    t5 = {**sizes["t5"], "vocab_size": len(tokenizer_2), "tie_word_embeddings": False}
    t5 = {**t5, **({} if tiny else {"num_layers": 2})}
    transformer = {**sizes["transformer"], **({} if tiny else {"num_layers": 2, "num_single_layers": 4})}
    dtype = torch.float32 if tiny else torch.bfloat16
    random = lambda make: gpu_diffusers.random(make, device).to(dtype)
    text_encoder_2 = random(lambda: T5EncoderModel(T5Config(**t5)))
    # Made one by one, the two have come apart; a checkpoint has one table.
    text_encoder_2.encoder.embed_tokens.weight = text_encoder_2.shared.weight
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        text_encoder=random(lambda: CLIPTextModel(CLIPTextConfig(**clip))),
        text_encoder_2=text_encoder_2,
        transformer=random(lambda: FluxTransformer2DModel(**transformer)),
        vae=random(lambda: AutoencoderKL(**sizes["vae"])),
    )


def draw(folder, dtype, options):
    """diffusers' picture (h, w, 3), 0 to 255."""
    # Before diffusers 0.40, what was called `dtype` by transformers had another name there.
    since = tuple(int(part) for part in diffusers.__version__.split(".")[:2])
    name = "dtype" if since >= (0, 40) else "torch_dtype"
    pipe = FluxPipeline.from_pretrained(folder, **{name: dtype}).to(options.reference_on)
    pipe.set_progress_bar_config(disable=True)
    width, height = (int(side) for side in options.size.split("x"))
    # Drawn in f32 whatever the dtype: torch's generator may give 16-bit dtypes fewer random bits.
    shape = (1, 16, height // 8, width // 8)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
    latents = FluxPipeline._pack_latents(latents, *shape).to(options.reference_on, dtype)
    picture = pipe(
        PROMPT,
        width=width,
        height=height,
        num_inference_steps=options.steps,
        guidance_scale=0.0,
        max_sequence_length=256,
        latents=latents,
    ).images[0]
    return np.array(picture).astype(np.float64)


def ours(folder, tier, options):
    """Our picture (h, w, 3), 0 to 255, or None."""
    output = folder.parent / f"{tier}.png"
    words = [options.binary.resolve(), "generate", PROMPT, "--model", folder, "--force", "--output", output]
    words += ["--size", options.size, "--steps", options.steps, "--seed", SEED]
    words += ["--device", options.device, "--dtype", tier]
    environment = {**os.environ, **({"LD_LIBRARY_PATH": options.libraries} if options.libraries else {})}
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=environment)
    print(done.stdout + done.stderr[-2000:])
    return np.array(Image.open(output).convert("RGB")).astype(np.float64) if output.exists() else None


def apart(picture, reference):
    if picture is None or picture.shape != reference.shape:
        return None
    return float(np.sqrt(np.square(picture - reference).mean()))


if __name__ == "__main__":
    main()
