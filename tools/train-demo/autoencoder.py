"""Trains the autoencoder on crops of drawn scenes."""

import random

import torch
from torch.nn import functional as F

import draw
import flow
import muon
import parts
import world

CROP = 64


def train(plan, device):
    torch.manual_seed(plan.seed)
    rng = random.Random(plan.seed)
    model = parts.autoencoder().to(device, memory_format=torch.channels_last)
    optimisers = muon.and_adamw(model.named_parameters(), plan.autoencoder_rate, weight_decay=0.02)
    pictures = Pictures(rng, side=256)

    @torch.compile
    def there_and_back(crops):
        with torch.autocast(device.type, torch.bfloat16):
            posterior = model.encode(crops).latent_dist
            out = model.decode(posterior.sample()).sample
        return out.float(), posterior.kl().mean() / (CROP * CROP / 64)

    for step in range(plan.autoencoder_steps):
        crops = pictures.crops(plan.autoencoder_batch).to(device, memory_format=torch.channels_last)
        out, divergence = there_and_back(crops)
        loss = reconstruction(out, crops) + 2e-6 * divergence
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step(optimisers, plan.autoencoder_rate * flow.rate(step / plan.autoencoder_steps, 0.03))
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
        scene = world.make(self.rng)
        return scene, draw.draw(scene, self.side)

    def crops(self, count):
        # Two new pictures a batch, in place of others.
        for _ in range(2):
            self.kept[self.rng.randrange(len(self.kept))] = self.fresh()
        return torch.stack([self.crop(*self.rng.choice(self.kept)) for _ in range(count)])

    def crop(self, scene, picture):
        """Mostly of a shape's rim, for backgrounds are easy; on the grid of 8×8 blocks, as all of it is."""
        if self.rng.random() < 0.25:
            middle = [self.rng.random(), self.rng.random()]
        else:
            thing = self.rng.choice(scene.things)
            middle = [at + self.rng.uniform(-1, 1) * thing.radius for at in (thing.y, thing.x)]
        y, x = (min(self.side - CROP, max(0, round((at * self.side - CROP / 2) / 8) * 8)) for at in middle)
        return picture[:, y : y + CROP, x : x + CROP]


@torch.no_grad()
def standardise(model, pictures, device):
    """Sets what latents are moved and scaled by, so that they have mean 0 and deviation 1."""
    latents = torch.cat([model.encode(p[None].to(device)).latent_dist.mode() for _, p in pictures.kept[:48]])
    mean, deviation = latents.mean().item(), latents.std().item()
    model.register_to_config(shift_factor=mean, scaling_factor=1 / deviation)
    return model
