"""Steps that see some of a picture's tokens: those near shapes, and a few others.

What a token shows follows from the caption and from where the token stands, hardly from the tokens
around it, and backgrounds are soon learnt. So most steps see 104 of a 256×256 picture's 256 tokens, in
about a third of the time a picture. The last steps see whole pictures, as drawing does.
"""

import torch
from diffusers.models.transformers import transformer_flux


class Positions(torch.nn.Module):
    """A transformer's `pos_embed`, where each sample of a batch may show other tokens of its picture."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.show(None, 0)

    def show(self, chosen, picture_tokens):
        """Of each sample, which of its picture's tokens are there: indices (b, kept), or None for all."""
        self.chosen, self.picture_tokens = chosen, picture_tokens

    def forward(self, ids):
        cos, sin = self.inner(ids)
        if self.chosen is None:
            return cos, sin
        text = ids.shape[0] - self.picture_tokens
        return self.shown(cos, text), self.shown(sin, text)

    def shown(self, angles, text):
        batch = self.chosen.shape[0]
        return torch.cat([angles[:text].expand(batch, -1, -1), angles[text:][self.chosen]], 1)


def attach(transformer):
    """Gives a transformer such positions; gives them back, for each step to choose."""
    transformer_flux.apply_rotary_emb = rotate
    transformer.pos_embed = Positions(transformer.pos_embed)
    return transformer.pos_embed


def detach(transformer):
    transformer.pos_embed = transformer.pos_embed.inner


def choose(near, kept):
    """Indices (b, kept) of tokens: those near shapes (b, l) first, the others by chance."""
    return (near.float() + torch.rand_like(near, dtype=torch.float32)).topk(kept, dim=1).indices


def pick(values, chosen):
    """values (b, l, …) of the chosen tokens: (b, kept, …)"""
    return torch.take_along_dim(values, chosen.view(*chosen.shape, *[1] * (values.ndim - 2)), 1)


def rotate(x, angles, use_real=True, use_real_unbind_dim=-1, sequence_dim=1):
    """diffusers' rotation of neighbouring channels of x (b, l, h, d), by angles (l, d) or (b, l, d)."""
    cos, sin = (a[..., :, None, :] for a in angles)
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-imaginary, real], -1).flatten(-2)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)
