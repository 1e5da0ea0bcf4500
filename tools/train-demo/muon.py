"""Muon (Jordan et al., 2024): momentum, made orthogonal, for the matrices inside a network.

On this world it needs about a third of AdamW's steps. torch.optim.Muon takes matrices alone; this one
takes convolutions too, as matrices of a row an output.
"""

import torch

# Of the quintic Newton-Schulz iteration, from Jordan's article.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Its rate means what AdamW's does: updates have the same size, about (Liu et al., arXiv:2502.16982)."""

    def __init__(self, weights, lr, momentum=0.95, weight_decay=0.1):
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["mean"] = torch.zeros_like(weight)
                mean = state["mean"].lerp_(weight.grad, 1 - group["momentum"])
                # Nesterov's look ahead.
                ahead = weight.grad.lerp(mean, group["momentum"])
                update = orthogonal(ahead.flatten(1)).reshape(ahead.shape)
                rows, columns = ahead.shape[0], ahead[0].numel()
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * 0.2 * max(rows, columns) ** 0.5)


def and_adamw(named, rate, weight_decay, outer=()):
    """Muon for matrices and convolutions, AdamW for vectors and what has one of `outer` in its name."""
    inside, rest = [], []
    for name, weight in named:
        is_outer = weight.ndim < 2 or any(part in name for part in outer)
        (rest if is_outer else inside).append(weight)
    decay = {"weight_decay": weight_decay}
    return Muon(inside, rate, **decay), torch.optim.AdamW(rest, rate, betas=(0.9, 0.98), **decay)


def step(optimisers, rate):
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()


def orthogonal(matrix):
    """About U·Vᵀ of a matrix's singular value decomposition U·S·Vᵀ."""
    a, b, c = COEFFICIENTS
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    x = x.to(matrix.dtype)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
