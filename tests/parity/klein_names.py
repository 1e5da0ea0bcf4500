"""Every tensor of the true FLUX.2-klein-4B, by name and shape, in diffusers' layout and in BFL's single file.

    python klein_names.py      # rewrites tests/fixtures/klein/names

No weights are needed: diffusers' and transformers' classes are made on torch's `meta` device from the shapes
that public ports of the model agree on. BFL's names are held against diffusers' own conversion.
"""

import pathlib

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from transformers import Qwen3Config, Qwen3ForCausalLM

from bfl import Recipe
from weights import statistics

NAMES = pathlib.Path(__file__).parent.parent / "fixtures" / "klein" / "names"
OUTER = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_guidance_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_guidance_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "double_stream_modulation_img.linear": "double_stream_modulation_img.lin",
    "double_stream_modulation_txt.linear": "double_stream_modulation_txt.lin",
    "single_stream_modulation.linear": "single_stream_modulation.lin",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
DOUBLE = {
    "attn.norm_q": "img_attn.norm.query_norm",
    "attn.norm_k": "img_attn.norm.key_norm",
    "attn.to_out.0": "img_attn.proj",
    "ff.linear_in": "img_mlp.0",
    "ff.linear_out": "img_mlp.2",
    "attn.norm_added_q": "txt_attn.norm.query_norm",
    "attn.norm_added_k": "txt_attn.norm.key_norm",
    "attn.to_add_out": "txt_attn.proj",
    "ff_context.linear_in": "txt_mlp.0",
    "ff_context.linear_out": "txt_mlp.2",
}
SINGLE = {
    "attn.to_qkv_mlp_proj": "linear1",
    "attn.to_out": "linear2",
    "attn.norm_q": "norm.query_norm",
    "attn.norm_k": "norm.key_norm",
}


def main():
    modules = true_modules()
    shapes = {
        f"{part}/{name}": tuple(tensor.shape)
        for part, module in modules.items()
        for name, tensor in (*module.named_parameters(), *statistics(module))
    }
    NAMES.mkdir(parents=True, exist_ok=True)
    write_list(NAMES / "diffusers.txt", shapes)
    write_list(NAMES / "bfl.txt", bfl_shapes(modules["transformer"]))
    for part, module in modules.items():
        values = sum(parameter.numel() for parameter in module.parameters())
        print(part, f"{values:,} values, {2 * values:,} bytes in bf16")


def true_modules():
    text = Qwen3Config(
        vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    )
    with torch.device("meta"):
        return {
            "transformer": Flux2Transformer2DModel(
                num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680,
                guidance_embeds=False,
            ),
            "text_encoder": Qwen3ForCausalLM(text),
            "vae": AutoencoderKLFlux2(),
        }


def bfl_shapes(transformer):
    """The single file's tensors, checked to become diffusers' through diffusers' own conversion."""
    state = transformer.state_dict()
    made = {recipe.name: recipe.make(state) for recipe in bfl_recipes(state)}
    with torch.device("meta"):
        back = convert_flux2_transformer_checkpoint_to_diffusers(dict(made))
    shapes = {name: tuple(tensor.shape) for name, tensor in back.items()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}
    return {f"transformer/{name}": tuple(tensor.shape) for name, tensor in made.items()}


def bfl_recipe_lines(transformer):
    """How a model's tensors make the single file's, as `bfl.recipe_lines` for FLUX.1; checked, value by value, to
    become the model's again through diffusers' own conversion."""
    state = transformer.state_dict()
    recipes = bfl_recipes(state)
    back = convert_flux2_transformer_checkpoint_to_diffusers({recipe.name: recipe.make(state) for recipe in recipes})
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    return sorted(f"flux2/{recipe.name} {recipe.how} {','.join(recipe.sources)}\n" for recipe in recipes)


def bfl_recipes(state):
    """The single file's tensors from those of diffusers' classes, by name."""
    recipes = []
    for name in state:
        stem, kind = name.rsplit(".", 1)
        parts = stem.split(".")
        inner = ".".join(parts[2:])
        if parts[0] == "transformer_blocks":
            block = f"double_blocks.{parts[1]}"
            if inner in ("attn.to_q", "attn.add_q_proj"):
                side = "img" if inner == "attn.to_q" else "txt"
                sources = tuple(name.replace("_q", f"_{other}") for other in "qkv")
                recipes.append(Recipe(f"{block}.{side}_attn.qkv.{kind}", "cat", sources))
            elif inner in DOUBLE:
                kind = "scale" if "norm" in DOUBLE[inner] else kind
                recipes.append(Recipe(f"{block}.{DOUBLE[inner]}.{kind}", "cat", (name,)))
        elif parts[0] == "single_transformer_blocks":
            kind = "scale" if "norm" in SINGLE[inner] else kind
            recipes.append(Recipe(f"single_blocks.{parts[1]}.{SINGLE[inner]}.{kind}", "cat", (name,)))
        else:
            # Scale before shift in diffusers, shift before scale here.
            how = "swap" if stem == "norm_out.linear" else "cat"
            recipes.append(Recipe(f"{OUTER[stem]}.{kind}", how, (name,)))
    return recipes


def write_list(path, shapes):
    path.write_text("".join(f"{name} {','.join(map(str, shape))}\n" for name, shape in sorted(shapes.items())))
    print(path.name, len(shapes))


if __name__ == "__main__":
    main()
