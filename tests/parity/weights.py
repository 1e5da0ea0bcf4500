"""Random weights that are a pure function of a tensor's name and shape.

The weights of most golden cases are not committed: whoever checks them makes
the same numbers again, bit for bit, from this rule. It uses wrapping 64-bit
integer arithmetic, IEEE double division, square root and product, and one f32
product and one f32 sum, which round alike everywhere. PROVENANCE.md states the
rule in prose, and weights.json beside it holds sample values.
"""

import math

import numpy as np
import torch

_MASK = (1 << 64) - 1

# Looked up rather than multiplied: a vector's spread is not scaled by its length.
_TABLES = (
    "token_embedding.weight",
    "position_embedding.weight",
    "shared.weight",
    "relative_attention_bias.weight",
)

# What a tensor's spread is multiplied by, after the end of its name; otherwise 1,
# which keeps the variance from input to output. The small ones feed a norm: they
# bring its epsilon, which would otherwise be lost in rounding, into the result.
_GAINS = (
    ("shared.weight", 0.02),
    ("SelfAttention.q.weight", 0.35),  # T5 does not divide its scores by sqrt(d)
    ("relative_attention_bias.weight", 2.0),
    ("token_embedding.weight", 0.05),
    ("position_embedding.weight", 0.05),
    ("/x_embedder.weight", 0.02),
    ("/x_embedder.bias", 0.05),
    ("/context_embedder.weight", 0.02),
    ("/context_embedder.bias", 0.05),
    ("attn.to_q.weight", 0.03),
    ("attn.to_q.bias", 0.03),
    ("attn.to_k.weight", 0.03),
    ("attn.to_k.bias", 0.03),
    ("attn.add_q_proj.weight", 0.03),
    ("attn.add_q_proj.bias", 0.03),
    ("attn.add_k_proj.weight", 0.03),
    ("attn.add_k_proj.bias", 0.03),
    ("decoder.conv_in.weight", 0.02),
    ("decoder.conv_in.bias", 0.02),
    ("decoder.conv_out.weight", 0.75),
)


def fnv1a64(text):
    """FNV-1a, 64 bits, of the text's UTF-8 bytes."""
    state = 0xCBF29CE484222325
    for byte in text.encode("utf-8"):
        state = ((state ^ byte) * 0x100000001B3) & _MASK
    return state


def unit_values(name, count):
    """`count` multiples of 2^-23 in [-1, 1), as f32.

    Element i is splitmix64's output for the state FNV-1a(name) + (i + 1) * gamma:
    its top 24 bits less 2^23 are the numerator.
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = np.array([fnv1a64(name)], dtype=np.uint64) + steps
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    numerator = (z >> np.uint64(40)).astype(np.int64) - (1 << 23)
    return numerator.astype(np.float32) * np.float32(2.0**-23)


def centre_and_spread(name, shape):
    """The middle and the half-width of a tensor's uniform distribution, as f32."""
    gain = next((gain for end, gain in _GAINS if name.endswith(end)), 1.0)
    if len(shape) == 1:
        if name.endswith((".weight", ".running_var")):  # of a norm
            return np.float32(1.0), np.float32(0.25 * gain)
        return np.float32(0.0), np.float32(0.3 * gain)
    if name.endswith(_TABLES):
        return np.float32(0.0), np.float32(gain)
    fan_in = math.prod(shape[1:])
    return np.float32(0.0), np.float32(gain * math.sqrt(3.0 / fan_in))


def values_for(name, shape):
    """The whole tensor, f32, row-major. `name` is `folder/tensor.name`."""
    centre, spread = centre_and_spread(name, shape)
    return (centre + spread * unit_values(name, math.prod(shape))).reshape(shape)


def published_name(folder, name):
    """`folder/name` as the published checkpoints spell it.

    transformers 5 dropped the prefix that every published CLIP file carries; Qwen3's keep theirs.
    """
    if folder == "text_encoder" and not name.startswith(("text_model.", "model.", "lm_head.")):
        name = f"text_model.{name}"
    return f"{folder}/{name}"


def fill(folder, module):
    """Overwrite every parameter of `module`, the model saved in `folder`."""
    with torch.no_grad():
        for name, parameter in (*module.named_parameters(), *statistics(module)):
            values = values_for(published_name(folder, name), tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values))


def statistics(module):
    """The buffers that checkpoints hold and models compute with: means and variances of a batch norm."""
    return [(name, buffer) for name, buffer in module.named_buffers() if ".running_" in name]
