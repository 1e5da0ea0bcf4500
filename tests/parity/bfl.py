"""Black Forest Labs' single-file layout of FLUX, in terms of diffusers' tensors.

A recipe says how one tensor of `flux1-*.safetensors` or `ae.safetensors` is made:

    cat   the sources one after another along the first axis (one source: itself)
    swap  the source with the two halves of its first axis exchanged
    conv  the source, a matrix, as a 1x1 convolution: two axes of length 1 at the end
"""

import dataclasses

import torch


@dataclasses.dataclass
class Recipe:
    name: str
    how: str
    sources: tuple

    def make(self, tensors):
        """The tensor, from diffusers' tensors by name."""
        if self.how == "conv":
            return tensors[self.sources[0]][:, :, None, None]
        if self.how == "swap":
            return torch.cat(tensors[self.sources[0]].chunk(2)[::-1])
        return torch.cat([tensors[source] for source in self.sources])


def recipe_lines(transformer, autoencoder):
    """Both files' recipes as text, `file/name how source,source`; arguments are the models' configs."""
    files = {"flux1": transformer_recipes(transformer), "ae": autoencoder_recipes(autoencoder)}
    return sorted(
        f"{file}/{recipe.name} {recipe.how} {','.join(recipe.sources)}\n"
        for file, recipes in files.items()
        for recipe in recipes
    )


def transformer_recipes(config):
    """Of `flux1-schnell.safetensors` or `flux1-dev.safetensors`, for a FluxTransformer2DModel's config."""
    recipes = [
        *layer("img_in", "x_embedder"),
        *layer("txt_in", "context_embedder"),
        *embedder("time_in", "timestep_embedder"),
        *embedder("vector_in", "text_embedder"),
        *layer("final_layer.linear", "proj_out"),
        # Scale before shift in diffusers, shift before scale here.
        *layer("final_layer.adaLN_modulation.1", "norm_out.linear", how="swap"),
    ]
    if config.guidance_embeds:
        recipes += embedder("guidance_in", "guidance_embedder")
    for n in range(config.num_layers):
        recipes += double_block(f"double_blocks.{n}", f"transformer_blocks.{n}")
    for n in range(config.num_single_layers):
        recipes += single_block(f"single_blocks.{n}", f"single_transformer_blocks.{n}")
    return recipes


def embedder(ours, theirs):
    theirs = f"time_text_embed.{theirs}"
    return [*layer(f"{ours}.in_layer", f"{theirs}.linear_1"), *layer(f"{ours}.out_layer", f"{theirs}.linear_2")]


def double_block(ours, theirs):
    img_qkv = [f"{theirs}.attn.to_{part}" for part in "qkv"]
    txt_qkv = [f"{theirs}.attn.add_{part}_proj" for part in "qkv"]
    streams = (
        ("img", "norm1", img_qkv, "norm_q", "norm_k", "to_out.0", "ff"),
        ("txt", "norm1_context", txt_qkv, "norm_added_q", "norm_added_k", "to_add_out", "ff_context"),
    )
    recipes = []
    for stream, norm, qkv, norm_q, norm_k, out, ff in streams:
        recipes += [
            *layer(f"{ours}.{stream}_mod.lin", f"{theirs}.{norm}.linear"),
            *layer(f"{ours}.{stream}_attn.qkv", *qkv),
            copy(f"{ours}.{stream}_attn.norm.query_norm.scale", f"{theirs}.attn.{norm_q}.weight"),
            copy(f"{ours}.{stream}_attn.norm.key_norm.scale", f"{theirs}.attn.{norm_k}.weight"),
            *layer(f"{ours}.{stream}_attn.proj", f"{theirs}.attn.{out}"),
            *layer(f"{ours}.{stream}_mlp.0", f"{theirs}.{ff}.net.0.proj"),
            *layer(f"{ours}.{stream}_mlp.2", f"{theirs}.{ff}.net.2"),
        ]
    return recipes


def single_block(ours, theirs):
    qkv = [f"{theirs}.attn.to_{part}" for part in "qkv"]
    return [
        *layer(f"{ours}.modulation.lin", f"{theirs}.norm.linear"),
        *layer(f"{ours}.linear1", *qkv, f"{theirs}.proj_mlp"),
        *layer(f"{ours}.linear2", f"{theirs}.proj_out"),
        copy(f"{ours}.norm.query_norm.scale", f"{theirs}.attn.norm_q.weight"),
        copy(f"{ours}.norm.key_norm.scale", f"{theirs}.attn.norm_k.weight"),
    ]


def autoencoder_recipes(config):
    """Of `ae.safetensors`, for an AutoencoderKL's config without quant convolutions."""
    recipes = []
    last = len(config.block_out_channels) - 1
    for half, stage, resample, extra in (("encoder", "down", "downsample", 0), ("decoder", "up", "upsample", 1)):
        recipes += [
            *layer(f"{half}.conv_in", f"{half}.conv_in"),
            *layer(f"{half}.norm_out", f"{half}.conv_norm_out"),
            *layer(f"{half}.conv_out", f"{half}.conv_out"),
            *resnet(f"{half}.mid.block_1", f"{half}.mid_block.resnets.0"),
            *resnet(f"{half}.mid.block_2", f"{half}.mid_block.resnets.1"),
            *attention(f"{half}.mid.attn_1", f"{half}.mid_block.attentions.0"),
        ]
        for level in range(last + 1):
            # BFL counts the decoder's levels from the finest, diffusers from the coarsest.
            theirs = f"{half}.{stage}_blocks.{last - level if stage == 'up' else level}"
            for n in range(config.layers_per_block + extra):
                shortcut = n == 0 and narrows_or_widens(config.block_out_channels, level, stage)
                recipes += resnet(f"{half}.{stage}.{level}.block.{n}", f"{theirs}.resnets.{n}", shortcut)
            if level != (last if stage == "down" else 0):
                recipes += layer(f"{half}.{stage}.{level}.{resample}.conv", f"{theirs}.{resample}rs.0.conv")
    return recipes


def narrows_or_widens(channels, level, stage):
    """Whether a level's first block changes the number of channels."""
    before = max(level - 1, 0) if stage == "down" else min(level + 1, len(channels) - 1)
    return channels[before] != channels[level]


def resnet(ours, theirs, shortcut=False):
    recipes = []
    for part in ("norm1", "conv1", "norm2", "conv2"):
        recipes += layer(f"{ours}.{part}", f"{theirs}.{part}")
    if shortcut:
        recipes += layer(f"{ours}.nin_shortcut", f"{theirs}.conv_shortcut")
    return recipes


def attention(ours, theirs):
    recipes = layer(f"{ours}.norm", f"{theirs}.group_norm")
    for part, source in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        recipes.append(Recipe(f"{ours}.{part}.weight", "conv", (f"{theirs}.{source}.weight",)))
        recipes.append(copy(f"{ours}.{part}.bias", f"{theirs}.{source}.bias"))
    return recipes


def layer(ours, *theirs, how="cat"):
    """A weight and a bias."""
    return [Recipe(f"{ours}.{part}", how, tuple(f"{name}.{part}" for name in theirs)) for part in ("weight", "bias")]


def copy(ours, theirs):
    return Recipe(ours, "cat", (theirs,))
