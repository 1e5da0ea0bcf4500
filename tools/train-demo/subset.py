"""Steps that see some of a picture's tokens: mostly those near shapes, some of the rim, a few others.

What a token shows follows from the caption, from where the token stands and from how large the
picture is, hardly from the tokens around it, and backgrounds are soon learnt. So most steps see 192
tokens of each picture, whatever its size, and one batch holds pictures of many sizes. The rim tells a
picture's size: nothing that FLUX is told does. The last steps see whole pictures, as drawing does.
"""

import torch
from diffusers.models.transformers import transformer_flux

# Of the largest picture that is learnt from.
MOST_ROWS = 32


class Positions(torch.nn.Module):
    """A transformer's `pos_embed`, where each sample of a batch may show tokens of places of its own."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.places = inner, None

    def show(self, places):
        """Where each sample's tokens stand: row · MOST_ROWS + column (b, kept); None for whole pictures."""
        self.places = places

    def forward(self, ids):
        if self.places is None:
            return self.inner(ids)
        text = ids.shape[0] - self.places.shape[1]
        everywhere = torch.cat([ids[:text], grid(MOST_ROWS, ids.device)])
        return tuple(self.shown(angles, text) for angles in self.inner(everywhere))

    def shown(self, angles, text):
        batch = self.places.shape[0]
        return torch.cat([angles[:text].expand(batch, -1, -1), angles[text:][self.places]], 1)


def grid(rows, device):
    """Of the tokens of pictures of so many rows: (0, row, column)."""
    along = torch.arange(rows, dtype=torch.float32, device=device)
    row, column = along.repeat_interleave(rows), along.repeat(rows)
    return torch.stack([torch.zeros_like(row), row, column], -1)


def attach(transformer):
    """Gives a transformer such positions; gives them back, for each step to choose."""
    transformer_flux.apply_rotary_emb = rotate
    transformer.pos_embed = Positions(transformer.pos_embed)
    return transformer.pos_embed


def detach(transformer):
    transformer.pos_embed = transformer.pos_embed.inner


def choose(near, rows, kept):
    """Which tokens of pictures of so many rows are kept: indices (b, kept). near (b, l)."""
    inside = torch.arange(rows, device=near.device) < rows - 1
    rim = ~(inside[:, None] & inside).view(-1)
    return (0.6 * (near | rim) + torch.rand(near.shape, device=near.device)).topk(kept, dim=1).indices


def places(chosen, rows):
    """Where chosen tokens of pictures of so many rows stand, as `Positions.show` takes it."""
    return chosen // rows * MOST_ROWS + chosen % rows


def pick(values, chosen):
    """values (b, l, …) of the chosen tokens: (b, kept, …)"""
    return torch.take_along_dim(values, chosen.view(*chosen.shape, *[1] * (values.ndim - 2)), 1)


def rotate(x, angles, use_real=True, use_real_unbind_dim=-1, sequence_dim=1):
    """diffusers' rotation of neighbouring channels of x (b, l, h, d), by angles (l, d) or (b, l, d)."""
    cos, sin = (a[..., :, None, :] for a in angles)
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-imaginary, real], -1).flatten(-2)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)
