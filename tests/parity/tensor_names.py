"""Every tensor of the true FLUX.1-schnell and FLUX.1-dev, by name and shape, in both layouts.

    python tensor_names.py      # rewrites tests/fixtures/flux/names

No weights are needed: diffusers' and transformers' classes are made on torch's `meta`
device from the published configurations. BFL's names come from `bfl`, which is held
against diffusers' own conversion: names, shapes, and where each number ends up.
"""

import json
import pathlib

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from diffusers.loaders.single_file_utils import (
    convert_flux_transformer_checkpoint_to_diffusers,
    convert_ldm_vae_checkpoint,
)
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

import bfl
from weights import published_name

NAMES = pathlib.Path(__file__).parent.parent / "fixtures" / "flux" / "names"
# What the published files weigh, and one value in them, in bytes: they hold bf16 and f32.
PUBLISHED = {("flux1-schnell", "flux1"): (23_782_506_688, 2), ("flux1-schnell", "ae"): (335_304_388, 4)}


def main():
    lists = {model: (diffusers_list(model), bfl_list(model)) for model in ("flux1-schnell", "flux1-dev")}
    for layout, schnell, dev in zip(("diffusers", "bfl"), *lists.values()):
        write_list(NAMES / "flux1-schnell" / f"{layout}.txt", schnell)
        # Only what dev adds is listed again.
        assert schnell.items() <= dev.items()
        write_list(NAMES / "flux1-dev" / f"{layout}-added.txt", dict(dev.items() - schnell.items()))


def diffusers_list(model):
    return {
        published_name(part, name): tuple(parameter.shape)
        for part, module in true_modules(NAMES / model).items()
        for name, parameter in module.named_parameters()
    }


def bfl_list(model):
    """As `file/name`; the transformer's file is called `flux1` for both models."""
    modules = true_modules(NAMES / model)
    shapes = {}
    for file, part, recipes, convert in (
        ("flux1", "transformer", bfl.transformer_recipes, convert_flux_transformer_checkpoint_to_diffusers),
        ("ae", "vae", bfl.autoencoder_recipes, convert_ldm_vae_checkpoint),
    ):
        made = recipes(modules[part].config)
        check(made, modules[part], convert)
        tensors = modules[part].state_dict()
        found = {recipe.name: tuple(recipe.make(tensors).shape) for recipe in made}
        if (model, file) in PUBLISHED:
            check_size(found, *PUBLISHED[model, file])
        shapes |= {f"{file}/{name}": shape for name, shape in found.items()}
    return shapes


def true_modules(folder):
    """The four models, without storage, from the configurations in names/."""
    parts = ("transformer", "text_encoder", "text_encoder_2", "vae")
    configs = {part: json.loads((folder / part / "config.json").read_text()) for part in parts}
    with torch.device("meta"):
        return {
            "transformer": FluxTransformer2DModel.from_config(configs["transformer"]),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**configs["text_encoder"])),
            "text_encoder_2": T5EncoderModel(T5Config(**configs["text_encoder_2"])),
            "vae": AutoencoderKL.from_config(configs["vae"]),
        }


def check(recipes, module, convert):
    """diffusers' conversion must turn what the recipes make back into what they were given.

    Each stand-in has the true first axis and no other, so that every row is followed at
    little cost; the numbers in them all differ.
    """
    stand_ins, first = {}, 0
    for name, tensor in module.state_dict().items():
        rows = tensor.shape[0]
        values = torch.arange(first, first + rows, dtype=torch.float64)
        stand_ins[name] = values.reshape(rows, *(1,) * (tensor.ndim - 1))
        first += rows
    checkpoint = {recipe.name: recipe.make(stand_ins) for recipe in recipes}
    # diffusers hardcodes the split of linear1 for FLUX's own width.
    back = convert(checkpoint, config=module.config)
    assert back.keys() == stand_ins.keys(), back.keys() ^ stand_ins.keys()
    for name, tensor in stand_ins.items():
        assert torch.equal(back[name], tensor), name
    used = [source for recipe in recipes for source in recipe.sources]
    assert sorted(used) == sorted(stand_ins), "a tensor is used twice or not at all"


def check_size(shapes, size, bytes_each):
    """The tensors must fill the published file but for a header of plausible length."""
    header = size - bytes_each * sum(torch.Size(shape).numel() for shape in shapes.values())
    assert 50 * len(shapes) < header < 250 * len(shapes), header
    print(len(shapes), "tensors and a header of", header, "bytes")


def write_list(path, shapes):
    lines = [f"{name} {','.join(map(str, shape))}\n" for name, shape in sorted(shapes.items())]
    path.write_text("".join(lines))
    print(path.parent.name, path.name, len(lines))


if __name__ == "__main__":
    main()
