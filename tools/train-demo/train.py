"""Makes the demo model from nothing: draws its world, trains on it, writes models/demo.

    python tools/train-demo/train.py --preset cpu       # a CPU; hours of two cores, never run to its end
    python tools/train-demo/train.py --preset more --go-on models/demo      # and then `finish`
    python tools/train-demo/train.py --preset gpu       # one large GPU; never run
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
    # Of pictures and captions in a batch.
    tokens: int
    rate: float
    # The share of the steps that only see the smallest size, where learning is cheapest.
    small_first: float
    autoencoder_rate: float = 5e-3
    mean_decay: float = 0.999
    # Tokens of the longest caption, and some padding.
    short_text: int = 24
    # How many of a picture's tokens are seen where not all of them are.
    some_tokens: int = 192
    compiled_sides: tuple = (128, 256)
    # Of the steps: on some tokens of pictures of many sizes; on whole ones of 256, its own size; on whole
    # ones that are smaller, and larger. First, and in the last third.
    shares: tuple = ((0.7, 0.15, 0.05, 0.1), (0.3, 0.35, 0.1, 0.25))
    seed: int = 20
    checkpoint: object = lambda _: None

    def pictures_of(self, tokens, short):
        """How many pictures of so many tokens make a batch."""
        return max(1, self.tokens // (tokens + (self.short_text if short else parts.T5_TOKENS)))

    def side_at(self, progress, rng):
        """The size of the next step's pictures, or None for some tokens of pictures of many sizes."""
        if progress < self.small_first:
            return 128
        smaller = [side for side in self.pictures if side < 256]
        larger = [side for side in self.pictures if side > 256]
        sides = (None, 256, rng.choice(smaller), rng.choice(larger))
        return rng.choices(sides, self.shares[progress >= 0.7])[0]

    def many_sides(self, count, rng):
        enough = [side for side in self.pictures if (side // 16) ** 2 >= self.some_tokens]
        return [256 if rng.random() < 0.35 else rng.choice(enough) for _ in range(count)]


OWN = {64: 2_000, 96: 500, 128: 32_000, 160: 500, 192: 2_000, 224: 500, 256: 24_000}
LARGER = {16 * rows: 260 for rows in range(17, 33)}

PRESETS = {
    "smoke": Plan(4, 4, {128: 16, 256: 16, 512: 16}, 4, 600, 8e-3, 0.25),
    "cpu": Plan(4_500, 16, OWN | LARGER, 9_000, 6_700, 8e-3, 0.35),
    "more": Plan(0, 0, OWN | LARGER, 4_000, 6_700, 2.4e-3, 0),
    "finish": Plan(0, 0, OWN | LARGER, 1_500, 6_700, 1e-3, 0, shares=2 * ((0.2, 0.45, 0.2, 0.15),)),
    "gpu": Plan(8_000, 64, {side: 4 * count for side, count in (OWN | LARGER).items()}, 30_000, 35_000, 8e-3, 0.3),
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
