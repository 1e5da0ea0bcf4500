"""Trains text encoders and transformer together, by rectified flow (Liu et al., arXiv:2209.03003).

x_σ = (1 − σ)·picture + σ·noise; what is learnt is the velocity, noise − picture.
"""

import copy
import math
import random
import time

import torch
from torch.nn import functional as F

import draw
import parts
import world


class Latents:
    """Captions and packed latents of drawn scenes, one set for each size."""

    def __init__(self, autoencoder, tokenizers, plan, device):
        self.tokenizer, self.tokenizer_2 = tokenizers
        self.device, self.sets, self.ids = device, {}, {}
        rng = random.Random(plan.seed + 1)
        for side, count in plan.pictures.items():
            self.sets[side] = self.encode(autoencoder, rng, side, count)

    @torch.no_grad()
    def encode(self, autoencoder, rng, side, count):
        started, captions, latents = time.time(), [], []
        config = autoencoder.config
        while len(captions) < count:
            scenes = [s for s in (world.make(rng) for _ in range(16)) if not s.held_out]
            pictures = torch.stack([draw.draw(scene, side) for scene in scenes]).to(self.device)
            found = autoencoder.encode(pictures).latent_dist.mode()
            found = (found - config.shift_factor) * config.scaling_factor
            latents.append(pack(found).half())
            captions += [scene.caption for scene in scenes]
        print(f"{len(captions)} pictures of {side}x{side} in {time.time() - started:.0f} s", flush=True)
        clip = self.tokenizer(captions, padding="max_length", max_length=parts.CLIP_TOKENS, truncation=True)
        t5 = self.tokenizer_2(captions, padding="max_length", max_length=parts.T5_TOKENS, truncation=True)
        as_tensor = lambda ids: torch.tensor(ids, dtype=torch.int16, device=self.device)
        return torch.cat(latents), as_tensor(clip.input_ids), as_tensor(t5.input_ids)

    def batch(self, side, count):
        latents, clip, t5 = self.sets[side]
        some = torch.randint(len(latents), (count,), device=self.device)
        return latents[some].float(), clip[some].long(), t5[some].long()


def pack(latents):
    """(b, c, h, w) → (b, h/2·w/2, 4c), a patch's channels as FluxPipeline orders them."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def positions(side, device):
    """Of the picture's tokens: (0, row, column)."""
    n = side // 16
    row, column = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], -1).view(-1, 3).float().to(device)


def velocity(model, noisy, sigma, clip, t5, side):
    clip_encoder, t5_encoder, transformer = model["clip"], model["t5"], model["transformer"]
    states = t5_encoder(t5).last_hidden_state
    return transformer(
        hidden_states=noisy,
        timestep=sigma,
        pooled_projections=clip_encoder(clip).pooler_output,
        encoder_hidden_states=states,
        txt_ids=torch.zeros(t5.shape[1], 3, device=t5.device),
        img_ids=positions(side, t5.device),
        return_dict=False,
    )[0]


def train(model, latents, plan, device):
    """Changes `model` (clip, t5, transformer) in place to the mean of its last steps' weights."""
    torch.manual_seed(plan.seed + 2)
    rng = random.Random(plan.seed + 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
    mean = copy.deepcopy(model).eval().requires_grad_(False)
    model.train()
    started, running = time.time(), None
    for step in range(plan.steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate * rate(step / plan.steps, 200 / plan.steps)
        side = plan.side_at(step / plan.steps, rng)
        packed, clip, t5 = latents.batch(side, max(4, plan.batch * 256 * 256 // (side * side)) if side > 256 else plan.batch)
        # Padding must not matter: mostly as little as there can be, sometimes all of it.
        if rng.random() < 0.85:
            t5 = t5[:, : plan.short_text]
        sigma = noise_levels(len(packed), device)
        noise = torch.randn_like(packed)
        noisy = packed + sigma[:, None, None] * (noise - packed)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found = velocity(model, noisy, sigma, clip, t5, side)
        loss = F.mse_loss(found.float(), noise - packed)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        decay = min(plan.mean_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for slow, fast in zip(mean.parameters(), model.parameters()):
                slow.lerp_(fast, 1 - decay)
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0 or step + 1 == plan.steps:
            print(f"flow {step}: loss {running:.4f}, {time.time() - started:.0f} s", flush=True)
            plan.checkpoint(mean)
    model.load_state_dict(mean.state_dict())
    return model.eval()


def rate(progress, warm):
    """Up in a straight line, down by a cosine."""
    return progress / warm if progress < warm else 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm)))


def noise_levels(count, device):
    """Half of them those that 4 steps meet, the others anywhere."""
    of_four = (torch.randint(4, (count,), device=device) + 1) / 4
    anywhere = torch.rand(count, device=device)
    return torch.where(torch.rand(count, device=device) < 0.5, of_four, anywhere)
