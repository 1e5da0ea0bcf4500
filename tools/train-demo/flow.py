"""Trains text encoders and transformer together, by rectified flow (Liu et al., arXiv:2209.03003).

x_σ = (1 − σ)·picture + σ·noise; what is learnt is the velocity, noise − picture.
"""

import contextlib
import copy
import math
import random
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import draw
import muon
import parts
import subset
import world

# Parts of the names of weights that meet words, patches or noise levels first or last.
OUTER = ("embed", "shared", "relative_attention_bias", "transformer.proj_out", "norm_out")


class Latents:
    """Captions and packed latents of drawn scenes, one set for each size."""

    def __init__(self, autoencoder, tokenizers, plan, device):
        self.tokenizer, self.tokenizer_2 = tokenizers
        self.device, self.sets = device, {}
        rng = random.Random(plan.seed + 1)
        for side, count in plan.pictures.items():
            self.sets[side] = self.encode(autoencoder, rng, side, count)

    @torch.no_grad()
    def encode(self, autoencoder, rng, side, count):
        started, captions, latents, near = time.time(), [], [], []
        config = autoencoder.config
        while len(captions) < count:
            scenes = [s for s in (world.make(rng) for _ in range(16)) if not s.held_out]
            pictures = torch.stack([draw.draw(scene, side) for scene in scenes]).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16):
                found = autoencoder.encode(pictures).latent_dist.mode().float()
            found = (found - config.shift_factor) * config.scaling_factor
            latents.append(pack(found).half())
            near += [near_things(scene, side) for scene in scenes]
            captions += [scene.caption for scene in scenes]
        print(f"{len(captions)} pictures of {side}x{side} in {time.time() - started:.0f} s", flush=True)
        clip = self.tokenizer(captions, padding="max_length", max_length=parts.CLIP_TOKENS, truncation=True)
        t5 = self.tokenizer_2(captions, padding="max_length", max_length=parts.T5_TOKENS, truncation=True)
        as_tensor = lambda ids: torch.tensor(ids, dtype=torch.int16, device=self.device)
        near = torch.stack(near).to(self.device)
        return torch.cat(latents), as_tensor(clip.input_ids), as_tensor(t5.input_ids), near

    def mixed(self, sides, kept):
        """As `batch`, but `kept` tokens of one picture of each of the sides, and where they stand."""
        found = []
        for side in set(sides):
            packed, clip, t5, near = self.batch(side, sides.count(side))
            chosen = subset.choose(near, side // 16, kept)
            packed, near = subset.pick(packed, chosen), subset.pick(near, chosen)
            found.append((packed, clip, t5, near, subset.places(chosen, side // 16)))
        return tuple(torch.cat(parts) for parts in zip(*found))

    def batch(self, side, count):
        """Latents (b, l, 64), tokens of CLIP and T5, which latents are near shapes (b, l)."""
        latents, clip, t5, near = self.sets[side]
        some = torch.randint(len(latents), (count,), device=self.device)
        return latents[some].float(), clip[some].long(), t5[some].long(), near[some]


def near_things(scene, side):
    """Of the picture's tokens: whether one shows a shape, or what is close to it."""
    n = side // 16
    at = (torch.arange(n) + 0.5) / n
    near = torch.zeros(n, n, dtype=torch.bool)
    for thing in scene.things:
        reach = thing.radius * 1.15 + 0.5 / n
        rows, columns = (at - thing.y - 0.02).abs() < reach, (at - thing.x - 0.01).abs() < reach
        near |= rows[:, None] & columns[None]
    return near.view(-1)


def pack(latents):
    """(b, c, h, w) → (b, h/2·w/2, 4c), a patch's channels as FluxPipeline orders them."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def velocity(model, noisy, sigma, clip, t5, positions):
    """positions: of the picture's tokens, (0, row, column)."""
    clip_encoder, t5_encoder, transformer = model["clip"], model["t5"], model["transformer"]
    states = t5_encoder(t5).last_hidden_state
    return transformer(
        hidden_states=noisy,
        timestep=sigma,
        pooled_projections=clip_encoder(clip).pooler_output,
        encoder_hidden_states=states,
        txt_ids=torch.zeros(t5.shape[1], 3, device=t5.device),
        img_ids=positions,
        return_dict=False,
    )[0]


def train(model, latents, plan, device):
    """Changes `model` (clip, t5, transformer) in place to the mean of its last steps' weights."""
    torch.manual_seed(plan.seed + 2)
    rng = random.Random(plan.seed + 2)
    optimisers = muon.and_adamw(model.named_parameters(), plan.rate, weight_decay=0.1, outer=OUTER)
    mean = copy.deepcopy(model).eval().requires_grad_(False)
    model.train()
    shown = subset.attach(model["transformer"])
    compiled = torch.compile(velocity, dynamic=False)
    started, running = time.time(), {}
    for step in range(plan.steps):
        progress = step / plan.steps
        side = plan.side_at(progress, rng)
        # Padding must not matter: mostly as little as there can be, sometimes all of it.
        short = rng.random() < 0.93
        if side is None:
            count = plan.pictures_of(plan.some_tokens, short)
            packed, clip, t5, near, places = latents.mixed(plan.many_sides(count, rng), plan.some_tokens)
            shown.show(places)
            positions = torch.zeros(plan.some_tokens, 3, device=device)
        else:
            packed, clip, t5, near = latents.batch(side, plan.pictures_of((side // 16) ** 2, short))
            shown.show(None)
            positions = subset.grid(side // 16, device)
        t5 = t5[:, : plan.short_text] if short else t5
        # Each shape is compiled for itself, which only pays for the frequent ones.
        predict = compiled if short and side in (None, *plan.compiled_sides) else velocity
        sigma = noise_levels(len(packed), device)
        noise = torch.randn_like(packed)
        noisy = packed + sigma[:, None, None] * (noise - packed)
        # Products of matrices with their softmax between are faster here than the fused attention
        # that PyTorch has for bf16 on a CPU.
        attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()
        with attention, torch.autocast(device.type, torch.bfloat16):
            found = predict(model, noisy, sigma, clip, t5, positions)
        # Backgrounds are easy.
        weights = torch.where(near, 3.0, 1.0)[..., None]
        loss = (weights * (found.float() - (noise - packed)).square()).mean() / weights.mean()
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step(optimisers, plan.rate * rate(progress, 200 / plan.steps))
        decay = min(plan.mean_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for slow, fast in zip(mean.parameters(), model.parameters()):
                slow.lerp_(fast, 1 - decay)
        name = side or "some"
        running[name] = 0.98 * running.get(name, loss.item()) + 0.02 * loss.item()
        if step % 100 == 0 or step + 1 == plan.steps:
            losses = ", ".join(f"{side}: {value:.4f}" for side, value in running.items())
            print(f"flow {step}: loss {losses}; {time.time() - started:.0f} s", flush=True)
            plan.checkpoint(mean)
    subset.detach(model["transformer"])
    model.load_state_dict(mean.state_dict())
    return model.eval()


def rate(progress, warm):
    """Up in a straight line, down by a cosine."""
    return progress / warm if progress < warm else 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm)))


def noise_levels(count, device):
    """Mostly those that 4 steps meet: pure noise above all, from which all shapes must come."""
    of_four = torch.tensor([1.0, 0.75, 0.5, 0.25], device=device)
    share = torch.tensor([0.45, 0.25, 0.15, 0.15], device=device)
    met = of_four[torch.multinomial(share, count, replacement=True)]
    return torch.where(torch.rand(count, device=device) < 0.87, met, torch.rand(count, device=device))
