"""Trains the autoencoder on crops of drawn scenes."""

import random

import torch
from torch.nn import functional as F

import draw
import parts
import world

CROP = 64


def train(plan, device):
    torch.manual_seed(plan.seed)
    rng = random.Random(plan.seed)
    model = parts.autoencoder().to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=plan.autoencoder_steps)
    pictures = Pictures(rng, side=256)
    for step in range(plan.autoencoder_steps):
        crops = pictures.crops(plan.autoencoder_batch).to(device)
        posterior = model.encode(crops).latent_dist
        latents = posterior.sample()
        out = model.decode(latents).sample
        loss = reconstruction(out, crops) + 2e-4 * posterior.kl().mean() / (CROP * CROP / 64)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step + 1 == plan.autoencoder_steps:
            print(f"autoencoder {step}: loss {loss.item():.4f}, error {(out - crops).abs().mean().item():.4f}", flush=True)
    return standardise(model.eval(), pictures, device)


def reconstruction(out, wanted):
    """Values, and differences of neighbours: edges matter more than their share of the pixels."""
    def slopes(x):
        return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]

    edges = sum(F.l1_loss(a, b) for a, b in zip(slopes(out), slopes(wanted)))
    return F.l1_loss(out, wanted) + edges


class Pictures:
    """Drawn scenes, each used for several crops."""

    def __init__(self, rng, side, keep=64):
        self.rng, self.side = rng, side
        self.kept = [self.fresh() for _ in range(keep)]

    def fresh(self):
        return draw.draw(world.make(self.rng), self.side)

    def crops(self, count):
        # Two new pictures a batch, in place of others.
        for _ in range(2):
            self.kept[self.rng.randrange(len(self.kept))] = self.fresh()
        return torch.stack([self.crop(self.rng.choice(self.kept)) for _ in range(count)])

    def crop(self, picture):
        # On the grid of 8×8 blocks, as they are in whole pictures.
        y, x = (8 * self.rng.randrange((self.side - CROP) // 8 + 1) for _ in range(2))
        return picture[:, y : y + CROP, x : x + CROP]


@torch.no_grad()
def standardise(model, pictures, device):
    """Sets what latents are moved and scaled by, so that they have mean 0 and deviation 1."""
    latents = torch.cat([model.encode(p[None].to(device)).latent_dist.mode() for p in pictures.kept[:48]])
    mean, deviation = latents.mean().item(), latents.std().item()
    model.register_to_config(shift_factor=mean, scaling_factor=1 / deviation)
    return model
