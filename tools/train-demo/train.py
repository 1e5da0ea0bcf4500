"""Makes the demo model from nothing: draws its world, trains on it, writes models/demo.

    python tools/train-demo/train.py --preset cpu       # a CPU; meant for two hours of two cores
    python tools/train-demo/train.py --preset gpu       # one large GPU; meant for minutes, never run
    python tools/train-demo/train.py --preset smoke     # whether it runs at all

Needs tests/parity/requirements.txt. The seed is fixed; machines differ in their last bits, and so
do models. The digests of the committed one are in its manifest.
"""

import argparse
import dataclasses
import pathlib

import torch

import autoencoder
import flow
import parts


@dataclasses.dataclass
class Plan:
    autoencoder_steps: int
    autoencoder_batch: int
    # Pictures of each size that is trained on.
    pictures: dict
    steps: int
    batch: int
    rate: float
    # The share of the steps that only see the smallest size, where learning is cheapest.
    small_first: float
    autoencoder_rate: float = 5e-3
    mean_decay: float = 0.999
    # Tokens of the longest caption, and some padding.
    short_text: int = 24
    # How many of a picture's tokens are seen where not all of them are.
    some_tokens: int = 104
    compiled_sides: tuple = (128, 256)
    seed: int = 20
    checkpoint: object = lambda _: None

    def side_at(self, progress, rng):
        if progress < self.small_first:
            return 128
        # Mostly 256, its own size.
        return 256 if rng.random() < 0.8 else rng.choice(sorted(self.pictures))

    def some_at(self, progress):
        """The share of the large pictures of which only some tokens are seen."""
        return 0.85 if progress < 0.8 else 0.15


PRESETS = {
    "smoke": Plan(4, 4, {128: 16, 256: 16}, 4, 4, 8e-3, 0.5),
    "cpu": Plan(4_500, 16, {64: 2_000, 128: 32_000, 192: 2_000, 256: 12_000, 384: 400, 512: 300}, 9_000, 48, 8e-3, 0.35),
    "gpu": Plan(8_000, 64, {64: 8_000, 128: 80_000, 192: 8_000, 256: 80_000, 384: 3_000, 512: 2_000}, 30_000, 256, 8e-3, 0.3),
}


def main():
    options = parse()
    plan, device = PRESETS[options.preset], torch.device(options.device)
    tokenizer, tokenizer_2, tokenizer_files = parts.tokenizers()
    if options.go_on:
        vae, model = parts.load(options.go_on)
        vae, model = vae.to(device), model.to(device)
    else:
        vae = autoencoder.train(plan, device)
        vae.save_pretrained(options.out / "vae")
        model = parts.learner(tokenizer, tokenizer_2).to(device)
    print(f"{sum(p.numel() for p in [*model.parameters(), *vae.parameters()]):,} parameters", flush=True)

    def write(trained):
        encoders = {"text_encoder": trained["clip"], "text_encoder_2": trained["t5"]}
        pipe = parts.pipeline(tokenizer, tokenizer_2, vae=vae, transformer=trained["transformer"], **encoders)
        parts.save(pipe, tokenizer_files, options.out)

    with torch.no_grad():
        latents = flow.Latents(vae, (tokenizer, tokenizer_2), plan, device)
    plan.checkpoint = write if options.keep_writing else plan.checkpoint
    write(flow.train(model, latents, plan, device))
    print(f"written to {options.out}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=pathlib.Path, default=parts.ROOT / "models" / "demo")
    parser.add_argument("--go-on", type=pathlib.Path, metavar="DIR", help="with this model, its autoencoder as it is")
    parser.add_argument("--keep-writing", action="store_true", help="write it every 100 steps, to look at")
    return parser.parse_args()


if __name__ == "__main__":
    main()
